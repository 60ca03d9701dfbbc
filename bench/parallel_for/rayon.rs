//! parallel_for in rayon. Question, method and traps: see loop.h.

use bench::{percentile, rayon_pool, Bench};
use rayon::prelude::*;
use std::time::{Duration, Instant};

const TINY: usize = 1000;

fn mix(x: u64) -> u64 {
    let product = x as u128 * 0x9e3779b97f4a7c15u128;
    product as u64 ^ (product >> 64) as u64
}

fn element(i: usize, seed: u64) -> u32 {
    mix(mix(mix(mix(mix(mix((i as u64).wrapping_add(seed))))))) as u32
}

fn run(out: &mut [u32], seed: u64) {
    out.par_iter_mut().enumerate().for_each(|(i, x)| *x = element(i, seed));
}

fn wrong(out: &[u32], seed: u64) -> u64 {
    out.iter().enumerate().filter(|&(i, &x)| x != element(i, seed)).count() as u64
}

fn one_right(out: &[u32], seed: u64) -> bool {
    out[seed as usize % TINY] == element(seed as usize % TINY, seed)
}

fn large(b: &mut Bench) {
    let mut out = vec![0u32; b.ops as usize];
    let mut seed = 0;
    while b.round() {
        seed += 1;
        run(&mut out, seed);
        b.done(b.ops);
        b.bad += wrong(&out, seed);
    }
}

fn tiny(b: &mut Bench) {
    let mut out = vec![0u32; TINY];
    let mut seed = 1;
    while b.round() {
        let mut done = 0;
        for _ in 0..b.ops {
            seed += 1;
            run(&mut out, seed);
            done += u64::from(one_right(&out, seed));
        }
        b.done(done);
        b.bad += wrong(&out, seed);
    }
}

fn rested(b: &mut Bench) -> Vec<f64> {
    let mut out = vec![0u32; TINY];
    let mut seed = 1;
    let mut latency = Vec::new();
    for _ in 0..b.ops {
        std::thread::sleep(Duration::from_millis(1));
        let begin = Instant::now();
        seed += 1;
        run(&mut out, seed);
        latency.push(begin.elapsed().as_nanos() as f64);
        b.bad += u64::from(!one_right(&out, seed));
    }
    b.bad += wrong(&out, seed);
    percentile(&mut latency, 50.0);
    latency
}

fn main() {
    let mut b = Bench::new("parallel_for", 10_000_000, &["large", "tiny", "rested"]);
    let pool = rayon_pool!(b);
    let mut latency = pool.install(|| {
        if b.is("rested") {
            return rested(&mut b);
        }
        if b.is("large") {
            large(&mut b)
        } else {
            tiny(&mut b)
        }
        Vec::new()
    });
    if b.is("rested") {
        b.report_latency(&mut latency, None)
    }
    b.report()
}
