//! spawn_blocking in Tokio. Question, method and traps: see sched.c.

use bench::{in_task, Bench};
use tokio::runtime::Builder;

fn main() {
    let b = Bench::new("spawn_blocking", 20_000, &["burst", "burst4", "roundtrip"]);
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(b.workers);
    if b.is("burst4") {
        builder.max_blocking_threads(4);
    }
    let rt = builder.build().expect("no runtime");
    let mut b = in_task(&rt, async move {
        let mut b = b;
        let batch = if b.is("roundtrip") { 1 } else { 10_000 };
        let mut handles = Vec::with_capacity(batch as usize);
        while b.round() {
            let (mut begun, mut done) = (0, 0);
            while begun < b.ops {
                let n = (b.ops - begun).min(batch);
                for _ in 0..n {
                    handles.push(tokio::task::spawn_blocking(|| bench::black_box(1u32)));
                }
                for handle in handles.drain(..) {
                    done += handle.await.unwrap() as u64;
                }
                begun += n;
            }
            b.done(done);
        }
        b
    });
    b.report()
}
