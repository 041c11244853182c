//! One batch of commands, from loading their accounts to answering them.
//!
//! A round loads the accounts that are not known, decides, appends and settles. A command that could not be settled
//! goes into the next round: another process was faster, its refusal was based on an old state, or an earlier command
//! is decided again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use metrics::{counter, histogram};
use shared::error::BackendError;
use shared::id::CommitId;
use shared::store::{Commit, IdempotencyKey, Store, StoredCommit};
use shared::telemetry::Seldom;
use shared::telemetry::metric::{APPEND_CONFLICTS, COMMAND_BATCH};
use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::append::{Fate, until_known};
use super::books::Books;
use super::decide::{Accepted, Verdict, decide_batch};
use super::desk::Desk;
use super::load::{in_time, load};
use super::patience::Patience;
use super::{CommandError, Outcome, Request};

/// How often a command is decided before it is answered with a conflict: other processes were faster every time.
const ATTEMPTS_MAX: u32 = 16;

/// Rounds that begin without a pause. Before later ones a pause, a little longer each time, lets the others through.
const ATTEMPTS_AT_ONCE: u32 = 2;

/// A store that is away fails every batch.
static NOT_LOADED: Seldom = Seldom::new();
static NOT_LOOKED_UP: Seldom = Seldom::new();

/// A command that was taken in and is not answered yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) request: Request,
    /// The id its commit has in every attempt.
    pub(super) commit: CommitId,
    pub(super) attempts: u32,
    pub(super) answer: oneshot::Sender<Result<Outcome, CommandError>>,
}

impl Pending {
    pub(super) fn answer(self, answer: Result<Outcome, CommandError>) {
        if self.answer.send(answer).is_err() {
            debug!(commit = %self.commit, "the client disconnected before the answer");
        }
    }

    /// Answers a request whose key or id turned out to be taken by this commit.
    fn answer_stored(self, stored: &StoredCommit) {
        let same_request = stored.id == self.commit || stored.key == self.request.key;
        let answer =
            if same_request { Outcome::stored(stored, stored.id != self.commit) } else { Err(CommandError::KeyReused) };
        self.answer(answer);
    }
}

/// Decides and appends the commands, and answers every one of them.
pub(super) async fn carry_out<S: Store>(desk: &Desk<S>, batch: Vec<Pending>) {
    let mut pending = still_wanted(batch);
    if pending.is_empty() {
        return;
    }
    histogram!(COMMAND_BATCH.name).record(f64::from(u32::try_from(pending.len()).unwrap_or(u32::MAX)));
    let (taken, unknown) = (BTreeMap::new(), BTreeSet::new());
    let mut job = Job { desk, books: Books::default(), patience: Patience::new(), taken, unknown };
    while !pending.is_empty() {
        pending = job.round(pending).await;
        if job.patience.is_over() {
            job.give_up(std::mem::take(&mut pending));
        }
    }
    job.books.keep(desk);
}

/// The commands whose customers still wait. The others were not begun, so they have no effect.
fn still_wanted(batch: Vec<Pending>) -> Vec<Pending> {
    let commands = batch.len();
    let wanted: Vec<Pending> = batch.into_iter().filter(|pending| !pending.answer.is_closed()).collect();
    if wanted.len() < commands {
        debug!(dropped = commands - wanted.len(), "clients disconnected before their commands began");
    }
    wanted
}

struct Job<'a, S> {
    desk: &'a Desk<S>,
    books: Books,
    patience: Patience,
    /// The commits that hold the keys of this batch's commands.
    taken: BTreeMap<IdempotencyKey, StoredCommit>,
    /// The keys of commits whose outcome is unknown.
    unknown: BTreeSet<IdempotencyKey>,
}

/// A command that was refused on certain pages, and why.
type Refusal = (Pending, CommandError);

