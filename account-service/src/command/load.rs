//! Brings accounts up to date from what is known of them: all accounts of a batch in one call per step.
//!
//! A load has a time limit, since its longest stream may take any time: an account that is not read to its end by then
//! is left out, and the others do not wait for it. A prefix of a stream stays right, so what was read of a long stream
//! is kept after each call, and a later load goes on there. Whether a load runs out of time, fails or is dropped, it
//! loses at most the call that was under way, and repeated loads come to the end of any stream.

use shared::coordinate::Version;
use shared::error::BackendError;
use shared::event::{Recorded, StreamAfter, codec};
use shared::id::AccountId;
use shared::store::{Snapshot, Store};
use shared::telemetry::Seldom;
use tokio::time::Instant;
use tracing::{error, warn};

use super::desk::Desk;
use super::patience::STORE_CALL_TIME_MAX;
use super::{CommandError, snapshots};
use crate::account::Account;

/// How many events of one stream the first call reads, while its snapshot is loaded: most streams are short and need
/// nothing more, and of a long one at most this many events are read in vain.
const EVENTS_AT_FIRST: usize = 32;

/// How many events of one stream each further call reads at most. Longer streams take several calls, so that no answer
/// is huge. Of an account in memory that a snapshot is far ahead of, at most one such call is in vain.
const EVENTS_PER_READ: usize = 1_000;

/// How many events of all streams a further call reads at most, unless [`EVENTS_AT_FIRST`] of each are more: some
/// megabytes. An answer that takes longer than a call may last would be too late in every attempt.
const EVENTS_PER_CALL: usize = 32_000;

/// Whoever asks for an account that cannot be read may ask again and again.
static UNREADABLE: Seldom = Seldom::new();

/// An account as the store has it.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) id: AccountId,
    /// The account, none if it was never opened; or why there is no telling.
    pub(super) account: Result<Option<Account>, NotLoaded>,
    /// The version that was known before, in memory or as a snapshot, or of which a snapshot was requested meanwhile.
    pub(super) from: Version,
}

/// Why nothing can be said of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotLoaded {
    /// The stream holds something this release does not understand; what it is was logged.
    Unreadable,
    /// The time was up before the end of the stream. What was read of it is kept.
    Unfinished,
}

impl From<NotLoaded> for CommandError {
    fn from(reason: NotLoaded) -> Self {
        match reason {
            NotLoaded::Unreadable => Self::Unreadable,
            NotLoaded::Unfinished => Self::Unavailable,
        }
    }
}

/// Reads on in the streams of these accounts, each after what is known of it or kept in memory, and begins no further
/// call when the time is up. Of an unknown account, the stream and the snapshot are read concurrently, so that an
/// account with a short stream costs one round trip. Of one that is known, the snapshot is read beside the second call:
/// only then is it clear that other processes have taken the account far ahead.
pub(super) async fn load<S: Store>(
    desk: &Desk<S>,
    known: Vec<(AccountId, Option<Account>)>,
    until: Instant,
) -> Result<Vec<Loaded>, BackendError> {
    let store = &desk.store;
    let mut loaded: Vec<Loaded> =
        known.into_iter().map(|(id, account)| Loaded::after(id, account, desk.cache.get(id))).collect();
    let everything: Vec<usize> = (0..loaded.len()).collect();
    let (unknown, mut known): (Vec<usize>, Vec<usize>) =
        everything.iter().copied().partition(|&index| loaded[index].is_unknown());
    let mut open = go_on(store, &mut loaded, &everything, EVENTS_AT_FIRST, &unknown).await?;
    while !open.is_empty() {
        for &index in &open {
            loaded[index].keep(desk);
        }
        if Instant::now() >= until {
            break;
        }
        known.retain(|index| open.contains(index));
        open = go_on(store, &mut loaded, &open, events_of_each(open.len()), &known).await?;
        known.clear();
    }
    for index in open {
        loaded[index].account = Err(NotLoaded::Unfinished);
    }
    Ok(loaded)
}

/// How many events of each stream a call reads, given the number of streams.
fn events_of_each(streams: usize) -> usize {
    (EVENTS_PER_CALL / streams.max(1)).clamp(EVENTS_AT_FIRST, EVENTS_PER_READ)
}

/// Reads on in the open streams, looks for the snapshots of some accounts concurrently, and returns the streams that
/// may have more events.
async fn go_on<S: Store>(
    store: &S,
    loaded: &mut [Loaded],
    open: &[usize],
    limit_each: usize,
    looked_for: &[usize],
) -> Result<Vec<usize>, BackendError> {
    let pages = read_on(store, loaded, open, limit_each);
    let (pages, snapshots) = futures::try_join!(pages, snapshots_of(store, loaded, looked_for))?;
    let mut still_open = fold_all(loaded, open, &pages, limit_each);
    for (&index, snapshot) in looked_for.iter().zip(snapshots) {
        let goes_on = still_open.contains(&index);
        // A stream that was read to its end needs no snapshot; it can replace events that cannot be read.
        let is_wanted = goes_on || loaded[index].account.is_err();
        if is_wanted && loaded[index].jump(snapshot.as_ref().and_then(from_snapshot)) && !goes_on {
            still_open.push(index);
        }
    }
    Ok(still_open)
}

