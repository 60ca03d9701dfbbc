//! spawn_local in rayon. Question, method and traps: see sched.c. A scope waits for all of its tasks
//! at once; the common count is there to check them, as in the others.

use bench::{rayon_pool, Bench};
use std::sync::atomic::{AtomicUsize, Ordering};

static LEFT: AtomicUsize = AtomicUsize::new(0);

fn main() {
    let mut b = Bench::new("spawn_local", 1_000_000, &["detached", "detached_10k"]);
    let batch = if b.is("detached") { 200 } else { 10_000 };
    let pool = rayon_pool!(b);
    pool.install(|| {
        while b.round() {
            let (mut begun, mut done) = (0, 0);
            while begun < b.ops {
                let n = (b.ops - begun).min(batch);
                LEFT.store(n as usize, Ordering::Relaxed);
                rayon::scope(|scope| {
                    for _ in 0..n {
                        scope.spawn(|_| {
                            LEFT.fetch_sub(1, Ordering::AcqRel);
                        });
                    }
                });
                done += n - LEFT.load(Ordering::Acquire) as u64;
                begun += n;
            }
            b.done(done);
        }
    });
    b.report()
}