impl<S: Store> Job<'_, S> {
    /// Runs one round; returns the commands that have to be decided again.
    async fn round(&mut self, pending: Vec<Pending>) -> Vec<Pending> {
        for pending in &pending {
            self.books.open(&pending.request.command, &self.desk.cache);
        }
        if let Err(failure) = self.read_on().await {
            if let Some(left_out) = NOT_LOADED.due() {
                warn!(%failure, commands = pending.len(), left_out, "cannot load accounts");
            }
            self.give_up(pending);
            return Vec::new();
        }
        let decisions = decide_batch(&self.books, &pending, self.desk.clock.now(), &self.desk.ids);
        let fates = until_known(&self.desk.store, &decisions.commits, &mut self.patience).await;
        let mut appended = decisions.commits.into_iter().zip(fates);
        let (mut again, mut refused) = (Vec::new(), Vec::new());
        for (pending, verdict) in pending.into_iter().zip(decisions.verdicts) {
            match verdict {
                Verdict::Accepted(accepted) => {
                    let (commit, fate) = appended.next().expect("every accepted command has a commit and a fate");
                    again.extend(self.settle(pending, accepted, commit, fate));
                }
                Verdict::Refused(error) if !error.is_of_a_state() || self.is_certain(&pending) => {
                    refused.push((pending, error));
                }
                Verdict::Refused(_) | Verdict::AfterDoubted => {
                    self.doubt(&pending);
                    again.push(pending);
                }
                Verdict::SameKey => again.extend(self.answer_alike(pending)),
            }
        }
        self.refuse(refused).await;
        give_way(again).await
    }

    /// Brings the accounts that are behind up to date, except those whose streams take too long.
    async fn read_on(&mut self) -> Result<(), BackendError> {
        if self.books.to_load().next().is_none() {
            return Ok(());
        }
        let until = self.patience.load_until();
        let loaded = self.patience.ask(|| load(self.desk, self.books.to_load().collect(), until)).await?;
        self.patience.reset();
        self.books.update(loaded);
        Ok(())
    }

    /// Answers a command by the fate of its commit, or returns it if it has to be decided again.
    fn settle(&mut self, pending: Pending, accepted: Accepted, commit: Commit, fate: Fate) -> Option<Pending> {
        if !matches!(fate, Fate::Taken) {
            self.doubt(&pending);
        }
        match fate {
            Fate::Taken => {
                let Commit { id, time, key, receipt, .. } = commit;
                self.books.confirm(accepted.after);
                self.remember(StoredCommit { id, time, key, receipt });
                let receipt = accepted.receipt;
                pending.answer(Ok(Outcome { transaction: id, time, receipt, replayed: false }));
            }
            Fate::Before(stored) => {
                pending.answer_stored(&stored);
                self.remember(*stored);
            }
            Fate::Conflict => {
                counter!(APPEND_CONFLICTS.name).increment(1);
                return Some(pending);
            }
            Fate::NotTaken => self.give_up([pending]),
            Fate::Unknown => {
                self.unknown.extend(commit.key.map(|keyed| keyed.key));
                pending.answer(Err(CommandError::OutcomeUnknown));
            }
        }
        None
    }

    fn remember(&mut self, stored: StoredCommit) {
        if let Some(keyed) = &stored.key {
            self.taken.insert(keyed.key.clone(), stored);
        }
    }

    /// Answers a command with the commit of the one with the same key, or returns it if there is no such commit.
    fn answer_alike(&self, pending: Pending) -> Option<Pending> {
        match pending.request.key.as_ref().and_then(|keyed| self.taken.get(&keyed.key)) {
            Some(stored) => {
                pending.answer_stored(stored);
                None
            }
            None => Some(pending),
        }
    }

    /// Answers commands that cannot be decided for now. Nothing was written, unless for another with the same key.
    fn give_up(&self, pending: impl IntoIterator<Item = Pending>) {
        for pending in pending {
            let error = self.unless_unknown(&pending, CommandError::Unavailable);
            pending.answer(Err(error));
        }
    }

    /// This error, or an unknown outcome if another command with the key may have been taken.
    fn unless_unknown(&self, pending: &Pending, error: CommandError) -> CommandError {
        let may_be_taken = pending.request.key.as_ref().is_some_and(|keyed| self.unknown.contains(&keyed.key));
        if may_be_taken { CommandError::OutcomeUnknown } else { error }
    }

    fn is_certain(&self, pending: &Pending) -> bool {
        pending.request.command.accounts().all(|account| self.books.is_certain(account))
    }

    fn doubt(&mut self, pending: &Pending) {
        for account in pending.request.command.accounts() {
            self.books.doubt(account);
        }
    }

    /// Answers refused commands. One with a key may repeat a request that was taken, and be refused for that very
    /// reason; it is answered with the first receipt.
    async fn refuse(&mut self, refused: Vec<Refusal>) {
        let (keyed, plain): (Vec<Refusal>, Vec<Refusal>) =
            refused.into_iter().partition(|(pending, _)| pending.request.key.is_some());
        for (pending, error) in plain {
            pending.answer(Err(error));
        }
        if keyed.is_empty() {
            return;
        }
        let keys: Vec<IdempotencyKey> = keyed
            .iter()
            .filter_map(|(pending, _)| pending.request.key.as_ref())
            .map(|keyed| keyed.key.clone())
            .collect();
        match self.patience.ask(|| in_time("find_keys", self.desk.store.find_keys(&keys))).await {
            Ok(found) => {
                for ((pending, error), stored) in keyed.into_iter().zip(found) {
                    if let Some(stored) = stored {
                        pending.answer_stored(&stored);
                    } else {
                        let error = self.unless_unknown(&pending, error);
                        pending.answer(Err(error));
                    }
                }
            }
            Err(failure) => {
                if let Some(left_out) = NOT_LOOKED_UP.due() {
                    let commands = keyed.len();
                    warn!(%failure, commands, left_out, "cannot look up the idempotency keys of rejected commands");
                }
                self.give_up(keyed.into_iter().map(|(pending, _)| pending));
            }
        }
    }
}

