//! How often and how quickly a failed call to a backend is retried.
//!
//! The delays grow from 10 ms to 1 s. There is no jitter: a process has one caller for each thing it retries, and a
//! simulation must be reproducible.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::error::{BackendError, Retry};

/// How often a call is retried before its failure is passed on, which takes about four seconds, or longer if the
/// backend asks for longer pauses.
pub const RETRIES_MAX: usize = 10;

/// The delays between the attempts of one call.
#[derive(Debug)]
pub struct Backoff(backon::ExponentialBackoff);

impl Default for Backoff {
    fn default() -> Self {
        let delays = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(10))
            .with_max_delay(Duration::from_secs(1))
            .with_max_times(RETRIES_MAX);
        Self(delays.build())
    }
}

impl Backoff {
    /// Waits before the next attempt.
    ///
    /// # Errors
    /// Returns the failure if a retry is useless, or after [`RETRIES_MAX`] of them.
    pub async fn wait(&mut self, failure: BackendError) -> Result<(), BackendError> {
        let delay = match failure.retry {
            Retry::Never => return Err(failure),
            Retry::Later => self.0.next(),
            Retry::After(asked) => self.0.next().map(|delay| delay.max(asked)),
        };
        let Some(delay) = delay else { return Err(failure) };
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tries_end_after_a_bound_and_at_once_when_they_are_useless() {
        let mut backoff = Backoff::default();
        let mut tries = 0;
        while backoff.wait(BackendError::not_done("append", "down")).await.is_ok() {
            tries += 1;
        }
        assert_eq!(tries, RETRIES_MAX);
        assert!(Backoff::default().wait(BackendError::broken("append", "denied")).await.is_err());
    }
}
