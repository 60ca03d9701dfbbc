//! channel: what does a message between two tasks cost, over a bounded channel (mpsc)?
//!
//! Method   roundtrip  one pair of tasks: a request over one channel of one place, the answer over
//!                     another. An operation is both.
//!          stream     one sender, one receiver, 128 places. An operation is a message.
//! Checked  Every message is a number, every answer the next one; the receiver sums them up.
//! Misleads With two workers a pair may sit on one or on both, see `cpus`.

use bench::{in_task, Bench};
use tokio::sync::mpsc;

async fn roundtrip(ops: u64) -> u64 {
    let (ask, mut asked) = mpsc::channel::<u64>(1);
    let (answer, mut answered) = mpsc::channel::<u64>(1);
    let partner = tokio::spawn(async move {
        while let Some(n) = asked.recv().await {
            answer.send(n + 1).await.unwrap();
        }
    });
    let mut done = 0;
    for i in 0..ops {
        ask.send(i).await.unwrap();
        done += u64::from(answered.recv().await == Some(i + 1));
    }
    drop(ask);
    partner.await.unwrap();
    done
}

async fn stream(ops: u64) -> u64 {
    let (to, mut from) = mpsc::channel::<u64>(128);
    let receiver = tokio::spawn(async move {
        let mut done = 0;
        while let Some(n) = from.recv().await {
            done += u64::from(n == done);
        }
        done
    });
    for i in 0..ops {
        to.send(i).await.unwrap();
    }
    drop(to);
    receiver.await.unwrap()
}

fn main() {
    let b = Bench::new("channel", 1_000_000, &["roundtrip", "stream"]);
    let rt = b.runtime();
    let mut b = in_task(&rt, async move {
        let mut b = b;
        while b.round() {
            let done =
                if b.is("roundtrip") { roundtrip(b.ops).await } else { stream(b.ops).await };
            b.done(done);
        }
        b
    });
    b.report()
}
