//! Where commands come in: queues them, starts the tasks that carry them out, and answers questions about accounts.

use std::sync::Arc;

use shared::clock::Clock;
use shared::coordinate::Version;
use shared::error::BackendError;
use shared::event::StreamAfter;
use shared::id::{AccountId, CommitId, Ids};
use shared::store::Store;
use shared::supervise::{OnFailure, Supervisor};
use shared::telemetry::Seldom;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::cache::AccountCache;
use super::desk::{Desk, Settings};
use super::dispatch::dispatch;
use super::job::Pending;
use super::load::{Loaded, in_time, load};
use super::patience::Patience;
use super::snapshots::{self, SNAPSHOTS_WAITING_MAX};
use super::{CommandError, Outcome, Request, Transaction};
use crate::account::Account;
use crate::statement::{NoPage, Page, Place};

/// How many commands may wait for the dispatch. More would wait longer than customers do, so they are refused.
pub(super) const QUEUE_MAX: usize = 4_096;

/// A store that is away answers nobody's question.
static NOT_ANSWERED: Seldom = Seldom::new();

/// Whoever asks for a statement that cannot be shown may ask again and again.
static NOT_SHOWN: Seldom = Seldom::new();

/// Takes commands and answers questions about accounts. Cheap to clone; the clones share one queue and one cache.
#[derive(Debug)]
pub struct Teller<S> {
    desk: Arc<Desk<S>>,
    queue: mpsc::Sender<Pending>,
}

impl<S> Clone for Teller<S> {
    fn clone(&self) -> Self {
        Self { desk: Arc::clone(&self.desk), queue: self.queue.clone() }
    }
}

impl<S: Store> Teller<S> {
    /// A teller whose tasks run under the supervisor until `shutdown`. It then takes in no more commands, and answers
    /// those it has taken in.
    #[must_use]
    pub fn start(
        settings: Settings,
        store: S,
        clock: Clock,
        ids: Ids,
        supervisor: &mut Supervisor,
        shutdown: &CancellationToken,
    ) -> Self {
        let (queue, arrivals) = mpsc::channel(QUEUE_MAX);
        let (due, snapshots_due) = mpsc::channel(SNAPSHOTS_WAITING_MAX);
        let cache = AccountCache::new(settings.accounts_cached_max);
        let desk = Arc::new(Desk { store: store.clone(), clock, ids, cache, snapshots: due });
        supervisor.spawn_with(
            "command-dispatch",
            OnFailure::Restart,
            (Arc::clone(&desk), Arc::new(Mutex::new(arrivals)), shutdown.clone()),
            move |(desk, arrivals, shutdown)| dispatch(desk, settings.batches_at_once.max(1), arrivals, shutdown),
        );
        supervisor.spawn_with(
            "account-snapshots",
            OnFailure::Restart,
            (store, Arc::new(Mutex::new(snapshots_due)), shutdown.clone()),
            |(store, due, shutdown)| async move { snapshots::keep(store, &mut *due.lock().await, shutdown).await },
        );
        Self { desk, queue }
    }

    /// The generator of ids for new accounts.
    #[must_use]
    pub fn ids(&self) -> &Ids {
        &self.desk.ids
    }

    /// Carries out a command. Dropping the call withdraws the command only if its batch has not begun, which the caller
    /// cannot find out.
    ///
    /// # Errors
    /// [`CommandError`] says why there is no outcome, and whether the command may have taken effect nevertheless.
    pub async fn execute(&self, request: Request) -> Result<Outcome, CommandError> {
        let (answer, answered) = oneshot::channel();
        let pending = Pending { request, commit: self.desk.ids.commit(), attempts: 0, answer };
        self.queue.try_send(pending).map_err(|refusal| match refusal {
            TrySendError::Full(_) => CommandError::Overloaded,
            // At shutdown nothing more is taken in.
            TrySendError::Closed(_) => CommandError::Unavailable,
        })?;
        // No answer comes when the process goes down or a batch panics in the middle of an append.
        answered.await.unwrap_or(Err(CommandError::OutcomeUnknown))
    }

    /// The account as the store has it now, or nothing if it was never opened.
    ///
    /// # Errors
    /// [`CommandError::Unavailable`], also if the account has too many events to be read at once, in which case a
    /// repeat goes on where this call ended; and [`CommandError::Unreadable`].
    pub async fn account(&self, id: AccountId) -> Result<Option<Account>, CommandError> {
        self.account_within(id, &mut Patience::new()).await
    }

    async fn account_within(&self, id: AccountId, patience: &mut Patience) -> Result<Option<Account>, CommandError> {
        let until = patience.deadline();
        let read = || load(&self.desk, vec![(id, None)], until);
        let loaded = patience.ask(read).await.map_err(|failure| unavailable(&failure))?;
        let Some(Loaded { account, from, .. }) = loaded.into_iter().next() else { return Ok(None) };
        if let Ok(Some(account)) = &account {
            self.desk.cache.insert_newer(account);
            if snapshots::is_due_when_read(from, account.version) {
                self.desk.request_snapshot(account);
            }
        }
        account.map_err(CommandError::from)
    }

