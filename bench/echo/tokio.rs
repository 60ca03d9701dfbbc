//! echo in Tokio. Question, method and traps: see client.c.

mod drivers;
mod serve;

use bench::{in_task, Bench};
use serve::Reply;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PAIRS: usize = 64;
const SELF_SIZE: usize = 64;

#[derive(Default)]
struct Echo;

impl Reply for Echo {
    fn reply<'a>(&'a mut self, input: &'a [u8]) -> &'a [u8] {
        input
    }
}

async fn ask(mut socket: TcpStream, ops: u64) -> (TcpStream, u64) {
    let mut message = [b'a'; SELF_SIZE];
    let mut back = [0u8; SELF_SIZE];
    let mut done = 0;
    for i in 0..ops {
        message[..8].copy_from_slice(&i.to_ne_bytes());
        socket.write_all(&message).await.expect("no write");
        socket.read_exact(&mut back).await.expect("no read");
        assert!(message == back, "other bytes came back");
        done += 1;
    }
    (socket, done)
}

async fn both_sides(mut b: Bench) -> Bench {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("no listening socket");
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve::accept_all::<Echo>(listener));
    let mut sockets = Vec::new();
    for _ in 0..PAIRS {
        sockets.push(TcpStream::connect(address).await.expect("no connection"));
    }
    while b.round() {
        let (each, more) = (b.ops / PAIRS as u64, b.ops % PAIRS as u64);
        let mut tasks = Vec::new();
        for (i, socket) in sockets.drain(..).enumerate() {
            tasks.push(tokio::spawn(ask(socket, each + u64::from((i as u64) < more))));
        }
        let mut done = 0;
        for task in tasks {
            let (socket, n) = task.await.expect("a client was lost");
            sockets.push(socket);
            done += n;
        }
        b.done(done);
    }
    b
}

fn main() {
    let b = Bench::new("echo", 50000, &["c64", "c1", "c1000", "big", "self"]);
    if !b.is("self") {
        serve::serve::<Echo>(&b)
    }
    let rt = drivers::runtime(&b, true);
    in_task(&rt, both_sides(b)).report()
}
