//! chained_spawn in rayon. Question, method and traps: see sched.c.

use bench::{rayon_pool, Bench};
use rayon::Scope;
use std::sync::atomic::{AtomicU64, Ordering};

static RAN: AtomicU64 = AtomicU64::new(0);

fn link(scope: &Scope<'_>, left: u64) {
    RAN.store(RAN.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    if left > 1 {
        scope.spawn(move |scope| link(scope, left - 1));
    }
}

fn main() {
    let mut b = Bench::new("chained_spawn", 1_000_000, &["chain"]);
    let pool = rayon_pool!(b);
    pool.install(|| {
        while b.round() {
            RAN.store(0, Ordering::Relaxed);
            let mut begun = 0;
            while begun < b.ops {
                let n = (b.ops - begun).min(1000);
                rayon::scope(|scope| scope.spawn(move |scope| link(scope, n)));
                begun += n;
            }
            b.done(RAN.load(Ordering::Relaxed));
        }
    });
    b.report()
}
