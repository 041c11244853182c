//! Small bulks of several workers are sent as one.
//!
//! A bulk costs Elasticsearch about the same whether it has ten lines or a hundred: a request, a lookup of the alias, a
//! sync of its log. The workers of a process have few lines each. So a small bulk waits while another one to the same
//! alias is in flight, and then goes with all that arrived for it meanwhile. A lone bulk never waits, and a large one
//! goes by itself.
//!
//! TO1  Each caller learns the fates of exactly the lines it handed in.
//! TO2  The caller that has the turn sends the lines. If it goes away meanwhile, every caller whose lines it had taken
//!      learns that their outcome is unknown, and a waiting caller has the next turn.
//! TO3  Lines whose caller has gone away are not sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::answer::Failure;
use super::bulk::{Fate, LINES_AT_ONCE, Lines};

/// A bulk of at least this many lines goes by itself.
pub(super) const ALONE_FROM: usize = 1_000;

/// The fates of lines, in order, or why they have none.
pub(super) type Fates = Result<Vec<Fate>, Failure>;

/// Small bulks that wait for one that is in flight.
#[derive(Default)]
pub(super) struct Together {
    waiting: Mutex<Vec<Waiting>>,
    /// One for each alias to which lines are in flight.
    turns: Mutex<BTreeMap<String, Arc<Turn>>>,
}

/// The caller that has it sends.
type Turn = tokio::sync::Mutex<()>;

/// Lines that were handed in for an alias.
struct Waiting {
    alias: String,
    lines: Lines,
    caller: oneshot::Sender<Fates>,
}

/// The callers, each with its number of lines.
#[derive(Default)]
pub(super) struct Callers(Vec<(usize, oneshot::Sender<Fates>)>);

impl Callers {
    /// Tells every caller the fates of its lines (law TO1), or why there are none.
    pub(super) fn tell(self, fates: Result<Vec<Result<Fate, Failure>>, Failure>) {
        let mut fates = fates.map(Vec::into_iter);
        for (lines, caller) in self.0 {
            let own = match &mut fates {
                // All of them are taken before any is looked at: the next caller's begin after the last.
                Ok(fates) => fates.by_ref().take(lines).collect::<Vec<_>>().into_iter().collect(),
                Err(failure) => Err(failure.clone()),
            };
            // A caller that has gone away needs no answer.
            _ = caller.send(own);
        }
    }
}

impl Together {
    /// Hands in lines; [`Self::next`] then yields their fates.
    pub(super) fn hand_in(&self, alias: &str, lines: Lines) -> oneshot::Receiver<Fates> {
        let (caller, asked) = oneshot::channel();
        self.waiting().push(Waiting { alias: alias.to_owned(), lines, caller });
        asked
    }

    /// The fates of lines that were handed in, or the turn to send them.
    pub(super) async fn next(
        &self,
        alias: &str,
        asked: &mut oneshot::Receiver<Fates>,
    ) -> Result<Fates, OwnedMutexGuard<()>> {
        let turn = tokio::select! {
            biased;
            fates = &mut *asked => return Ok(fates.unwrap_or(Err(Failure::Forsaken))),
            turn = self.turn_of(alias).lock_owned() => turn,
        };
        // The previous turn may have sent them and ended at the same moment.
        match asked.try_recv() {
            Ok(fates) => Ok(fates),
            Err(TryRecvError::Closed) => Ok(Err(Failure::Forsaken)),
            Err(TryRecvError::Empty) => Err(turn),
        }
    }

    /// Takes the lines handed in for an alias, in order of arrival, as many as fit into one bulk.
    pub(super) fn take(&self, alias: &str) -> (Lines, Callers) {
        let mut waiting = self.waiting();
        waiting.retain(|one| !one.caller.is_closed());
        let mut room = LINES_AT_ONCE;
        let taken = waiting.extract_if(.., |one| {
            let fits = one.alias == alias && one.lines.len() <= room;
            room -= if fits { one.lines.len() } else { 0 };
            fits
        });
        let (mut lines, mut callers) = (Lines::default(), Callers::default());
        for one in taken {
            callers.0.push((one.lines.len(), one.caller));
            lines.append(one.lines);
        }
        (lines, callers)
    }

    fn turn_of(&self, alias: &str) -> Arc<Turn> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Turns that are neither held nor awaited are created again when needed: aliases come and go with generations.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(alias.to_owned()).or_default())
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
