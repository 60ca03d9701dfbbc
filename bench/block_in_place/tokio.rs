//! block_in_place in Tokio. Question, method and traps: see sched.c.

use bench::{in_task, Bench};

fn main() {
    let mut b = Bench::new("block_in_place", 1_000_000, &["alone", "yield"]);
    if b.is("yield") {
        b.ops = b.ops.min(20_000);
    }
    let rt = b.runtime();
    let mut b = in_task(&rt, async move {
        let is_yield = b.is("yield");
        while b.round() {
            let mut done = 0u64;
            for _ in 0..b.ops {
                tokio::task::block_in_place(|| done = bench::black_box(done + 1));
                if is_yield {
                    tokio::task::yield_now().await;
                }
            }
            b.done(done);
        }
        b
    });
    b.report()
}
