//! Waiting: the control plane is written once, as async functions, and run in two ways.
//!
//! [`block_on`] runs one to its end, sleeping on the port's [`Clock`]; [`drive`] runs one for a slice of time and
//! comes back to it later, which is how `poll_control` stays bounded while a recovery takes seconds. There is no
//! executor and nothing is woken: the only thing ever waited for is time, because registers have to be looked at
//! again.
//!
//! Invariant: every wait has a limit, and all of them together an overall one while a port is opened.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use vfnic_hw::Clock;

/// Sentinel for "no limit" among nanoseconds.
const NEVER: u64 = u64::MAX;

/// The clock, and what the running wait is waiting for.
#[derive(Debug)]
pub(crate) struct Ticker {
    clock: Arc<dyn Clock>,
    /// When the pending wait wants to look again, in nanoseconds of the clock.
    due: AtomicU64,
    /// When everything has to be over, in nanoseconds of the clock.
    limit: AtomicU64,
}

/// A wait that ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expired {
    /// How long was waited.
    pub(crate) waited: Duration,
}

/// How often to look, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Time to the second look; the first is at once.
    pub(crate) first: Duration,
    /// The steps double up to this.
    pub(crate) step: Duration,
    /// When to give up.
    pub(crate) limit: Duration,
}

impl Patience {
    /// Looks after 10 µs, 20 µs, … up to every `step`, and gives up after `limit`.
    pub(crate) const fn new(step: Duration, limit: Duration) -> Self {
        Self {
            first: Duration::from_micros(10),
            step,
            limit,
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(NEVER - 1)
}

impl Ticker {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            due: AtomicU64::new(0),
            limit: AtomicU64::new(NEVER),
        }
    }

    /// Time on the port's clock.
    pub(crate) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// From now on no wait lasts beyond `time` from now; `None` lifts the limit.
    pub(crate) fn limit_all(&self, time: Option<Duration>) {
        let limit = time.map_or(NEVER, |time| nanos(self.now().saturating_add(time)));
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// How long until the pending wait wants to look again.
    pub(crate) fn until_due(&self) -> Duration {
        Duration::from_nanos(self.due.load(Ordering::Relaxed)).saturating_sub(self.now())
    }

    fn overall(&self) -> Duration {
        Duration::from_nanos(self.limit.load(Ordering::Relaxed))
    }

    /// Lets `time` pass.
    pub(crate) fn pause(&self, time: Duration) -> Pause<'_> {
        Pause {
            ticker: self,
            until: None,
            time,
        }
    }

    /// Looks at something until it gives a value. Looks at least twice, however late it is, so that a thread that was
    /// stopped for a while does not mistake that for silence.
    pub(crate) async fn poll_until<T, E>(
        &self,
        patience: Patience,
        mut look: impl FnMut() -> Result<Option<T>, E>,
    ) -> Result<Result<T, Expired>, E> {
        let start = self.now();
        let end = start.saturating_add(patience.limit).min(self.overall());
        let mut step = patience.first;
        loop {
            if let Some(value) = look()? {
                return Ok(Ok(value));
            }
            let now = self.now();
            if now >= end {
                return match look()? {
                    Some(value) => Ok(Ok(value)),
                    None => Ok(Err(Expired {
                        waited: now.saturating_sub(start),
                    })),
                };
            }
            self.pause(step.min(end.saturating_sub(now))).await;
            step = step.saturating_mul(2).min(patience.step);
        }
    }
}

/// See [`Ticker::pause`].
#[derive(Debug)]
pub(crate) struct Pause<'a> {
    ticker: &'a Ticker,
    until: Option<Duration>,
    time: Duration,
}

impl Future for Pause<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let now = self.ticker.now();
        let time = self.time;
        let until = *self.until.get_or_insert_with(|| now.saturating_add(time));
        if now >= until {
            return Poll::Ready(());
        }
        self.ticker.due.store(nanos(until), Ordering::Relaxed);
        Poll::Pending
    }
}

/// How long [`drive`] sleeps at most between two looks: a PF answers sooner, everything else can wait outside.
const NAP: Duration = Duration::from_millis(1);