async fn read_on<S: Store>(
    store: &S,
    loaded: &[Loaded],
    open: &[usize],
    limit_each: usize,
) -> Result<Vec<Vec<Recorded>>, BackendError> {
    let after: Vec<StreamAfter> = open.iter().map(|&index| loaded[index].head()).collect();
    in_time("read_streams", store.read_streams(&after, limit_each)).await
}

/// Folds the pages of the open streams, and returns the streams that may have more events.
fn fold_all(loaded: &mut [Loaded], open: &[usize], pages: &[Vec<Recorded>], limit_each: usize) -> Vec<usize> {
    let mut still_open = Vec::new();
    for (&index, page) in open.iter().zip(pages) {
        loaded[index].fold(page);
        let events: usize = page.iter().map(|recorded| recorded.events.count as usize).sum();
        if events >= limit_each && loaded[index].account.is_ok() {
            still_open.push(index);
        }
    }
    still_open
}

async fn snapshots_of<S: Store>(
    store: &S,
    loaded: &[Loaded],
    looked_for: &[usize],
) -> Result<Vec<Option<Snapshot>>, BackendError> {
    if looked_for.is_empty() {
        return Ok(Vec::new());
    }
    let streams: Vec<AccountId> = looked_for.iter().map(|&index| loaded[index].id).collect();
    in_time("load_snapshots", store.load_snapshots(&streams)).await
}

/// The account of a snapshot. One that cannot be used only costs reading the stream from its beginning.
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
    /// What is known of an account, or what is kept of it in memory if that is newer.
    fn after(id: AccountId, known: Option<Account>, kept: Option<Account>) -> Self {
        let newest = [known, kept].into_iter().flatten().max_by_key(|account| account.version);
        Self { id, from: Account::version_of(newest.as_ref()), account: Ok(newest) }
    }

    /// Keeps what was read so far of a stream that goes on.
    fn keep<S>(&mut self, desk: &Desk<S>) {
        let Ok(Some(account)) = &self.account else { return };
        desk.cache.insert_newer(account);
        if snapshots::is_due_while_read(self.from, account.version) && desk.request_snapshot(account) {
            self.from = account.version;
        }
    }

    fn is_unknown(&self) -> bool {
        matches!(self.account, Ok(None))
    }

    /// Continues from a snapshot if it is ahead of what was folded, and returns whether it was.
    fn jump(&mut self, snapshot: Option<Account>) -> bool {
        let version = Account::version_of(snapshot.as_ref());
        let is_ahead = version > self.head().after;
        if is_ahead {
            self.from = version;
            self.account = Ok(snapshot);
        }
        is_ahead
    }

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

fn fold_one(before: Option<Account>, recorded: &Recorded) -> Result<Option<Account>, NotLoaded> {
    let unreadable = |reason: &dyn std::fmt::Display| {
        if let Some(left_out) = UNREADABLE.due() {
            let (account, version) = (recorded.stream, recorded.first_version);
            error!(%account, %version, %reason, left_out, "cannot read the stream");
        }
        NotLoaded::Unreadable
    };
    let expected = Account::version_of(before.as_ref()).next();
    if recorded.first_version != expected {
        return Err(unreadable(&format_args!("it has a gap, {expected} is missing")));
    }
    let events = codec::decode(&recorded.events).map_err(|error| unreadable(&error))?;
    events.iter().try_fold(before, |account, new| {
        Account::evolve(account, recorded.stream, &new.event, new.time).map(Some).map_err(|misfit| unreadable(&misfit))
    })
}

