use std::collections::VecDeque;

use shared::clock::Timestamp;
use shared::coordinate::Position;
use shared::store::FeedEntry;

use super::FEED_BATCH_MAX;

/// What one partition has not got yet: at least one write, or there is no lane.
#[derive(Default)]
pub(super) struct Lane {
    /// What its publisher has; nothing while the partition is still being looked at.
    publishing: Option<Publishing>,
    /// What is published after that.
    waiting: VecDeque<Load>,
    /// Whether its batch still waits for it.
    pub(super) is_awaited: bool,
}

/// Writes that a publisher has.
struct Publishing {
    /// Where the first of them came from.
    from: Source,
    writes: usize,
}

/// What a batch brought for one partition.
pub(super) struct Load {
    pub(super) source: Source,
    pub(super) entries: Vec<FeedEntry>,
}

/// The batch that brought a write.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) batch: u64,
    /// What precedes it in the feed.
    pub(super) before: Reached,
}

/// Everything in the feed up to some write.
#[derive(Clone)]
pub(super) struct Reached {
    /// Where the feed resumes after it.
    pub(super) position: Position,
    /// When the last of it was committed, if that is known.
    pub(super) newest: Option<Timestamp>,
}

impl Lane {
    /// Where its oldest write came from.
    pub(super) fn oldest(&self) -> Option<&Source> {
        let first_waiting = || self.waiting.front().map(|load| &load.source);
        self.publishing.as_ref().map(|publishing| &publishing.from).or_else(first_waiting)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.oldest().is_none()
    }

    /// Takes what comes after all it has.
    pub(super) fn push(&mut self, load: Load) {
        self.waiting.push_back(load);
    }

    /// Hands out what is published next: no more writes than a batch has, so that a long lane gets on step by step.
    pub(super) fn next_publish(&mut self) -> Option<Vec<FeedEntry>> {
        let mut writes = 0;
        let fits = |load: &&Load| {
            writes += load.entries.len();
            writes <= FEED_BATCH_MAX
        };
        let fitting = self.waiting.iter().take_while(fits).count();
        let Load { source: from, mut entries } = self.waiting.pop_front()?;
        entries.extend(self.waiting.drain(..fitting.saturating_sub(1)).flat_map(|load| load.entries));
        self.publishing = Some(Publishing { from, writes: entries.len() });
        Some(entries)
    }

    /// Its publisher is done. Returns how many writes that has published, none if it only looked.
    pub(super) fn published(&mut self) -> usize {
        self.publishing.take().map_or(0, |publishing| publishing.writes)
    }

    /// Its publisher has given up these writes: they are published again, before all others.
    pub(super) fn put_back(&mut self, entries: Vec<FeedEntry>) {
        let Publishing { from: source, .. } = self.publishing.take().expect("a publisher had these writes");
        self.waiting.push_front(Load { source, entries });
    }
}
