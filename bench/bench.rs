//! What every Rust contender shares; the same arguments, rounds and result line as bench.h.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::runtime::{Builder, Runtime};

const SKIP: i32 = 77;

pub struct Bench {
    pub name: &'static str,
    pub contender: String,
    pub variant: String,
    pub workers: usize,
    pub ops: u64,
    pub pin: bool,
    rounds: usize,
    warmup: usize,
    round: usize,
    wall_begin: Instant,
    cpu_begin: u64,
    pub bad: u64,
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

pub fn cpu_now() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// A line of /proc/self/status in KiB, for instance "VmRSS:".
pub fn status_kib(key: &str) -> Option<i64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    line[key.len()..].trim().split(' ').next()?.parse().ok()
}

/// Keep the calling thread on one CPU, counted among those that the process may use.
pub fn pin_self(index: usize) {
    unsafe {
        let mut all: libc::cpu_set_t = std::mem::zeroed();
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        let size = std::mem::size_of::<libc::cpu_set_t>();
        if libc::sched_getaffinity(0, size, &mut all) != 0 {
            return;
        }
        let cpus: Vec<usize> =
            (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &all)).collect();
        libc::CPU_SET(cpus[index % cpus.len()], &mut one);
        libc::sched_setaffinity(0, size, &one);
    }
}

pub fn percentile(v: &mut [f64], p: f64) -> f64 {
    v.sort_by(|a, b| a.total_cmp(b));
    if v.is_empty() {
        return 0.0;
    }
    if p == 50.0 && v.len() % 2 == 0 {
        return (v[v.len() / 2 - 1] + v[v.len() / 2]) / 2.0;
    }
    v[(p / 100.0 * (v.len() - 1) as f64 + 0.5) as usize]
}

impl Bench {
    /// `variants`: the first is the default.
    pub fn new(name: &'static str, ops: u64, variants: &[&str]) -> Bench {
        let mut b = Bench {
            name,
            contender: "tokio".to_string(),
            variant: variants[0].to_string(),
            workers: 1,
            ops,
            pin: false,
            rounds: 5,
            warmup: 1,
            round: 0,
            wall_begin: Instant::now(),
            cpu_begin: 0,
            bad: 0,
            wall: Vec::new(),
            cpu: Vec::new(),
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            if arg == "--pin" {
                b.pin = true;
                continue;
            }
            let value = args.next().expect("an argument lacks its value");
            match arg.as_str() {
                "--workers" => b.workers = value.parse().expect("--workers wants a number"),
                "--ops" => b.ops = value.parse().expect("--ops wants a number"),
                "--rounds" => b.rounds = value.parse().expect("--rounds wants a number"),
                "--warmup" => b.warmup = value.parse().expect("--warmup wants a number"),
                "--variant" => b.variant = value,
                "--contender" => b.contender = value,
                _ => panic!("unknown argument {arg}"),
            }
        }
        assert!(b.ops > 0 && b.workers > 0 && b.rounds > 0);
        if !variants.contains(&b.variant.as_str()) {
            std::process::exit(SKIP);
        }
        b
    }

    pub fn is(&self, variant: &str) -> bool {
        self.variant == variant
    }

    /// Without the I/O and time drivers, which nothing here needs: a worker parks more cheaply so.
    pub fn runtime(&self) -> Runtime {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(self.workers);
        if self.pin {
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            builder.on_thread_start(|| pin_self(NEXT.fetch_add(1, Ordering::Relaxed)));
        }
        builder.build().expect("no runtime")
    }

    pub fn round(&mut self) -> bool {
        if self.round == self.warmup + self.rounds {
            return false;
        }
        self.round += 1;
        self.cpu_begin = cpu_now();
        self.wall_begin = Instant::now();
        true
    }

    pub fn done(&mut self, done: u64) {
        let wall = self.wall_begin.elapsed().as_nanos() as f64;
        let cpu = (cpu_now() - self.cpu_begin) as f64;
        self.bad += done.abs_diff(self.ops);
        if self.round > self.warmup {
            self.wall.push(wall / self.ops as f64);
            self.cpu.push(cpu / self.ops as f64);
        }
    }

    fn head(&self) -> String {
        format!(
            "case={} variant={} contender={} workers={} ops={}",
            self.name, self.variant, self.contender, self.workers, self.ops
        )
    }

    fn finish(&self) -> ! {
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
        let check = if self.bad == 0 { "ok" } else { "BAD" };
        println!(" rss_kib={} check={}", usage.ru_maxrss, check);
        std::process::exit(if self.bad == 0 { 0 } else { 1 })
    }

    pub fn report(&mut self) -> ! {
        let n = self.wall.len();
        let cpus: f64 = self.cpu.iter().zip(&self.wall).map(|(c, w)| c / w).sum::<f64>() / n as f64;
        let wall = percentile(&mut self.wall, 50.0);
        let cpu = percentile(&mut self.cpu, 50.0);
        print!(
            "{} rounds={} ns_per_op={:.2} min={:.2} max={:.2} cpu_ns_per_op={:.2} cpus={:.2}",
            self.head(), n, wall, self.wall[0], self.wall[n - 1], cpu, cpus
        );
        self.finish()
    }

    /// For latencies: one value an operation instead of a mean over a round.
    pub fn report_latency(&mut self, ns: &mut [f64], send_ns: Option<f64>) -> ! {
        let (p50, p90, p99) = (percentile(ns, 50.0), percentile(ns, 90.0), percentile(ns, 99.0));
        print!(
            "{} rounds=1 ns_per_op={:.0} min={:.0} max={:.0} p90={:.0} p99={:.0}",
            self.head(), p50, ns[0], ns[ns.len() - 1], p90, p99
        );
        if let Some(ns) = send_ns {
            print!(" send_ns={ns:.1}");
        }
        self.finish()
    }

    /// For memory: bytes instead of nanoseconds.
    pub fn report_bytes(&self, bytes: f64, table_bytes: f64) -> ! {
        print!(
            "{} rounds=1 bytes_per_op={:.1} table_bytes_per_op={:.1}",
            self.head(), bytes, table_bytes
        );
        self.finish()
    }
}

/// std::hint::black_box is not in the Rust of Debian 12.
#[inline(always)]
pub fn black_box<T>(value: T) -> T {
    unsafe {
        let same = std::ptr::read_volatile(&value);
        std::mem::forget(value);
        same
    }
}

/// rayon's pool for a Bench: a macro, so that Tokio's programs are built without rayon.
#[macro_export]
macro_rules! rayon_pool {
    ($b:expr) => {
        rayon::ThreadPoolBuilder::new().num_threads($b.workers).build().expect("no pool")
    };
}

/// Run the whole benchmark inside one task, so that it spawns on a busy worker.
pub fn in_task<F>(rt: &Runtime, future: F) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    rt.block_on(rt.spawn(future)).expect("the root task was lost")
}

/// A wait for a wake, and nothing else: pending once, ready when polled again.
#[derive(Default)]
pub struct WaitOnce {
    waited: bool,
}

impl Future for WaitOnce {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.waited {
            return Poll::Ready(());
        }
        self.waited = true;
        Poll::Pending
    }
}
