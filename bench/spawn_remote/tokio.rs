//! spawn_remote in Tokio (its own spawn_many_remote_idle and _busy1). Question, method and traps:
//! see sched.c.

use bench::Bench;
use std::sync::atomic::{AtomicBool, Ordering};

static STOP: AtomicBool = AtomicBool::new(false);

async fn busy() {
    while !STOP.load(Ordering::Relaxed) {
        let mut x: u64 = 88172645463325252;
        for _ in 0..600 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
        }
        bench::black_box(x);
        tokio::task::yield_now().await;
    }
}

fn main() {
    let mut b = Bench::new("spawn_remote", 100_000, &["idle", "busy"]);
    let rt = b.runtime();
    if b.is("busy") {
        for _ in 0..2 * b.workers {
            rt.spawn(busy());
        }
    }
    let mut handles = Vec::with_capacity(10_000);
    while b.round() {
        let (mut begun, mut done) = (0, 0);
        while begun < b.ops {
            let n = (b.ops - begun).min(10_000);
            for _ in 0..n {
                handles.push(rt.spawn(async { bench::black_box(1u32) }));
            }
            done += rt.block_on(async {
                let mut done = 0;
                for handle in handles.drain(..) {
                    done += handle.await.unwrap() as u64;
                }
                done
            });
            begun += n;
        }
        b.done(done);
    }
    STOP.store(true, Ordering::Relaxed);
    drop(rt);
    b.report()
}
