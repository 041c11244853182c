//! How long to wait for differences to disappear (law P2).

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::report::{Fault, Finding};

/// How long to wait in all for a view that comes closer to the store. Far more than any backlog that a verification
/// before a switch begins with, since the generation has caught up by then.
const LATE_MAX: Duration = Duration::from_mins(10);

/// The pause before the second look: most events are in flight no longer than that.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The factor from each pause to the next.
const PAUSE_GROWTH: u32 = 3;

/// The fewest pauses in a patience, so that it is soon noticed when a document becomes right or a view comes closer.
const PAUSES_MIN: u32 = 4;

/// The fewest looks: however long a look takes, and however short the patience is, nothing is judged by one look.
const LOOKS_MIN: usize = 2;

/// The looks at a set of differences, from the first to the one that decides.
pub(super) struct Waiting {
    patience: Duration,
    until: Instant,
    at_most_until: Instant,
    pause: Duration,
    looks: usize,
    late: Late,
}

/// How far late documents have come. Any change of it is a step towards the store, since versions of documents never
/// fall and noted heads stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Late {
    documents: usize,
    versions: u64,
}

impl Waiting {
    pub(super) fn new(patience: Duration) -> Self {
        let until = Instant::now() + patience;
        let at_most_until = until.max(Instant::now() + LATE_MAX);
        Self { patience, until, at_most_until, pause: PAUSE_MIN, looks: 0, late: Late::default() }
    }

    /// Notes what a look has found wrong. The patience starts again if late documents have come closer since the last
    /// look.
    pub(super) fn found<'a>(&mut self, wrong: impl Iterator<Item = &'a Finding>) {
        let late = Late::of(wrong);
        if self.looks > 0 && late != self.late {
            self.until = self.at_most_until.min(Instant::now() + self.patience);
        }
        self.late = late;
        self.looks += 1;
    }

    /// Whether what the last look found wrong counts.
    pub(super) fn is_over(&self) -> bool {
        self.looks >= LOOKS_MIN && Instant::now() >= self.until
    }

    /// Waits until the next look.
    pub(super) async fn pause(&mut self) {
        sleep_until(self.until.min(Instant::now() + self.pause)).await;
        self.pause = (self.pause * PAUSE_GROWTH).min(self.patience / PAUSES_MIN);
    }
}

impl Late {
    fn of<'a>(wrong: impl Iterator<Item = &'a Finding>) -> Self {
        let mut late = Self::default();
        for finding in wrong {
            match finding.fault {
                Fault::Missing | Fault::Behind => {
                    late.documents += 1;
                    late.versions = late.versions.saturating_add(finding.version.get());
                }
                // These may change with every event of their account without coming closer to being right.
                Fault::Diverged | Fault::Orphan | Fault::Ahead => {}
            }
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::coordinate::Version;
    use shared::id::AccountId;

    const PATIENCE: Duration = Duration::from_secs(12);

    fn wrong(fault: Fault, versions: &[u64]) -> Vec<Finding> {
        let finding = |(number, version): (u8, &u64)| Finding {
            account: AccountId::from_bytes([number; 16]),
            fault,
            detail: String::new(),
            version: Version::new(*version),
        };
        (0..).zip(versions).map(finding).collect()
    }

    /// How long the wait takes, and how many looks, if each look finds what `found` returns for that time.
    async fn waited(patience: Duration, found: impl Fn(Duration) -> Vec<Finding>) -> (Duration, usize) {
        let began = Instant::now();
        let mut waiting = Waiting::new(patience);
        loop {
            waiting.found(found(began.elapsed()).iter());
            if waiting.is_over() {
                return (began.elapsed(), waiting.looks);
            }
            waiting.pause().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_stands_still_is_waited_for_as_long_as_the_patience_says() {
        for fault in [Fault::Missing, Fault::Behind, Fault::Diverged, Fault::Orphan, Fault::Ahead] {
            assert_eq!(waited(PATIENCE, |_| wrong(fault, &[1, 2])).await, (PATIENCE, 9), "{fault:?}");
        }
        assert_eq!(waited(Duration::ZERO, |_| wrong(Fault::Behind, &[1])).await, (Duration::ZERO, LOOKS_MIN));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_nearer_is_waited_for_until_it_stands_still() {
        // The one comes nearer for a minute, or becomes right halfway through the patience; the other never moves.
        let minute = Duration::from_mins(1);
        let versions = |time: Duration| wrong(Fault::Behind, &[1, 1 + time.min(minute).as_secs()]);
        let documents = |time| wrong(Fault::Missing, if time < PATIENCE / 2 { &[0, 0] } else { &[0] });
        for (waited, moves_for) in
            [(waited(PATIENCE, versions).await, minute), (waited(PATIENCE, documents).await, PATIENCE / 2)]
        {
            let (time, _) = waited;
            let seen_within = PATIENCE / PAUSES_MIN;
            assert!((moves_for + PATIENCE..=moves_for + PATIENCE + seen_within).contains(&time), "{time:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_waited_for_without_an_end() {
        let nearer = |time: Duration| wrong(Fault::Behind, &[time.as_secs()]);
        assert_eq!(waited(PATIENCE, nearer).await.0, LATE_MAX);
        let long = LATE_MAX * 2;
        assert_eq!(waited(long, nearer).await.0, long, "what was asked for is waited for");
        let busy = |time: Duration| wrong(Fault::Diverged, &[time.as_secs()]);
        assert_eq!(waited(PATIENCE, busy).await.0, PATIENCE, "a wrong document that goes on is no nearer");
    }
}