/// Runs `task` for at most `slice`, and no longer than it has something to do soon; `Pending` means that it wants to be
/// driven again after [`Ticker::until_due`].
pub(crate) fn drive<F: Future + ?Sized>(
    ticker: &Ticker,
    mut task: Pin<&mut F>,
    slice: Duration,
) -> Poll<F::Output> {
    let mut context = Context::from_waker(Waker::noop());
    let end = ticker.now().saturating_add(slice);
    loop {
        if let Poll::Ready(value) = task.as_mut().poll(&mut context) {
            return Poll::Ready(value);
        }
        let nap = ticker.until_due();
        if nap > NAP || ticker.now().saturating_add(nap) > end {
            return Poll::Pending;
        }
        if !nap.is_zero() {
            ticker.clock.sleep(nap);
        }
    }
}

/// Runs `task` to its end. It ends, because every wait in it has a limit.
pub(crate) fn block_on<F: Future>(ticker: &Ticker, task: F) -> F::Output {
    let mut task = pin!(task);
    loop {
        if let Poll::Ready(value) = drive(ticker, task.as_mut(), Duration::MAX) {
            return value;
        }
        ticker.clock.sleep(ticker.until_due());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A clock that moves only when somebody sleeps on it.
    #[derive(Debug, Default)]
    pub(crate) struct TestClock(Mutex<Duration>);

    impl Clock for TestClock {
        fn now(&self) -> Duration {
            *self.0.lock().expect("no panic in between")
        }
        fn sleep(&self, time: Duration) {
            *self.0.lock().expect("no panic in between") += time;
        }
    }

    fn ticker() -> Ticker {
        Ticker::new(Arc::new(TestClock::default()))
    }

    const PATIENCE: Patience = Patience::new(Duration::from_micros(500), Duration::from_millis(10));

    #[test]
    fn a_wait_ends_as_soon_as_there_is_something() {
        let ticker = ticker();
        let mut looks = 0;
        let got = block_on(
            &ticker,
            ticker.poll_until(PATIENCE, || {
                looks += 1;
                Ok::<_, ()>((looks == 3).then_some(7))
            }),
        );
        assert_eq!(got, Ok(Ok(7)));
        assert_eq!(ticker.now(), Duration::from_micros(10 + 20));
    }

    #[test]
    fn a_wait_has_an_end() {
        let ticker = ticker();
        let got = block_on(
            &ticker,
            ticker.poll_until(PATIENCE, || Ok::<Option<()>, ()>(None)),
        );
        assert_eq!(
            got,
            Ok(Err(Expired {
                waited: Duration::from_millis(10)
            }))
        );
    }

    /// A clock that leaps an hour the first time somebody sleeps: the process was stopped.
    #[derive(Debug, Default)]
    struct Leap(TestClock);

    impl Clock for Leap {
        fn now(&self) -> Duration {
            self.0.now()
        }
        fn sleep(&self, time: Duration) {
            self.0.sleep(time + Duration::from_secs(3600));
        }
    }

    #[test]
    fn h21_a_stopped_process_does_not_take_its_absence_for_silence() {
        let ticker = Ticker::new(Arc::new(Leap::default()));
        let mut looks = 0;
        let got = block_on(
            &ticker,
            ticker.poll_until(PATIENCE, || {
                looks += 1;
                // It came while the process was away.
                Ok::<_, ()>((looks == 2).then_some("there"))
            }),
        );
        assert_eq!(got, Ok(Ok("there")));
    }

    #[test]
    fn the_overall_limit_cuts_every_wait_short() {
        let ticker = ticker();
        ticker.limit_all(Some(Duration::from_millis(3)));
        for _ in 0..2 {
            let got = block_on(
                &ticker,
                ticker.poll_until(PATIENCE, || Ok::<Option<()>, ()>(None)),
            );
            assert!(matches!(got, Ok(Err(_))));
        }
        assert_eq!(ticker.now(), Duration::from_millis(3));
    }

    #[test]
    fn a_slice_ends_and_the_task_goes_on_from_there() {
        let ticker = ticker();
        let mut task = pin!(async {
            for _ in 0..10 {
                ticker.pause(Duration::from_micros(500)).await;
            }
            ticker.pause(Duration::from_millis(50)).await;
            "done"
        });
        let slice = Duration::from_millis(3);
        let at = |micros| Duration::from_micros(micros);
        assert_eq!(drive(&ticker, task.as_mut(), slice), Poll::Pending);
        assert_eq!(ticker.now(), at(3000), "the slice is over");
        assert_eq!(drive(&ticker, task.as_mut(), slice), Poll::Pending);
        assert_eq!(ticker.now(), at(5000), "a long wait is not slept through");
        assert_eq!(ticker.until_due(), at(50_000));
        ticker.clock.sleep(at(50_000));
        assert_eq!(drive(&ticker, task.as_mut(), slice), Poll::Ready("done"));
    }
}
