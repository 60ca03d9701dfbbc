//! http in Tokio. Question, method and traps: see client.c.

#[path = "../echo/drivers.rs"]
mod drivers;
#[path = "../echo/serve.rs"]
mod serve;

use bench::Bench;
use serve::Reply;
use std::sync::Once;

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, World!\n";

fn answers() -> &'static [u8] {
    static INIT: Once = Once::new();
    static mut ANSWERS: Vec<u8> = Vec::new();
    unsafe {
        INIT.call_once(|| ANSWERS = ANSWER.repeat(16384 / 4));
        &*std::ptr::addr_of!(ANSWERS)
    }
}

/// How much of an empty line was seen.
#[derive(Default)]
struct Http {
    seen: u8,
}

impl Reply for Http {
    fn reply<'a>(&'a mut self, input: &'a [u8]) -> &'a [u8] {
        let mut requests = 0;
        for &byte in input {
            if byte == if self.seen % 2 == 0 { b'\r' } else { b'\n' } {
                self.seen += 1;
            } else {
                self.seen = u8::from(byte == b'\r');
            }
            if self.seen == 4 {
                self.seen = 0;
                requests += 1;
            }
        }
        &answers()[..requests * ANSWER.len()]
    }
}

fn main() {
    let b = Bench::new("http", 1, &["c64", "c256"]);
    serve::serve::<Http>(&b)
}
