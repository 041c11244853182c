//! Commits to append, and the queries that most promises need.

use bytes::Bytes;

use crate::clock::{Clock, Timestamp};
use crate::coordinate::Version;
use crate::event::{AccountEvent, EncodedEvents, NewEvent, Recorded, StreamAfter, codec};
use crate::id::{AccountId, CommitId, Ids};
use crate::money::Amount;
use crate::partition::SlotRange;
use crate::store::{AppendError, Appended, Commit, EventStore, IdempotencyKey, KeyedRequest, StreamWrite};

/// Makes commits that no other run ever made.
pub(super) struct Scribe {
    ids: Ids,
}

impl Scribe {
    pub(super) fn new() -> Self {
        Self { ids: Ids::new(Clock::system()) }
    }

    pub(super) fn account(&self) -> AccountId {
        self.ids.account()
    }

    pub(super) fn accounts(&self, count: usize) -> Vec<AccountId> {
        (0..count).map(|_| self.account()).collect()
    }

    pub(super) fn commit_id(&self) -> CommitId {
        self.ids.commit()
    }

    /// A commit of writes, each given as stream, expected version and number of events.
    pub(super) fn commit(&self, writes: &[(AccountId, u64, u32)]) -> Commit {
        let id = self.ids.commit();
        let time = Timestamp::from_micros(1_700_000_000_123_456);
        let write = |&(stream, expected, count)| StreamWrite {
            stream,
            expected: Version::new(expected),
            events: self.deposits(id, time, count),
        };
        let receipt = Bytes::from(format!("{{\"transaction\":\"{id}\"}}"));
        Commit { id, time, key: None, receipt, writes: writes.iter().map(write).collect() }
    }

    pub(super) fn keyed(&self, key: &IdempotencyKey, writes: &[(AccountId, u64, u32)]) -> Commit {
        Commit { key: Some(KeyedRequest { key: key.clone(), request: [7; 32] }), ..self.commit(writes) }
    }

    /// A key that was never used.
    pub(super) fn key(&self) -> IdempotencyKey {
        IdempotencyKey::new(&self.ids.event().to_string()).unwrap()
    }

    fn deposits(&self, transaction: CommitId, time: Timestamp, count: u32) -> EncodedEvents {
        let events: Vec<NewEvent> = (1..=count)
            .map(|amount| AccountEvent::MoneyDeposited { transaction, amount: Amount::new(amount.into()).unwrap() })
            .map(|event| NewEvent { id: self.ids.event(), time, event })
            .collect();
        codec::encode(&events)
    }
}

/// A commit of the smallest event to each of these streams, which expects it at this version: for what a backend
/// promises beside the contract.
#[must_use]
pub fn plain_commit(id: CommitId, writes: &[(AccountId, u64)]) -> Commit {
    let write = |&(stream, expected): &(AccountId, u64)| StreamWrite {
        stream,
        expected: Version::new(expected),
        events: EncodedEvents { count: 1, json: Bytes::from_static(b"[{}]") },
    };
    let writes = writes.iter().map(write).collect();
    Commit { id, time: Timestamp::EPOCH, key: None, receipt: Bytes::new(), writes }
}

/// The writes of a commit as a store should record them.
pub(super) fn traces(commit: &Commit) -> Vec<Recorded> {
    commit
        .writes
        .iter()
        .map(|write| Recorded {
            stream: write.stream,
            first_version: write.expected.next(),
            time: commit.time,
            events: write.events.clone(),
        })
        .collect()
}

/// Appends a single commit.
pub(super) async fn append_one(store: &impl EventStore, commit: &Commit) -> Result<Appended, AppendError> {
    let mut fates = store.append(vec![commit.clone()]).await;
    assert_eq!(fates.len(), 1, "one answer for one commit");
    fates.remove(0)
}

/// Appends commits, all of which must be taken.
pub(super) async fn append_new(store: &impl EventStore, commits: &[Commit]) {
    for fate in store.append(commits.to_vec()).await {
        assert_eq!(fate.unwrap(), Appended::New);
    }
}

/// A whole stream; panics if a version is missing or duplicated.
pub(super) async fn whole_stream(store: &impl EventStore, stream: AccountId) -> Vec<Recorded> {
    let question = StreamAfter { stream, after: Version::EMPTY };
    let records = store.read_streams(&[question], usize::MAX).await.unwrap().remove(0);
    let mut head = Version::EMPTY;
    for record in &records {
        assert_eq!(record.stream, stream);
        assert_eq!(record.first_version, head.next(), "a gap or a twin in stream {stream}");
        head = record.last_version();
    }
    records
}

pub(super) fn head_of(records: &[Recorded]) -> Version {
    records.last().map_or(Version::EMPTY, Recorded::last_version)
}

/// Everything a range holds, read in pages of about `limit` events.
pub(super) async fn whole_scan(store: &impl EventStore, slots: SlotRange, limit: usize) -> Vec<Recorded> {
    let (mut records, mut after) = (Vec::new(), None);
    loop {
        let page = store.scan(slots, after, limit).await.unwrap();
        assert!(page.next.is_none() || page.next != after, "a page that is not the last moves on");
        records.extend(page.records);
        match page.next {
            Some(next) => after = Some(next),
            None => return records,
        }
    }
}

/// The stream that a refusal names.
pub(super) fn conflict(fate: Result<Appended, AppendError>) -> AccountId {
    match fate {
        Err(AppendError::Conflict { stream, .. }) => stream,
        Err(AppendError::Backend(failure)) => panic!("{failure} instead of a conflict"),
        Ok(appended) => panic!("{appended:?} instead of a conflict"),
    }
}

/// Checks that a repeat returned the first commit.
pub(super) fn assert_before(fate: Result<Appended, AppendError>, first: &Commit) {
    match fate.unwrap() {
        Appended::Before(stored) => {
            assert_eq!(stored.id, first.id);
            assert_eq!(stored.time, first.time);
            assert_eq!(stored.key, first.key);
            assert_eq!(stored.receipt, first.receipt);
        }
        Appended::New => panic!("a repeat of {} was taken", first.id),
    }
}
