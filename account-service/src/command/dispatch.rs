//! The dispatch task: takes commands out of the queue, and runs those that are ready in batches, a few at a time.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use shared::id::AccountId;
use shared::store::Store;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::CommandError;
use super::claims::{Batch, Claims, Parties};
use super::desk::Desk;
use super::job::{Pending, carry_out};
use super::teller::QUEUE_MAX;

/// How many commands are ready at most, and so the largest batch. A batch of this size is encoded in a few milliseconds
/// and is far below what a store takes in one call.
const READY_MAX: usize = 1_024;

/// How many commands wait at most for accounts that are in a batch; others that would have to wait are refused.
/// Whatever the queue takes in for a single account may wait for it. Those whose accounts are free pass these.
const WAITING_MAX: usize = QUEUE_MAX;

/// How many commands are enough for a batch beside another one: what a store does once for each batch costs MongoDB as
/// much as this many documents.
const WORTH_A_BATCH: usize = 24;

/// Beside large batches, a further one has at least this fraction of their commands.
const SHARE_OF_HELD: usize = 4;

/// How long ready commands wait at most until there are enough of them for a further batch. The limit keeps a few from
/// waiting for a large batch that hangs; it is longer than most batches take that do not hang.
const COMPANY_TIME_MAX: Duration = Duration::from_millis(50);

/// How long answering the commands that were taken in may take after shutdown is requested: enough for the batches
/// under way, and one more batch of the commands that waited for them.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

const _: () = assert!(DRAIN_TIME_MAX.as_millis() >= 2 * super::patience::BATCH_TIME_MAX.as_millis());

/// The receiving end of the command queue. It outlives a dispatch that fails and is restarted.
pub(super) type Arrivals = Arc<Mutex<mpsc::Receiver<Pending>>>;

/// Carries out waiting commands in batches until shutdown, and then answers those that were taken in.
pub(super) async fn dispatch<S: Store>(
    desk: Arc<Desk<S>>,
    batches_at_once: usize,
    arrivals: Arrivals,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    let mut arrivals = arrivals.lock().await;
    let mut claims = Claims::new(READY_MAX, WAITING_MAX);
    let mut under_way = FuturesUnordered::new();
    let mut arrived = Vec::new();
    // Commands in the batches under way.
    let mut held = 0;
    let mut open = true;
    let mut drained_by: Option<Instant> = None;
    // When the ready commands leave, however few they are, once there is room for another batch.
    let mut leaves_by: Option<Instant> = None;
    while open || claims.len() > 0 || !under_way.is_empty() {
        let has_waited = leaves_by.is_some_and(|time| time <= Instant::now());
        if under_way.len() < batches_at_once
            && (has_waited || is_worth_a_batch(claims.ready(), held))
            && let Some(batch) = claims.take_batch()
        {
            held += batch.items.len();
            under_way.push(run_batch(&desk, batch));
            leaves_by = None;
        }
        if claims.ready() > 0 {
            leaves_by.get_or_insert_with(|| Instant::now() + COMPANY_TIME_MAX);
        }
        let room = claims.room();
        tokio::select! {
            biased;
            () = shutdown.cancelled(), if drained_by.is_none() => {
                arrivals.close();
                drained_by = Some(Instant::now() + DRAIN_TIME_MAX);
            }
            Some((accounts, commands)) = under_way.next() => {
                held -= commands;
                claims.finished(accounts);
            }
            received = arrivals.recv_many(&mut arrived, room), if open && room > 0 => {
                open = received > 0;
                for pending in arrived.drain(..) {
                    let command = &pending.request.command;
                    let parties = Parties::new(command.account(), command.other_account());
                    if let Err(pending) = claims.admit(parties, pending) {
                        pending.answer(Err(CommandError::Overloaded));
                    }
                }
            }
            () = until(leaves_by), if under_way.len() < batches_at_once => {}
            () = until(drained_by) => {
                warn!(commands = claims.len(), batches = under_way.len(), "commands left unanswered at shutdown");
                break;
            }
        }
    }
    // Commands that never began have no effect; customers of those under way learn that the outcome is unknown.
    let in_queue = std::iter::from_fn(|| arrivals.try_recv().ok());
    claims.into_rest().chain(in_queue).for_each(|pending| pending.answer(Err(CommandError::Unavailable)));
    Ok(())
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Whether a further batch begins at once beside those under way, which hold `held` commands. It has to be large enough
/// for what it costs the store beside its commands, unless it is as large as all others together: then those are as
/// small. With none under way, the first command begins one.
fn is_worth_a_batch(ready: usize, held: usize) -> bool {
    ready > 0 && ready >= held.min(WORTH_A_BATCH.max(held / SHARE_OF_HELD))
}

/// Carries out a batch. If it panics, its own commands get no answer, and no others are affected.
async fn run_batch<S: Store>(desk: &Desk<S>, batch: Batch<Pending>) -> (Vec<AccountId>, usize) {
    let commands = batch.items.len();
    if AssertUnwindSafe(carry_out(desk, batch.items)).catch_unwind().await.is_err() {
        error!(accounts = batch.accounts.len(), "batch panicked, its commands are not answered");
    }
    (batch.accounts, commands)
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;
    use crate::testing::{Bank, deposit};

    /// Batches hang until the drain ends: two hold a batch each when shutdown comes, and two more begin after them. Of
    /// what is left, a batch is ready, and another one is in the queue.
    #[tokio::test]
    async fn commands_that_have_not_begun_when_the_drain_ends_had_no_effect_and_are_told_so() {
        let bank = Bank::new();
        let accounts = join_all((0..6).map(|_| bank.open(0))).await;
        // From here on nothing waits for a disk: the accounts are in memory, and no append reaches the store.
        tokio::time::pause();
        bank.store.hang(u64::MAX);
        let before = bank.store.appends();
        let batches = |of: std::ops::Range<usize>| {
            let commands = accounts[of].iter().flat_map(|account| vec![deposit(*account, 1); READY_MAX]);
            join_all(commands.map(|command| bank.execute(command)))
        };
        let late = async {
            while bank.store.appends() < before + 2 {
                tokio::task::yield_now().await;
            }
            let (outcomes, ()) = tokio::join!(batches(4..6), async { bank.shutdown.cancel() });
            outcomes
        };
        let (begun, not_begun) = tokio::join!(batches(0..4), late);
        assert!(begun.iter().all(|outcome| *outcome == Err(CommandError::OutcomeUnknown)));
        assert!(not_begun.iter().all(|outcome| *outcome == Err(CommandError::Unavailable)));
    }

    #[test]
    fn a_lone_command_goes_at_once_and_a_further_batch_is_no_small_one_beside_large_ones() {
        let none = [(0, 0), (0, 64)];
        let as_large_as_the_other = [(1, 0), (1, 1), (12, 12)];
        let enough = [(24, 25), (24, 96), (100, 400)];
        let too_few = [(11, 12), (23, 24), (23, 96), (99, 400)];
        for (ready, held) in none.into_iter().chain(too_few) {
            assert!(!is_worth_a_batch(ready, held), "{ready} beside {held}");
        }
        for (ready, held) in as_large_as_the_other.into_iter().chain(enough) {
            assert!(is_worth_a_batch(ready, held), "{ready} beside {held}");
        }
    }
}
