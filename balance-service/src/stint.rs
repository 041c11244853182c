//! Folding in stints, so that a task with many writes to fold lets other tasks run in between.
//!
//! The runtime has one thread per core, and a task keeps its thread until it waits. Replaying eight partitions,
//! thousands of events at a time, would keep both threads of a two-core machine busy, and commands, queries and lease
//! renewals would wait for most of a second.

use tokio::task::yield_now;

/// How many writes are folded in one stint, which takes a few hundred microseconds.
const WRITES: usize = 256;

/// A stint in progress.
#[derive(Debug)]
pub(crate) struct Stint {
    left: usize,
}

impl Stint {
    pub(crate) const fn new() -> Self {
        Self { left: WRITES }
    }

    /// Counts the next write to fold. If the stint is over, other tasks run first.
    pub(crate) async fn next(&mut self) {
        if self.left == 0 {
            yield_now().await;
            self.left = WRITES;
        }
        self.left -= 1;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// How often another task on the same thread runs during this work.
    pub(crate) async fn turns_of_others(work: impl Future) -> usize {
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&turns);
        #[expect(clippy::disallowed_methods, reason = "it is aborted below")]
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        });
        work.await;
        other.abort();
        turns.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn others_run_after_each_stint_and_not_before() {
        for (writes, turns) in [(WRITES, 0), (WRITES + 1, 1), (10 * WRITES + 1, 10)] {
            let mut stint = Stint::new();
            let work = async {
                for _ in 0..writes {
                    stint.next().await;
                }
            };
            assert_eq!(turns_of_others(work).await, turns, "{writes} writes");
        }
    }
}
