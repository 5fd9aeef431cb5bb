//! How long an execution of a fuzz target may take, by two clocks. One that computes is found by its thread's processor time,
//! which a busy machine does not stretch as it does the time of day. One that waits uses none, and if it waits for ever,
//! nobody comes back to look at a clock: another thread does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Processor time that one execution may take. The slowest, built without optimization, take a tenth.
pub(crate) const SLOW: Duration = Duration::from_secs(1);
/// Time of day after which one that is not over never will be: a machine that gives it a thirtieth of its time would do.
pub(crate) const STUCK: Duration = Duration::from_secs(30);
/// How often what took too long is tried again before it is believed: the first time fills tables and caches.
const TRIES: u32 = 3;

/// What an execution took: by the time of day, which is looked at without a system call; when that is `slow` or more, the
/// least processor time of a few more.
pub(crate) fn time(slow: Duration, mut execute: impl FnMut()) -> Duration {
    let begin = Instant::now();
    execute();
    let mut took = begin.elapsed();
    for _ in 0..TRIES {
        if took < slow {
            break;
        }
        let begin = processor_time();
        execute();
        took = took.min(processor_time().saturating_sub(begin));
    }
    took
}

/// What this thread has computed so far.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a time that began at nothing")
}

/// A thread that sees to it that executions end.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    /// Dropped, it ends the thread.
    _end: Sender<()>,
}

#[derive(Default)]
struct Shared {
    begun: AtomicU64,
    /// What is executed.
    data: RwLock<Vec<u8>>,
}

impl Watch {
    /// Calls `late`, with what is executed, once that has taken longer than `stuck`, and before it has taken twice as long.
    pub(crate) fn new(stuck: Duration, late: impl Fn(&[u8]) + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let (end, ended) = channel();
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            let mut seen = 0;
            while ended.recv_timeout(stuck) == Err(RecvTimeoutError::Timeout) {
                let begun = theirs.begun.load(Ordering::Relaxed);
                if begun == seen {
                    late(&theirs.data.read().unwrap_or_else(PoisonError::into_inner));
                }
                seen = begun;
            }
        });
        Self { shared, _end: end }
    }

    /// Has `choose` write what is executed next, then `execute` do it.
    pub(crate) fn next<R>(
        &self,
        choose: impl FnOnce(&mut Vec<u8>),
        execute: impl FnOnce(&[u8]) -> R,
    ) -> R {
        let data = &self.shared.data;
        choose(&mut data.write().unwrap_or_else(PoisonError::into_inner));
        self.shared.begun.fetch_add(1, Ordering::Relaxed);
        execute(&data.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn what_computes_for_long_is_found() {
        let took = time(SHORT, || {
            let begin = processor_time();
            while processor_time().saturating_sub(begin) < SHORT {}
        });
        assert!(took >= SHORT, "{took:?}");
    }

    #[test]
    fn what_has_to_wait_for_its_turn_is_not_slow() {
        let took = time(SHORT, || thread::sleep(2 * SHORT));
        assert!(took < SHORT, "{took:?}");
    }

    #[test]
    fn what_waits_for_ever_is_told_by_its_bytes() {
        let (late, told) = channel();
        let watch = Watch::new(SHORT, move |data: &[u8]| {
            let _ = late.send(data.to_vec());
        });
        let told = watch.next(
            |data| *data = vec![7, 9],
            |_| told.recv_timeout(Duration::from_secs(20)),
        );
        assert_eq!(told, Ok(vec![7, 9]));
    }

    #[test]
    fn executions_that_end_are_not_told() {
        let (late, told) = channel();
        let watch = Watch::new(Duration::from_secs(1), move |_: &[u8]| {
            let _ = late.send(());
        });
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(3) {
            watch.next(|_| (), |_| thread::sleep(SHORT));
        }
        drop(watch);
        assert!(told.recv().is_err(), "told of one that did end");
    }
}