    /// A page of the account's statement, of at most `lines_max` lines, which begins at `from` or else with the newest
    /// line; nothing if the account was never opened, or never was at that place.
    ///
    /// # Errors
    /// [`CommandError::Unavailable`] and [`CommandError::Unreadable`].
    pub(crate) async fn statement(
        &self,
        id: AccountId,
        from: Option<Place>,
        lines_max: usize,
    ) -> Result<Option<Page>, CommandError> {
        let mut patience = Patience::new();
        let place = if let Some(place) = from {
            place
        } else {
            let Some(account) = self.account_within(id, &mut patience).await? else { return Ok(None) };
            Place::newest(&account)
        };
        let asked = [StreamAfter { stream: id, after: place.after(lines_max) }];
        let read = || in_time("read_streams", self.desk.store.read_streams(&asked, lines_max));
        let streams = patience.ask(read).await.map_err(|failure| unavailable(&failure))?;
        let records = streams.into_iter().next().unwrap_or_default();
        match Page::read(place, lines_max, &records) {
            Ok(page) => Ok(Some(page)),
            // The account was at this place, so a new primary does not show its last events yet.
            Err(NoPage::Above(version)) if from.is_none() || version <= self.version_kept(id) => {
                Err(CommandError::Unavailable)
            }
            Err(NoPage::Above(_) | NoPage::Unbalanced) if from.is_some() => Ok(None),
            Err(reason) => Err(not_shown(id, &reason)),
        }
    }

    /// The version of the account in memory, which its stream has reached.
    fn version_kept(&self, id: AccountId) -> Version {
        Account::version_of(self.desk.cache.get(id).as_ref())
    }

    /// The movement of money with this id, or nothing if there is none.
    ///
    /// # Errors
    /// [`CommandError::Unavailable`] and [`CommandError::Unreadable`].
    pub async fn transaction(&self, id: CommitId) -> Result<Option<Transaction>, CommandError> {
        let ids = [id];
        let find = || in_time("find_commits", self.desk.store.find_commits(&ids));
        let found = Patience::new().ask(find).await.map_err(|failure| unavailable(&failure))?;
        let Some(stored) = found.into_iter().next().flatten() else { return Ok(None) };
        Outcome::stored(&stored, false).map(|outcome| outcome.movement())
    }
}

fn unavailable(failure: &BackendError) -> CommandError {
    if let Some(left_out) = NOT_ANSWERED.due() {
        warn!(%failure, left_out, "the store did not answer a question");
    }
    CommandError::Unavailable
}

fn not_shown(account: AccountId, reason: &dyn std::fmt::Display) -> CommandError {
    if let Some(left_out) = NOT_SHOWN.due() {
        error!(%account, %reason, left_out, "cannot show the statement of an account");
    }
    CommandError::Unreadable
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::testing::{Bank, RoughStore, deposit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    /// Counts the warnings and errors that are logged.
    #[derive(Clone, Default)]
    struct Lines(Arc<AtomicUsize>);

    impl Subscriber for Lines {
        fn enabled(&self, line: &Metadata<'_>) -> bool {
            *line.level() <= Level::WARN
        }

        fn event(&self, _: &Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[tokio::test]
    async fn an_outage_of_the_store_fills_no_log_however_many_ask() {
        let bank = Bank::new();
        let account = bank.open(0).await;
        // From here on nothing waits for a disk: the account is in memory, and no read reaches the store.
        tokio::time::pause();
        bank.store.fail_reads(u64::MAX);
        let lines = Lines::default();
        let _guard = tracing::subscriber::set_default(lines.clone());
        tracing::callsite::rebuild_interest_cache();
        for _ in 0..100 {
            assert_eq!(bank.teller.account(account).await, Err(CommandError::Unavailable));
        }
        // One that it asks again, one that there was no answer. In a slow run, each may come again after ten seconds.
        let logged = lines.0.load(Ordering::Relaxed);
        assert!(logged <= 10, "{logged} lines");
    }

    #[tokio::test]
    async fn an_account_that_was_looked_at_is_kept_as_it_was_seen_last() {
        let here = Bank::new();
        let there = here.sibling();
        let account = here.open(5).await;
        let kept = |teller: &Teller<RoughStore>| teller.desk.cache.get(account).map(|account| account.version);
        assert_eq!(kept(&there.teller), None);
        there.teller.account(account).await.unwrap();
        assert_eq!(kept(&there.teller), Some(Version::new(1)));
        here.execute(deposit(account, 1)).await.unwrap();
        there.teller.account(account).await.unwrap();
        assert_eq!(kept(&there.teller), Some(Version::new(2)));
        let older = Account { version: Version::new(1), ..there.teller.desk.cache.get(account).unwrap() };
        there.teller.desk.cache.insert_newer(&older);
        assert_eq!(kept(&there.teller), Some(Version::new(2)));
    }
}
