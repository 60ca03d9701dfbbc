//! idle in Tokio. Question and method: see sched.c.

#[path = "../echo/drivers.rs"]
mod drivers;

use bench::Bench;
use std::time::Duration;
use tokio::sync::Notify;

static WAKE: Notify = Notify::const_new();

fn switches() -> i64 {
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    usage.ru_nvcsw
}

fn main() {
    let mut b = Bench::new("idle", 1, &["second"]);
    b.ops = 1;
    let rt = drivers::runtime(&b, true);
    let task = rt.spawn(async {
        WAKE.notified().await;
        1
    });
    std::thread::sleep(Duration::from_millis(200));
    let mut wakes = 0;
    while b.round() {
        let before = switches();
        std::thread::sleep(Duration::from_secs(1));
        wakes = switches() - before - 1;
        b.done(1);
    }
    WAKE.notify_one();
    b.bad += u64::from(rt.block_on(task).unwrap() != 1);
    print!("wakes_per_op={wakes} ");
    b.report()
}
