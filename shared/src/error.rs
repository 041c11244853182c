//! What a failed call to a backend tells its caller: whether it took effect, and what to do next.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Whether a failed call took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It definitely did not happen.
    None,
    /// It may have happened: look it up by the operation's id, or repeat it where a repeat is harmless.
    Unknown,
}

/// Whether a repeat can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same call will fail again: an operator is needed.
    Never,
    /// The backend may recover; the caller chooses when to ask again.
    Later,
    /// The backend asked the caller to wait this long.
    After(Duration),
}

/// A failure of the system, as opposed to a refusal, for which each port has variants of its own.
///
/// Backends map their drivers' errors by an allow-list: an error that is not known to have had no effect is
/// [`Effect::Unknown`]. A read has none, whatever its outcome.
#[derive(Debug)]
pub struct BackendError {
    /// The port's verb, such as `append`.
    pub operation: &'static str,
    /// Whether it took effect.
    pub effect: Effect,
    /// Whether a repeat can help.
    pub retry: Retry,
    /// The cause.
    pub source: Box<dyn Error + Send + Sync>,
}

impl BackendError {
    /// It did not happen, and may work later.
    pub fn not_done(operation: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { operation, effect: Effect::None, retry: Retry::Later, source: source.into() }
    }

    /// It may have happened.
    pub fn unknown(operation: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { operation, effect: Effect::Unknown, retry: Retry::Later, source: source.into() }
    }

    /// It did not happen, and never will without an operator.
    pub fn broken(operation: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { operation, effect: Effect::None, retry: Retry::Never, source: source.into() }
    }

    /// The same failure, for another caller. Of the cause, only the text is kept.
    pub(crate) fn copy(&self) -> Self {
        Self { source: self.source.to_string().into(), ..*self }
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = match self.effect {
            Effect::None => "had no effect",
            Effect::Unknown => "may have had an effect",
        };
        write!(f, "{} failed and {effect}: {}", self.operation, self.source)
    }
}

/// The text includes the cause, so there is no source: printing the chain would repeat the cause.
impl Error for BackendError {}
