//! Runtimes with their drivers, for the Rust programs that wait.

use bench::{pin_self, Bench};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::runtime::{Builder, Runtime};

pub fn runtime(b: &Bench, io: bool) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(b.workers).enable_time();
    if io {
        builder.enable_io();
    }
    if b.pin {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        builder.on_thread_start(|| pin_self(NEXT.fetch_add(1, Ordering::Relaxed)));
    }
    builder.build().expect("no runtime")
}
