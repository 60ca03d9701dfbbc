//! spawn_local in Tokio. Question, method and traps: see sched.c.
//!
//! Detached as in Tokio's own spawn_many_local, but without a reference-counted argument for each
//! task: the counter and the notification are statics, which is cheaper for Tokio.

use bench::{in_task, Bench};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

static LEFT: AtomicUsize = AtomicUsize::new(0);
static ALL_RAN: Notify = Notify::const_new();

async fn detached(ops: u64, batch: u64) -> u64 {
    let (mut begun, mut done) = (0, 0);
    while begun < ops {
        let n = batch.min(ops - begun);
        LEFT.store(n as usize, Ordering::Relaxed);
        for _ in 0..n {
            tokio::spawn(async {
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

async fn joined(ops: u64, batch: u64) -> u64 {
    let mut handles = Vec::with_capacity(batch as usize);
    let (mut begun, mut done) = (0, 0);
    while begun < ops {
        let n = batch.min(ops - begun);
        for _ in 0..n {
            handles.push(tokio::spawn(async { bench::black_box(1u32) }));
        }
        for handle in handles.drain(..) {
            done += handle.await.unwrap() as u64;
        }
        begun += n;
    }
    done
}

fn main() {
    let b = Bench::new(
        "spawn_local",
        1_000_000,
        &["detached", "detached_10k", "joined", "joined_10k"],
    );
    let rt = b.runtime();
    let batch = if b.variant.contains("10k") { 10_000 } else { 200 };
    let mut b = in_task(&rt, async move {
        let mut b = b;
        let is_joined = b.variant.starts_with("joined");
        while b.round() {
            let done =
                if is_joined { joined(b.ops, batch).await } else { detached(b.ops, batch).await };
            b.done(done);
        }
        b
    });
    b.report()
}
