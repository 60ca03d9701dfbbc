//! chained_spawn in Tokio. Question, method and traps: see sched.c.

use bench::{in_task, Bench};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

static RAN: AtomicU64 = AtomicU64::new(0);
static ALL_RAN: Notify = Notify::const_new();

/// Not an async fn: its future would hold itself.
fn link(left: u64) {
    tokio::spawn(async move {
        RAN.store(RAN.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        if left == 1 {
            ALL_RAN.notify_one();
        } else {
            link(left - 1);
        }
    });
}

fn main() {
    let b = Bench::new("chained_spawn", 1_000_000, &["chain"]);
    let rt = b.runtime();
    let mut b = in_task(&rt, async move {
        let mut b = b;
        while b.round() {
            RAN.store(0, Ordering::Relaxed);
            let mut begun = 0;
            while begun < b.ops {
                let n = (b.ops - begun).min(1000);
                link(n);
                ALL_RAN.notified().await;
                begun += n;
            }
            b.done(RAN.load(Ordering::Relaxed));
        }
        b
    });
    b.report()
}
