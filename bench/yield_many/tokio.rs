//! yield_many in Tokio, whose tasks have no stack: the same program stands for both variants.
//! Question, method and traps: see sched.c.

use bench::{in_task, Bench};

const TASKS: u64 = 200;

fn main() {
    let b = Bench::new("yield_many", 200_000, &["stackful", "poll"]);
    let rt = b.runtime();
    let mut b = in_task(&rt, async move {
        let mut b = b;
        let mut handles = Vec::with_capacity(TASKS as usize);
        while b.round() {
            for i in 0..TASKS {
                let want = b.ops / TASKS + (i < b.ops % TASKS) as u64;
                handles.push(tokio::spawn(async move {
                    let mut done = 0u64;
                    while done < want {
                        tokio::task::yield_now().await;
                        done += 1;
                    }
                    done
                }));
            }
            let mut done = 0;
            for handle in handles.drain(..) {
                done += handle.await.unwrap();
            }
            b.done(done);
        }
        b
    });
    b.report()
}
