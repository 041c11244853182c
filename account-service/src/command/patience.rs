//! The time limits of a batch and of its calls to the store.

use std::time::Duration;

use shared::error::{BackendError, Retry};
use shared::store::SERVER_FOUND_WITHIN;
use shared::telemetry::Seldom;
use tokio::time::Instant;
use tracing::warn;

/// How long a batch keeps trying before its commands are answered; well below the timeout of a request, so that the
/// answer still reaches the customer.
pub(super) const BATCH_TIME_MAX: Duration = Duration::from_secs(5);

/// How long one call to the store may take. A call that hangs is given up early enough for another attempt.
pub(super) const STORE_CALL_TIME_MAX: Duration = Duration::from_secs(2);

/// How long a batch reads the streams of its accounts. Then there is time left for a last call of the load and for an
/// append, so that the commands whose accounts are known by then are answered in time.
pub(super) const LOAD_TIME_MAX: Duration = Duration::from_secs(2);

const _: () = assert!(LOAD_TIME_MAX.as_millis() + STORE_CALL_TIME_MAX.as_millis() < BATCH_TIME_MAX.as_millis());

// A store that finds no server reports that nothing happened. A call given up before that may have taken effect.
const _: () = assert!(STORE_CALL_TIME_MAX.as_millis() > SERVER_FOUND_WITHIN.as_millis());

/// The first pause after a failed call; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// A store that is away fails every question, each several times.
static ASKED_AGAIN: Seldom = Seldom::new();

/// The time that is left for further attempts, and the pause before the next one.
#[derive(Debug)]
pub(super) struct Patience {
    deadline: Instant,
    pause: Duration,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { deadline: Instant::now() + BATCH_TIME_MAX, pause: PAUSE_MIN }
    }

    /// Waits before the next attempt, and returns whether there is to be one: not if the store asks for a longer pause
    /// than [`PAUSE_MAX`], such as one whose disk is full.
    pub(super) async fn pause(&mut self, retry: Retry) -> bool {
        let pause = match retry {
            Retry::Never => return false,
            Retry::Later => self.pause,
            // The customer can wait that long better than a batch that holds up others.
            Retry::After(asked) if asked > PAUSE_MAX => return false,
            Retry::After(asked) => self.pause.max(asked),
        };
        if Instant::now() + pause >= self.deadline {
            return false;
        }
        tokio::time::sleep(pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }

    /// Asks the store until it answers; returns the failure after which there is to be no further attempt.
    pub(super) async fn ask<T, F>(&mut self, mut question: impl FnMut() -> F) -> Result<T, BackendError>
    where
        F: Future<Output = Result<T, BackendError>>,
    {
        loop {
            match question().await {
                Err(failure) if self.pause(failure.retry).await => {
                    if let Some(left_out) = ASKED_AGAIN.due() {
                        warn!(%failure, left_out, "the store did not answer, asking again");
                    }
                }
                answer => return answer,
            }
        }
    }

    /// When a load that begins now ends if others wait for it.
    pub(super) fn load_until(&self) -> Instant {
        self.deadline.min(Instant::now() + LOAD_TIME_MAX)
    }

    /// When the time is up.
    pub(super) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the time is up.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Notes that a call succeeded: the next pause is short again.
    pub(super) const fn reset(&mut self) {
        self.pause = PAUSE_MIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_asks_for_a_long_pause_is_not_waited_for() {
        let mut patience = Patience::new();
        let began = Instant::now();
        assert!(!patience.pause(Retry::After(PAUSE_MAX * 2)).await);
        assert!(patience.pause(Retry::After(PAUSE_MAX)).await);
        assert_eq!(began.elapsed(), PAUSE_MAX);
    }
}
