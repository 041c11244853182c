//! Filling a generation from the store: a sorted scan of the partition's streams, each folded to its end before it is
//! written, so that a replay costs one document per account rather than one per event.
//!
//! The checkpoint names the last stream that is completely written. A crash repeats at most what was read since.

use metrics::counter;
use shared::backends::Backends;
use shared::coordinate::Version;
use shared::error::BackendError;
use shared::event::{Recorded, StreamAfter};
use shared::index::{Phase, Projected};
use shared::store::{EventStore, ScanPage};
use shared::telemetry::metric::REBUILD_EVENTS;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::begin::Plan;
use super::{Stopped, Worker};
use crate::fold::{Folding, Taken, projected};
use crate::stint::Stint;

/// How many events are read from the store at once: two such pages are in memory, one being read, one being written.
const SCAN_EVENTS: usize = 8_192;

impl<B: Backends> Worker<B> {
    /// Replays the partition, then goes live after the end of the log that was noted before.
    pub(super) async fn replay(&self, plan: Plan, shutdown: &CancellationToken) -> Result<(), Stopped> {
        let Plan { incarnation, offset, after, done } = plan;
        let checkpoint = |phase| self.checkpoint(incarnation.clone(), offset, phase);
        // The first write under a new epoch: from here on, a worker of a lower epoch is refused.
        self.note(checkpoint(Phase::Replaying { after, done })).await?;
        debug!(generation = %self.generation, partition = %self.partition, done, "worker replays the store");
        let store = self.backends.store();
        let mut streams = Streams::behind(after, done);
        let mut page = store.scan(self.slots, after.map(rest_of), SCAN_EVENTS).await?;
        loop {
            let _permit = self.right_of_way.page().await;
            let ScanPage { records, next } = page;
            let mut projected = self.fold_page(&mut streams, &records, next.is_none()).await?;
            projected.checkpoint = Some(checkpoint(Phase::Replaying { after: streams.complete, done: streams.done }));
            let Some(next) = next else {
                self.write(&mut projected).await?;
                break;
            };
            let (written, read) =
                tokio::join!(self.write(&mut projected), store.scan(self.slots, Some(next), SCAN_EVENTS));
            written?;
            page = read?;
            if shutdown.is_cancelled() {
                return Ok(());
            }
        }
        self.note(checkpoint(Phase::Live { replayed: streams.done })).await?;
        info!(generation = %self.generation, partition = %self.partition, events = streams.done, "worker has replayed");
        Ok(())
    }

    async fn fold_page(
        &self,
        streams: &mut Streams,
        records: &[Recorded],
        last: bool,
    ) -> Result<Projected, BackendError> {
        let mut finished = streams.take_all(records).await?;
        if last {
            finished.extend(streams.close());
        }
        counter!(REBUILD_EVENTS.name).increment(records.iter().map(|recorded| u64::from(recorded.events.count)).sum());
        Ok(projected(finished, self.clock.now()))
    }
}

/// The place after all events of a stream, including those added since.
fn rest_of(complete: StreamAfter) -> StreamAfter {
    StreamAfter { after: Version::MAX, ..complete }
}

/// The streams of a scan as it passes them: one is open, those before it are complete.
struct Streams {
    open: Option<(Folding, StreamAfter)>,
    complete: Option<StreamAfter>,
    done: u64,
    stint: Stint,
}

impl Streams {
    fn behind(complete: Option<StreamAfter>, done: u64) -> Self {
        Self { open: None, complete, done, stint: Stint::new() }
    }

    /// Takes the next writes of the scan and returns the streams that they close.
    async fn take_all(&mut self, records: &[Recorded]) -> Result<Vec<Folding>, BackendError> {
        let mut closed = Vec::new();
        for recorded in records {
            self.stint.next().await;
            closed.extend(self.take(recorded)?);
        }
        Ok(closed)
    }

    /// Takes the next write of the scan and returns the stream that it closes.
    fn take(&mut self, recorded: &Recorded) -> Result<Option<Folding>, BackendError> {
        let closed = match &self.open {
            Some((_, place)) if place.stream == recorded.stream => None,
            Some(_) | None => self.close(),
        };
        let (folding, place) = self.open.get_or_insert_with(|| {
            let place = StreamAfter { stream: recorded.stream, after: Version::EMPTY };
            (Folding::new(recorded.stream, None), place)
        });
        if folding.take(recorded) == Taken::Gap {
            let hole = format!("stream {} has a hole before {}", recorded.stream, recorded.first_version);
            return Err(BackendError::broken("scan", hole));
        }
        place.after = recorded.last_version();
        Ok(closed)
    }

    fn close(&mut self) -> Option<Folding> {
        let (folding, place) = self.open.take()?;
        self.done += place.after.get();
        self.complete = Some(place);
        Some(folding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stint::tests::turns_of_others;
    use shared::clock::Timestamp;
    use shared::event::EncodedEvents;
    use shared::id::AccountId;

    #[tokio::test]
    async fn others_have_their_turn_while_a_page_is_folded() {
        let write = |version| Recorded {
            stream: AccountId::from_bytes([1; 16]),
            first_version: Version::new(version),
            time: Timestamp::EPOCH,
            events: EncodedEvents { count: 1, json: bytes::Bytes::from_static(b"[]") },
        };
        let page: Vec<Recorded> = (1..=SCAN_EVENTS as u64).map(write).collect();
        let mut streams = Streams::behind(None, 0);
        let turns = turns_of_others(streams.take_all(&page)).await;
        assert!(turns > SCAN_EVENTS / 1_000, "{turns} turns");
        assert_eq!(streams.close().map(|folding| folding.is_stuck()), Some(true), "an event is missing in each");
    }
}
