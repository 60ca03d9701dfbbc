//! timers in Tokio. Question, method and traps: see sched.c.

#[path = "../echo/drivers.rs"]
mod drivers;

use bench::{in_task, percentile, status_kib, Bench};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::{unconstrained, yield_now};
use tokio::time::{sleep, sleep_until, timeout};

const RING: u64 = 10000;

static ARMED: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);
static NOTED: AtomicU64 = AtomicU64::new(0);
static STOPPING: AtomicBool = AtomicBool::new(false);

/// Polls once, and tells whether that was in vain.
struct IsPending<'a, F>(Pin<&'a mut F>);

impl<F: Future> Future for IsPending<'_, F> {
    type Output = bool;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        Poll::Ready(self.0.as_mut().poll(cx).is_pending())
    }
}

/// Unconstrained, for a task that has used up its budget would not arm the timer at all.
async fn cancel(ops: u64) -> u64 {
    let first = tokio::time::Instant::now() + Duration::from_secs(1);
    let mut pairs = 0;
    for i in 0..ops {
        let timer = sleep_until(first + Duration::from_millis(i % 1000));
        tokio::pin!(timer);
        pairs += u64::from(IsPending(timer).await);
    }
    pairs
}

async fn all_wait() {
    while ARMED.load(Ordering::SeqCst) < RING {
        yield_now().await;
    }
}

async fn complete_all(ring: &[Arc<Notify>]) {
    all_wait().await;
    ARMED.store(0, Ordering::SeqCst);
    for notify in ring {
        notify.notify_one();
    }
}

async fn wait_in_ring(notify: Arc<Notify>) {
    loop {
        ARMED.fetch_add(1, Ordering::SeqCst);
        let woken = timeout(Duration::from_secs(10), notify.notified()).await;
        if woken.is_err() || STOPPING.load(Ordering::SeqCst) {
            return;
        }
        DONE.fetch_add(1, Ordering::Relaxed);
    }
}

async fn ring(ops: u64, ring: &[Arc<Notify>]) -> u64 {
    DONE.store(0, Ordering::SeqCst);
    for _ in (0..ops).step_by(RING as usize) {
        complete_all(ring).await;
    }
    all_wait().await;
    DONE.load(Ordering::SeqCst)
}

/// How late each was, in ns.
async fn fire(ops: u64) -> Vec<f64> {
    let late: Arc<Vec<AtomicU64>> = Arc::new((0..ops).map(|_| AtomicU64::new(u64::MAX)).collect());
    let all_ran = Arc::new(Notify::new());
    let begin = Instant::now();
    DONE.store(0, Ordering::SeqCst);
    NOTED.store(0, Ordering::SeqCst);
    for i in 0..ops {
        let (late, all_ran) = (late.clone(), all_ran.clone());
        tokio::spawn(async move {
            let spread = ((i * 2654435761) & 0xffff_ffff) * 1_000_000_000 >> 32;
            let due = begin + Duration::from_nanos(1_000_000_000 + spread);
            sleep_until(due.into()).await;
            if let Some(by) = Instant::now().checked_duration_since(due) {
                let next = NOTED.fetch_add(1, Ordering::SeqCst) as usize;
                late[next].store(by.as_nanos() as u64, Ordering::Relaxed);
            }
            if DONE.fetch_add(1, Ordering::SeqCst) + 1 == ops {
                all_ran.notify_one();
            }
        });
    }
    all_ran.notified().await;
    let ns = late.iter().map(|ns| ns.load(Ordering::Relaxed)).filter(|&ns| ns != u64::MAX);
    ns.map(|ns| ns as f64).collect()
}

async fn lateness(ops: u64) -> Vec<f64> {
    let mut late = Vec::new();
    let mut random = 1u32;
    for _ in 0..ops {
        random = random.wrapping_mul(1664525).wrapping_add(1013904223);
        let due = Instant::now() + Duration::from_nanos(200000 + u64::from(random) % 9800000);
        sleep_until(due.into()).await;
        if let Some(by) = Instant::now().checked_duration_since(due) {
            late.push(by.as_nanos() as f64);
        }
    }
    late
}

fn memory(b: Bench) -> ! {
    let rt = drivers::runtime(&b, false);
    let (rss, table) = match (status_kib("VmRSS:"), status_kib("VmPTE:")) {
        (Some(rss), Some(table)) => (rss, table),
        _ => std::process::exit(77),
    };
    for _ in 0..b.ops {
        rt.spawn(async {
            ARMED.fetch_add(1, Ordering::SeqCst);
            sleep(Duration::from_secs(3600)).await;
        });
    }
    while ARMED.load(Ordering::SeqCst) < b.ops {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(20));
    let rss = status_kib("VmRSS:").unwrap() - rss;
    let table = status_kib("VmPTE:").unwrap() - table;
    let each = 1024.0 / b.ops as f64;
    b.report_bytes(rss as f64 * each, table as f64 * each)
}

async fn run(mut b: Bench) -> (Bench, Vec<f64>) {
    let mut notifies = Vec::new();
    let mut late = Vec::new();
    if b.is("ring") {
        b.ops -= b.ops % RING;
        for _ in 0..RING {
            let notify = Arc::new(Notify::new());
            notifies.push(notify.clone());
            tokio::spawn(wait_in_ring(notify));
        }
        all_wait().await;
    }
    while b.round() {
        let done = if b.is("cancel") {
            unconstrained(cancel(b.ops)).await
        } else if b.is("ring") {
            ring(b.ops, &notifies).await
        } else {
            late = fire(b.ops).await;
            late.len() as u64
        };
        b.done(done);
    }
    if b.is("ring") {
        STOPPING.store(true, Ordering::SeqCst);
        complete_all(&notifies).await;
    }
    (b, late)
}

fn main() {
    let mut b = Bench::new("timers", 1000000, &["cancel", "ring", "fire", "lateness", "memory"]);
    if b.is("memory") {
        memory(b)
    }
    let rt = drivers::runtime(&b, false);
    if b.is("lateness") {
        b.ops = b.ops.min(200);
        let mut late = in_task(&rt, lateness(b.ops));
        b.bad += b.ops - late.len() as u64;
        b.report_latency(&mut late, None)
    }
    let (mut b, mut late) = in_task(&rt, run(b));
    if !late.is_empty() {
        let mean = late.iter().sum::<f64>() / late.len() as f64;
        print!("late_mean={:.0} p99={:.0} ", mean, percentile(&mut late, 99.0));
    }
    b.report()
}
