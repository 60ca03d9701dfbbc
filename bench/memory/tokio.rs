//! memory in Tokio, whose tasks have no stack: `stackful` is not among its variants. Question,
//! method and traps: see sched.c. The wakers are kept in an array that is there before.

use bench::{status_kib, Bench, WaitOnce};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::task::JoinHandle;

static WAITING: AtomicU64 = AtomicU64::new(0);
static WAKERS: AtomicPtr<Option<Waker>> = AtomicPtr::new(std::ptr::null_mut());

/// Waits once; leaves its waker in the cell of its number, which is nobody else's.
struct Sleeper<const N: usize> {
    number: u32,
    wait: WaitOnce,
    pad: [u64; N],
}

impl<const N: usize> Future for Sleeper<N> {
    type Output = u64;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u64> {
        if Pin::new(&mut self.wait).poll(cx).is_ready() {
            return Poll::Ready(1 + self.pad.iter().sum::<u64>());
        }
        let cell = WAKERS.load(Ordering::Acquire).wrapping_add(self.number as usize);
        unsafe { *cell = Some(cx.waker().clone()) };
        WAITING.fetch_add(1, Ordering::SeqCst);
        Poll::Pending
    }
}

/// Volatile, or the compiler asks for zeroed memory instead, whose pages are not there yet.
fn touch<T>(cells: &mut [Option<T>]) {
    for cell in cells {
        unsafe { std::ptr::write_volatile(cell, None) };
    }
}

fn main() {
    let mut b = Bench::new("memory", 1_000_000, &["poll", "poll32"]);
    if status_kib("VmRSS:").is_none() {
        std::process::exit(77);
    }
    let n = b.ops as usize;
    let rt = b.runtime();
    let mut wakers: Vec<Option<Waker>> = vec![None; n];
    WAKERS.store(wakers.as_mut_ptr(), Ordering::Release);
    let mut handles: Vec<Option<JoinHandle<u64>>> = Vec::with_capacity(n);
    handles.resize_with(n, || None);
    touch(&mut wakers);
    touch(&mut handles);

    let rss = status_kib("VmRSS:").unwrap();
    let table = status_kib("VmPTE:").unwrap();
    let large = b.is("poll32");
    for (i, handle) in handles.iter_mut().enumerate() {
        let (number, wait) = (i as u32, WaitOnce::default());
        *handle = Some(if large {
            rt.spawn(Sleeper::<3> { number, wait, pad: [0; 3] })
        } else {
            rt.spawn(Sleeper::<0> { number, wait, pad: [] })
        });
    }
    while WAITING.load(Ordering::SeqCst) < b.ops {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(20));
    let rss = status_kib("VmRSS:").unwrap() - rss;
    let table = status_kib("VmPTE:").unwrap() - table;

    for waker in wakers.iter_mut() {
        waker.take().expect("no waker").wake();
    }
    let done = rt.block_on(async {
        let mut done = 0;
        for handle in handles.iter_mut() {
            done += handle.take().unwrap().await.unwrap();
        }
        done
    });
    b.bad = done.abs_diff(b.ops);
    b.report_bytes(rss as f64 * 1024.0 / n as f64, table as f64 * 1024.0 / n as f64)
}
