//! What several workers have to write at once goes in one bulk.
//!
//! A bulk costs Elasticsearch about the same whether it has ten lines or a hundred: a request, a look at the alias, a
//! sync of its log. The workers of a process have few lines each. So a bulk of few lines waits while another such bulk
//! to the same alias is under way, and then goes with all that came for it meanwhile. A lone bulk waits for nothing,
//! and a large one goes by itself.
//!
//! TO1  Whoever hands lines in is told the fates of just these lines.
//! TO2  Lines are sent by whoever has the turn. If that caller goes away meanwhile, everybody whose lines it had taken
//!      hears that their outcome is unknown, and whoever waits has the next turn.
//! TO3  Lines that nobody waits for any more are not sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::answer::Failure;
use super::bulk::{Fate, LINES_AT_ONCE, Lines};

/// From how many lines on a bulk goes by itself.
pub(super) const ALONE_FROM: usize = 1_000;

/// The fates of lines, in order, or why they have none.
pub(super) type Told = Result<Vec<Fate>, Failure>;

/// Bulks of few lines that wait for one that is under way.
#[derive(Default)]
pub(super) struct Together {
    waiting: Mutex<Vec<Waiting>>,
    /// Of each alias to which lines are under way.
    turns: Mutex<BTreeMap<String, Arc<Turn>>>,
}

/// Whoever has it sends.
type Turn = tokio::sync::Mutex<()>;

/// Lines that were handed in for an alias.
struct Waiting {
    alias: String,
    lines: Lines,
    told: oneshot::Sender<Told>,
}

/// How many lines are whose.
#[derive(Default)]
pub(super) struct Callers(Vec<(usize, oneshot::Sender<Told>)>);

impl Callers {
    /// Tells every caller the fates of its lines (law TO1), or why there are none.
    pub(super) fn tell(self, fates: Result<Vec<Result<Fate, Failure>>, Failure>) {
        let mut fates = fates.map(Vec::into_iter);
        for (lines, told) in self.0 {
            let own = match &mut fates {
                // All of them are taken before they are looked at: the next caller's begin behind the last.
                Ok(fates) => fates.by_ref().take(lines).collect::<Vec<_>>().into_iter().collect(),
                Err(failure) => Err(failure.clone()),
            };
            // Whoever is gone does not want to know.
            _ = told.send(own);
        }
    }
}

impl Together {
    /// Hands lines in, to be asked for with [`Self::next`].
    pub(super) fn hand_in(&self, alias: &str, lines: Lines) -> oneshot::Receiver<Told> {
        let (told, asked) = oneshot::channel();
        self.waiting().push(Waiting { alias: alias.to_owned(), lines, told });
        asked
    }

    /// What became of lines that were handed in, or the turn to send them.
    pub(super) async fn next(
        &self,
        alias: &str,
        asked: &mut oneshot::Receiver<Told>,
    ) -> Result<Told, OwnedMutexGuard<()>> {
        let turn = tokio::select! {
            biased;
            told = &mut *asked => return Ok(told.unwrap_or(Err(Failure::Forsaken))),
            turn = self.turn_of(alias).lock_owned() => turn,
        };
        // The turn before may have sent them and ended in the same moment.
        match asked.try_recv() {
            Ok(told) => Ok(told),
            Err(TryRecvError::Closed) => Ok(Err(Failure::Forsaken)),
            Err(TryRecvError::Empty) => Err(turn),
        }
    }

    /// Takes what was handed in for an alias, in the order in which it came, as much as fits into one bulk.
    pub(super) fn take(&self, alias: &str) -> (Lines, Callers) {
        let mut waiting = self.waiting();
        waiting.retain(|one| !one.told.is_closed());
        let mut room = LINES_AT_ONCE;
        let taken = waiting.extract_if(.., |one| {
            let fits = one.alias == alias && one.lines.len() <= room;
            room -= if fits { one.lines.len() } else { 0 };
            fits
        });
        let (mut lines, mut callers) = (Lines::default(), Callers::default());
        for one in taken {
            callers.0.push((one.lines.len(), one.told));
            lines.append(one.lines);
        }
        (lines, callers)
    }

    fn turn_of(&self, alias: &str) -> Arc<Turn> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // What nobody has or waits for is made again when it is needed: aliases come and go with their generations.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(alias.to_owned()).or_default())
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
