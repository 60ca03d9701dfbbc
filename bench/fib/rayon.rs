//! fib in rayon (join). Question, method and traps: see fib.h.

use bench::{rayon_pool, Bench};

fn fib_of(n: u32) -> u64 {
    (0..n).fold((0, 1), |(a, b), _| (b, a + b)).0
}

fn fib(n: u32) -> u64 {
    if n < 2 {
        return n as u64;
    }
    let (a, b) = rayon::join(|| fib(n - 1), || fib(n - 2));
    a + b
}

fn main() {
    let mut b = Bench::new("fib", 4_000_000, &["fork"]);
    let mut n = 2;
    while fib_of(n + 2) - 1 <= b.ops {
        n += 1;
    }
    b.ops = fib_of(n + 1) - 1;
    let pool = rayon_pool!(b);
    pool.install(|| {
        while b.round() {
            let done = if fib(n) == fib_of(n) { b.ops } else { 0 };
            b.done(done);
        }
    });
    b.report()
}