/// Counts the attempt, answers the commands that had their last, and pauses to let competitors of the others through.
async fn give_way(again: Vec<Pending>) -> Vec<Pending> {
    let mut next = Vec::with_capacity(again.len());
    for mut pending in again {
        pending.attempts += 1;
        if pending.attempts < ATTEMPTS_MAX {
            next.push(pending);
        } else {
            pending.answer(Err(CommandError::Conflict));
        }
    }
    if let Some(first) = next.first().filter(|first| first.attempts > ATTEMPTS_AT_ONCE) {
        // The last byte of a commit's id is random: enough jitter to separate two equal competitors.
        let luck = u32::from(first.commit.as_bytes()[15] % 8);
        tokio::time::sleep(Duration::from_millis(u64::from(first.attempts + luck))).await;
    }
    next
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;
    use tokio::time::Instant;

    use super::super::patience::{BATCH_TIME_MAX, STORE_CALL_TIME_MAX};
    use super::*;
    use crate::testing::{Bank, deposit};

    #[tokio::test]
    async fn a_command_whose_customer_has_gone_is_not_begun() {
        let bank = Bank::new();
        let account = bank.open(0).await;
        let before = bank.store.appends();
        for _ in 0..2 {
            let impatient = pin!(bank.execute(deposit(account, 5)));
            assert!(poll!(impatient).is_pending(), "it waits for its turn");
        }
        // This one shares their batch.
        bank.execute(deposit(account, 1)).await.unwrap();
        {
            let impatient = pin!(bank.execute(deposit(account, 5)));
            assert!(poll!(impatient).is_pending(), "it waits for its turn");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        // A batch whose customers have all gone releases its account too.
        bank.execute(deposit(account, 1)).await.unwrap();
        assert_eq!((bank.balance(account).await, bank.store.appends() - before), (2, 2));
    }

    #[tokio::test]
    async fn a_command_whose_key_may_be_taken_is_not_said_to_have_no_effect() {
        let bank = Bank::new();
        let account = bank.open(0).await;
        let before = bank.store.appends();
        bank.store.lose_answers_for_good(1);
        // The second one waits for the fate of the first, and is appended when that stays unknown.
        let the_second_fails = async {
            while bank.store.appends() == before {
                tokio::task::yield_now().await;
            }
            bank.store.break_down(1);
        };
        let (first, second, ()) = tokio::join!(
            bank.execute_keyed("k", deposit(account, 1)),
            bank.execute_keyed("k", deposit(account, 1)),
            the_second_fails,
        );
        assert_eq!([first, second], [Err(CommandError::OutcomeUnknown), Err(CommandError::OutcomeUnknown)]);
        assert_eq!(bank.store.appends() - before, 2);
    }

    #[tokio::test]
    async fn a_batch_that_is_outrun_again_and_again_ends_with_its_time() {
        let bank = Bank::new();
        let account = bank.open(0).await;
        // From here on nothing waits for a disk: the account is in memory, and no append reaches the store.
        tokio::time::pause();
        bank.store.outrun(u64::from(ATTEMPTS_MAX));
        let began = Instant::now();
        assert_eq!(bank.execute(deposit(account, 1)).await, Err(CommandError::Unavailable));
        assert!(began.elapsed() <= BATCH_TIME_MAX + STORE_CALL_TIME_MAX, "{:?}", began.elapsed());
        tokio::time::resume();
        bank.store.outrun(0);
        bank.execute(deposit(account, 1)).await.unwrap();
    }
}
