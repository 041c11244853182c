//! Accounts are brought up to date from what is known of them: all of a batch in one call a step.

use shared::coordinate::Version;
use shared::error::BackendError;
use shared::event::{Recorded, StreamAfter, codec};
use shared::id::AccountId;
use shared::store::{Snapshot, Store};
use tracing::{error, warn};

use super::patience::STORE_CALL_TIME_MAX;
use crate::account::Account;

/// How many events of one stream a call asks for. Longer streams take several calls, so that no answer is huge.
const EVENTS_PER_READ: usize = 1_000;

/// An account as the store has it.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) id: AccountId,
    /// The account, none if it was never opened; or it cannot be read, which the log explains.
    pub(super) account: Result<Option<Account>, Unreadable>,
    /// The version that was known before, in memory or as a snapshot.
    pub(super) from: Version,
}

/// The stream holds something this release does not understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// Reads on in the streams of these accounts, each after what is known of it.
pub(super) async fn load<S: Store>(
    store: &S,
    known: Vec<(AccountId, Option<Account>)>,
) -> Result<Vec<Loaded>, BackendError> {
    let known = add_snapshots(store, known).await?;
    let mut loaded: Vec<Loaded> = known
        .into_iter()
        .map(|(id, account)| Loaded { id, from: Account::version_of(account.as_ref()), account: Ok(account) })
        .collect();
    let mut open: Vec<usize> = (0..loaded.len()).collect();
    while !open.is_empty() {
        let after: Vec<StreamAfter> = open.iter().map(|&index| loaded[index].head()).collect();
        let pages = in_time("read_streams", store.read_streams(&after, EVENTS_PER_READ)).await?;
        let mut still_open = Vec::new();
        for (&index, page) in open.iter().zip(&pages) {
            loaded[index].fold(page);
            let events: usize = page.iter().map(|recorded| recorded.events.count as usize).sum();
            if events >= EVENTS_PER_READ && loaded[index].account.is_ok() {
                still_open.push(index);
            }
        }
        open = still_open;
    }
    Ok(loaded)
}

async fn add_snapshots<S: Store>(
    store: &S,
    mut known: Vec<(AccountId, Option<Account>)>,
) -> Result<Vec<(AccountId, Option<Account>)>, BackendError> {
    let unknown: Vec<AccountId> = known.iter().filter(|(_, account)| account.is_none()).map(|(id, _)| *id).collect();
    if unknown.is_empty() {
        return Ok(known);
    }
    let mut snapshots = in_time("load_snapshots", store.load_snapshots(&unknown)).await?.into_iter();
    for (_, account) in known.iter_mut().filter(|(_, account)| account.is_none()) {
        *account = snapshots.next().flatten().as_ref().and_then(from_snapshot);
    }
    Ok(known)
}

/// A snapshot that cannot be used costs reading the stream from its beginning, nothing else.
fn from_snapshot(snapshot: &Snapshot) -> Option<Account> {
    if snapshot.schema != Account::SCHEMA {
        return None;
    }
    match serde_json::from_slice::<Account>(&snapshot.state) {
        Ok(account) if account.id == snapshot.stream && account.version == snapshot.version => Some(account),
        Ok(_) | Err(_) => {
            warn!(account = %snapshot.stream, version = %snapshot.version, "snapshot is damaged, ignoring it");
            None
        }
    }
}

impl Loaded {
    fn head(&self) -> StreamAfter {
        let after = self.account.as_ref().map_or(self.from, |account| Account::version_of(account.as_ref()));
        StreamAfter { stream: self.id, after }
    }

    fn fold(&mut self, page: &[Recorded]) {
        for recorded in page {
            let Ok(before) = &mut self.account else { return };
            self.account = fold_one(before.take(), recorded);
        }
    }
}

fn fold_one(before: Option<Account>, recorded: &Recorded) -> Result<Option<Account>, Unreadable> {
    let expected = Account::version_of(before.as_ref()).next();
    if recorded.first_version != expected {
        error!(account = %recorded.stream, found = %recorded.first_version, %expected, "stream has a gap");
        return Err(Unreadable);
    }
    let unreadable = |reason: &dyn std::fmt::Display| {
        error!(account = %recorded.stream, version = %recorded.first_version, %reason, "stream cannot be read");
        Unreadable
    };
    let events = codec::decode(&recorded.events).map_err(|error| unreadable(&error))?;
    events.iter().try_fold(before, |account, new| {
        Account::evolve(account, recorded.stream, &new.event, new.time).map(Some).map_err(|misfit| unreadable(&misfit))
    })
}

/// A read that hangs is given up; it changed nothing.
pub(super) async fn in_time<T>(
    operation: &'static str,
    call: impl Future<Output = Result<T, BackendError>>,
) -> Result<T, BackendError> {
    tokio::time::timeout(STORE_CALL_TIME_MAX, call)
        .await
        .unwrap_or_else(|_| Err(BackendError::not_done(operation, "the store did not answer in time")))
}
