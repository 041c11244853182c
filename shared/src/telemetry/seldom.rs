use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a line is left out after it was logged.
const PAUSE: Duration = Duration::from_secs(10);

/// A line that could be logged thousands of times a second while something is wrong, and is logged every ten seconds.
#[derive(Debug)]
pub struct Seldom(Mutex<Since>);

#[derive(Debug)]
struct Since {
    logged: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    /// A line that was not logged yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(Since { logged: None, left_out: 0 }))
    }

    /// How often it was left out since it was logged last if it is to be logged now, else `None`.
    pub fn due(&self) -> Option<u64> {
        self.due_at(Instant::now())
    }

    fn due_at(&self, now: Instant) -> Option<u64> {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if since.logged.is_some_and(|logged| now.duration_since(logged) < PAUSE) {
            since.left_out += 1;
            return None;
        }
        since.logged = Some(now);
        Some(std::mem::take(&mut since.left_out))
    }
}

impl Default for Seldom {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_logged_at_once_and_then_once_in_a_while_with_what_was_left_out() {
        let (line, start) = (Seldom::new(), Instant::now());
        assert_eq!(line.due_at(start), Some(0));
        assert_eq!(line.due_at(start), None);
        assert_eq!(line.due_at(start + PAUSE / 2), None);
        assert_eq!(line.due_at(start + PAUSE), Some(2));
        assert_eq!(line.due_at(start + PAUSE), None);
    }
}
