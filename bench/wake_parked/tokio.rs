//! wake_parked in Tokio. Question, method and traps: see sched.c.

use bench::{percentile, pin_self, Bench};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

static SENT: AtomicU64 = AtomicU64::new(0);
static NUMBER: AtomicU64 = AtomicU64::new(0);
static WAKE: Notify = Notify::const_new();

fn main() {
    let mut b = Bench::new("wake_parked", 2000, &["cross", "free"]);
    b.pin = b.is("cross");
    let rt = b.runtime();
    let epoch = Instant::now();
    if b.pin {
        pin_self(b.workers);
    }
    let samples = b.ops;
    let task = rt.spawn(async move {
        let mut latency = Vec::with_capacity(samples as usize);
        for i in 0..samples {
            WAKE.notified().await;
            let now = epoch.elapsed().as_nanos() as u64;
            latency.push((now - SENT.load(Ordering::SeqCst)) as f64);
            NUMBER.store(i + 1, Ordering::SeqCst);
        }
        latency
    });
    std::thread::sleep(Duration::from_millis(20));
    let mut sending = Vec::with_capacity(samples as usize);
    for i in 0..samples {
        std::thread::sleep(Duration::from_micros(300));
        let begin = epoch.elapsed().as_nanos() as u64;
        SENT.store(begin, Ordering::SeqCst);
        WAKE.notify_one();
        sending.push((epoch.elapsed().as_nanos() as u64 - begin) as f64);
        while NUMBER.load(Ordering::SeqCst) != i + 1 {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    let mut latency = rt.block_on(task).unwrap();
    let send_ns = percentile(&mut sending, 50.0);
    b.report_latency(&mut latency, Some(send_ns))
}