/// Gives up a call that hangs: a read, which changed nothing, or the save of a snapshot, which no command depends on.
pub(super) async fn in_time<T>(
    operation: &'static str,
    call: impl Future<Output = Result<T, BackendError>>,
) -> Result<T, BackendError> {
    tokio::time::timeout(STORE_CALL_TIME_MAX, call)
        .await
        .unwrap_or_else(|_| Err(BackendError::not_done(operation, "the store did not answer in time")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::join_all;

    use super::super::patience::{BATCH_TIME_MAX, LOAD_TIME_MAX};
    use super::*;
    use crate::testing::{Bank, deposit, transfer};

    #[tokio::test]
    async fn a_load_of_many_streams_asks_for_no_more_than_a_call_can_answer() {
        const ACCOUNTS: usize = 100;
        let bank = Bank::new();
        let accounts = join_all((0..ACCOUNTS).map(|_| bank.open(0))).await;
        // More than the first read asks for.
        let deposits = accounts.iter().flat_map(|account| vec![deposit(*account, 1); EVENTS_AT_FIRST]);
        assert!(join_all(deposits.map(|command| bank.execute(command))).await.iter().all(Result::is_ok));
        let stranger = bank.sibling();
        let outcomes = join_all(accounts.iter().map(|account| stranger.execute(deposit(*account, 1)))).await;
        assert!(outcomes.iter().all(Result::is_ok));
        let asked_max = bank.store.events_asked_max();
        assert!((EVENTS_AT_FIRST * ACCOUNTS + 1..=EVENTS_PER_CALL).contains(&asked_max), "{asked_max} events");
        assert_eq!((events_of_each(1), events_of_each(2_048)), (EVENTS_PER_READ, EVENTS_AT_FIRST));
    }

    #[tokio::test]
    async fn an_account_that_others_have_taken_far_ahead_goes_on_from_its_snapshot() {
        let bank = Bank::new();
        let account = bank.open(0).await;
        let stranger = bank.sibling();
        assert_eq!(stranger.version(account).await, Version::new(1));
        bank.deposit_thousands(account, 5).await;
        // Who has read that much leaves a snapshot.
        assert_eq!(bank.balance(account).await, 5_000);
        assert_eq!(bank.snapshot(account).await.version, Version::new(5_001));
        let before = bank.store.events_asked();
        assert_eq!(stranger.balance(account).await, 5_000);
        let asked = bank.store.events_asked() - before;
        let once_in_vain_and_once_to_find_the_end = EVENTS_AT_FIRST + 2 * EVENTS_PER_READ;
        assert!(asked <= once_in_vain_and_once_to_find_the_end, "{asked} events");
    }

    #[tokio::test]
    async fn a_load_that_is_dropped_loses_nothing_that_it_has_read() {
        let bank = Bank::new();
        let account = bank.open_long(20).await;
        bank.store.slow_reads(Duration::from_millis(5));
        let before = bank.store.events_asked();
        let has_read_most = async {
            while bank.store.events_asked() - before < 12_000 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            _ = bank.teller.account(account) => panic!("it has more to read"),
            () = has_read_most => {}
        }
        assert!(bank.snapshot(account).await.version > Version::new(10_000), "the next process goes on there");
        let dropped_after = bank.store.events_asked();
        assert_eq!(bank.balance(account).await, 20_000);
        let asked = bank.store.events_asked() - dropped_after;
        assert!(asked < 10_000, "{asked} events were asked for again");
    }

    #[tokio::test]
    async fn what_took_long_to_read_gets_a_snapshot_before_the_account_would_have_one() {
        let bank = Bank::new();
        for looks in [true, false] {
            let account = bank.open(0).await;
            assert!(join_all((0..200).map(|_| bank.execute(deposit(account, 1)))).await.iter().all(Result::is_ok));
            let stranger = bank.sibling();
            if looks {
                stranger.balance(account).await;
            } else {
                stranger.execute(deposit(account, 1)).await.unwrap();
            }
            assert!(bank.snapshot(account).await.version > Version::new(200));
        }
    }

    #[tokio::test]
    async fn a_long_account_does_not_hold_up_the_others_of_its_batch() {
        let bank = Bank::new();
        let (long, short) = (bank.open_long(15).await, bank.open(0).await);
        let stranger = bank.sibling();
        assert_eq!(stranger.balance(short).await, 0);
        bank.store.slow_reads(BATCH_TIME_MAX / 12);
        let began = Instant::now();
        let (left_out, transfer, taken) = tokio::join!(
            stranger.execute(deposit(long, 1)),
            stranger.execute(transfer(long, short, 1)),
            stranger.execute(deposit(short, 1)),
        );
        let one_load = LOAD_TIME_MAX * 7 / 4;
        assert!(began.elapsed() < one_load && one_load < BATCH_TIME_MAX, "{:?}", began.elapsed());
        assert_eq!([left_out, transfer], [Err(CommandError::Unavailable), Err(CommandError::Unavailable)]);
        assert_eq!(taken.unwrap().receipt.account().balance.get(), 1);

        bank.store.slow_reads(Duration::ZERO);
        let before = bank.store.events_asked();
        let receipt = stranger.execute(deposit(long, 1)).await.unwrap().receipt;
        assert_eq!(receipt.account().balance.get(), 15_001, "the first one had no effect");
        let asked = bank.store.events_asked() - before;
        assert!(asked < 15_000, "{asked} events: the second load began where the first ended");
    }
}
