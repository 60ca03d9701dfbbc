//! ping_pong in Tokio. Question, method and traps: see sched.c.
//!
//! `pair` is Tokio's own benchmark with two oneshot channels; `roundtrip` uses two `Notify`, the
//! closest to a bare wake. Its tasks have no stack: the same program stands for the variants with
//! poll tasks and for those without.

use bench::{in_task, Bench};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use tokio::sync::{oneshot, Notify};

static LEFT: AtomicUsize = AtomicUsize::new(0);
static ALL_RAN: Notify = Notify::const_new();

async fn pair(ops: u64) -> u64 {
    let (mut begun, mut done) = (0, 0);
    while begun < ops {
        let n = (ops - begun).min(1000);
        LEFT.store(n as usize, Ordering::Relaxed);
        for _ in 0..n {
            tokio::spawn(async {
                let (tx1, rx1) = oneshot::channel::<()>();
                let (tx2, rx2) = oneshot::channel::<()>();
                tokio::spawn(async {
                    rx1.await.unwrap();
                    tx2.send(()).unwrap();
                });
                tx1.send(()).unwrap();
                rx2.await.unwrap();
                if LEFT.fetch_sub(1, Ordering::AcqRel) == 1 {
                    ALL_RAN.notify_one();
                }
            });
        }
        ALL_RAN.notified().await;
        done += n - LEFT.load(Ordering::Acquire) as u64;
        begun += n;
    }
    done
}

#[derive(Default)]
struct Pair {
    ping: Notify,
    pong: Notify,
    turn: AtomicBool,
}

async fn roundtrip(ops: u64) -> u64 {
    let mut asking = Vec::with_capacity(100);
    for i in 0..100 {
        let want = ops / 100 + (i < ops % 100) as u64;
        let pair = Arc::new(Pair::default());
        let other = pair.clone();
        tokio::spawn(async move {
            for _ in 0..want {
                other.ping.notified().await;
                assert!(other.turn.load(Ordering::Acquire), "out of turn");
                other.turn.store(false, Ordering::Release);
                other.pong.notify_one();
            }
        });
        asking.push(tokio::spawn(async move {
            let mut done = 0u64;
            for _ in 0..want {
                pair.turn.store(true, Ordering::Release);
                pair.ping.notify_one();
                pair.pong.notified().await;
                done += !pair.turn.load(Ordering::Acquire) as u64;
            }
            done
        }));
    }
    let mut done = 0;
    for handle in asking {
        done += handle.await.unwrap();
    }
    done
}

fn main() {
    let variants = ["pair", "roundtrip", "pair_poll", "roundtrip_poll"];
    let b = Bench::new("ping_pong", 100_000, &variants);
    let rt = b.runtime();
    let mut b = in_task(&rt, async move {
        let mut b = b;
        let is_pair = b.variant.starts_with("pair");
        while b.round() {
            let done = if is_pair { pair(b.ops).await } else { roundtrip(b.ops).await };
            b.done(done);
        }
        b
    });
    b.report()
}
