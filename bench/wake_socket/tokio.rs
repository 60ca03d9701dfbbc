//! wake_socket in Tokio. Question, method and traps: see client.c.

#[path = "../echo/drivers.rs"]
mod drivers;
#[path = "../echo/serve.rs"]
mod serve;

use bench::Bench;
use serve::Reply;

#[derive(Default)]
struct Time {
    unfinished: usize,
    now: [u8; 8],
}

impl Reply for Time {
    fn reply<'a>(&'a mut self, input: &'a [u8]) -> &'a [u8] {
        let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
        self.now = (t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64).to_ne_bytes();
        self.unfinished += input.len();
        if self.unfinished < self.now.len() {
            return &[];
        }
        self.unfinished = 0;
        &self.now
    }
}

fn main() {
    let b = Bench::new("wake_socket", 2000, &["cross", "free"]);
    serve::serve::<Time>(&b)
}
