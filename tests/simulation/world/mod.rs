//! The simulated world: the four backends in memory, on one thread, controlled by a seed.
//!
//! SW1  It can do everything a real backend may do: be slow, fail before or after its effect, repeat a call, stop in
//!      the middle of one, lose what the laws of the ports allow to be lost.
//! SW2  Nothing happens that the laws forbid: without faults the world passes the contract suites of the ports.
//! SW3  The same seed gives the same world: no thread, no clock of the machine, no unordered map.
//! SW4  Every effect is judged as it happens, by the [`audit`], which shares no code with the services.

pub(crate) mod audit;
mod checkpoint;
pub(crate) mod fault;
pub(crate) mod fold;
pub(crate) mod generation;
pub(crate) mod index;
pub(crate) mod job;
pub(crate) mod lease;
pub(crate) mod log;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod register;
mod search;
pub(crate) mod store;
pub(crate) mod trace;
mod writing;

use std::sync::{Arc, Mutex, PoisonError};

use shared::clock::Clock;
use shared::id::{AccountId, Ids};
use tokio::sync::Notify;
use tokio::time::Instant;

use audit::Audit;
use fault::{Fault, Faults};
use generation::IndexState;
use index::WorldIndex;
use lease::{LeaseState, WorldLeases};
use log::{LogState, WorldLog};
use process::{Life, Line};
use random::Random;
use register::RegisterState;
use store::{StoreState, WorldStore};
use trace::Trace;

/// The world, shared by everything in it.
#[derive(Clone)]
pub(crate) struct World(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    start: Instant,
    store_grew: Notify,
    log_moved: Notify,
    violated: Notify,
}

/// The state of everything in the world.
pub(crate) struct State {
    pub(crate) random: Random,
    pub(crate) faults: Faults,
    pub(crate) trace: Trace,
    pub(crate) audit: Audit,
    pub(crate) store: StoreState,
    pub(crate) registers: RegisterState,
    pub(crate) log: LogState,
    pub(crate) leases: LeaseState,
    pub(crate) index: IndexState,
    lives: Vec<Life>,
    calls: u64,
    /// The call that fails when it is made next.
    fails_next: Option<&'static str>,
    start: Instant,
}

/// How many calls a run makes at most: only a loop without a pause makes more.
const CALLS_MAX: u64 = 200_000;

/// What one process sees of the world.
pub(crate) struct ProcessPorts {
    /// The process's number, for [`World::crash`] and [`World::freeze`].
    pub(crate) number: usize,
    pub(crate) store: WorldStore,
    pub(crate) log: WorldLog,
    pub(crate) leases: WorldLeases,
    pub(crate) index: WorldIndex,
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
}

impl World {
    /// A world with nothing in it; must be made inside a runtime whose time is paused.
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let start = Instant::now();
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                random: Random::new(seed),
                faults,
                trace: Trace::default(),
                audit: Audit::default(),
                store: StoreState::default(),
                registers: RegisterState::default(),
                log: LogState::default(),
                leases: LeaseState::default(),
                index: IndexState::default(),
                lives: Vec::new(),
                calls: 0,
                fails_next: None,
                start,
            }),
            start,
            store_grew: Notify::new(),
            log_moved: Notify::new(),
            violated: Notify::new(),
        }))
    }

    /// Starts a process. A crashed process is started again as another one of the same name.
    pub(crate) fn process(&self, name: &str) -> ProcessPorts {
        let (number, seed) = self.with(|state| {
            let skew = if state.strikes(Fault::Skew) { process::skew(&mut state.random) } else { 0 };
            state.lives.push(Life::new(name.to_owned(), skew));
            (state.lives.len() - 1, state.random.next())
        });
        let line = Line { world: self.clone(), process: number };
        let clock = line.clock();
        ProcessPorts {
            number,
            store: WorldStore::new(line.clone()),
            log: WorldLog::new(line.clone()),
            leases: WorldLeases::new(line.clone()),
            index: WorldIndex::new(line.clone()),
            ids: Ids::seeded(clock.clone(), seed),
            clock,
        }
    }

    /// Reads or changes the world, instantly.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = act(&mut state);
        if state.audit.violation().is_some() {
            self.0.violated.notify_one();
        }
        answer
    }

    /// Returns once a law is broken.
    pub(crate) async fn violated(&self) {
        self.0.violated.notified().await;
    }

    /// Ends all faults.
    pub(crate) fn heal(&self) {
        self.with(|state| {
            state.faults.heal();
            state.log.make_room();
            state.lives.iter_mut().for_each(Life::heal);
            state.note(trace::CHAOS, "healed", 0, 0);
        });
    }

    /// When the world began.
    pub(crate) fn start(&self) -> Instant {
        self.0.start
    }
}

impl State {
    /// Whether a fault strikes at this occasion.
    pub(crate) fn strikes(&mut self, fault: Fault) -> bool {
        let strikes = self.random.chance(self.faults.rate(fault));
        if strikes {
            self.trace.count(fault.name());
        }
        strikes
    }

    /// Counts a call; returns whether there were too many.
    fn count_call(&mut self, verb: &'static str) -> bool {
        self.calls += 1;
        let too_many = self.calls > CALLS_MAX;
        if too_many {
            self.audit.violate("liveness: calls without end", || verb.to_owned());
        }
        too_many
    }

    /// Notes that something happened.
    pub(crate) fn note(&mut self, process: usize, label: &'static str, subject: u64, reached: u64) {
        let at = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.trace.note(at, process, label, subject, reached);
    }

    /// The names of the processes, by their numbers.
    pub(crate) fn names(&self) -> Vec<String> {
        self.lives.iter().enumerate().map(|(number, life)| format!("{}#{number}", life.name)).collect()
    }

    /// Microseconds since 1970 by the world's own clock.
    fn wall_micros(&self) -> i64 {
        process::wall(self.start)
    }
}

/// The end of an account's id, which is random, as a number for traces.
pub(crate) fn short(account: AccountId) -> u64 {
    let [.., high, low] = *account.as_bytes();
    u64::from(high) << 8 | u64::from(low)
}
