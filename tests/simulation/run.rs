//! One schedule, from its seed to its verdict.
//!
//! Faults strike while the clients are at work. Then everything heals, every process is started again, and the bank has
//! to come to rest in bounded virtual time. Finally it is judged as a whole, beside the checks of its laws at every
//! step.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic;
use std::sync::{Arc, Once};
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::chaos::Chaos;
use crate::client::Client;
use crate::fleet::Fleet;
use crate::journal::Journal;
use crate::operator::Operator;
use crate::options::Options;
use crate::verdict;
use crate::world::World;
use crate::world::random::Random;

/// How long all clients may take together.
const CLIENTS_TIME_MAX: Duration = Duration::from_hours(1);

/// How long faults go on after the last client is done.
const AFTERMATH_MS_MAX: u64 = 4_000;

/// How long the healed bank may take to come to rest.
const REST_TIME_MAX: Duration = Duration::from_mins(5);

/// The interval between two checks whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How many lines of its trace a failed run shows.
const TAIL_LINES: usize = 120;

/// The outcome of one schedule.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    /// A hash of everything that happened.
    pub(crate) trace: u64,
    /// How often each kind of thing happened.
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// How much virtual time passed.
    pub(crate) lasted: Duration,
    /// The broken law, the options, and the end of the trace.
    pub(crate) failure: Option<String>,
}

/// Runs the schedule of a seed.
pub(crate) fn run(seed: u64) -> Report {
    listen_for_panics();
    PANICS.set(Some(Vec::new()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let options = Options::draw(seed);
    let report = runtime.expect("a runtime without I/O needs nothing").block_on(observe(options));
    let panics = PANICS.take().unwrap_or_default();
    match panics.first() {
        Some(panic) => Report { failure: Some(format!("seed {seed}: a task panicked: {panic}")), ..report },
        None => report,
    }
}

async fn observe(options: Options) -> Report {
    let seed = options.seed;
    let began = Instant::now();
    let world = World::new(seed ^ 0x5eed, options.faults.clone());
    let outcome = tokio::select! {
        biased;
        () = world.violated() => Ok(()),
        outcome = act(&world, &options) => outcome,
    };
    world.with(|state| {
        let broken = state.audit.violation().map(str::to_owned).or_else(|| outcome.err());
        let failure = broken.map(|law| {
            let tail = state.trace.tail(TAIL_LINES, &state.names());
            format!("seed {seed}: {law}\n  {}\n{tail}", options.describe())
        });
        Report {
            seed,
            trace: state.trace.hash(),
            counts: state.trace.counts().clone(),
            lasted: began.elapsed(),
            failure,
        }
    })
}

async fn act(world: &World, options: &Options) -> Result<(), String> {
    let mut random = Random::new(options.seed ^ 0xac7);
    let fleet = Fleet::start(world.clone(), Arc::new(options.clone()));
    let journal = Journal::default();
    // The operator heals what is found, as the comparison of heads does.
    let operator = options.compare_heads.then(|| Operator::new(world, options.partitions));
    let chaos = spawn(
        Chaos {
            random: random.split(),
            world: world.clone(),
            fleet: fleet.clone(),
            operator: operator.clone(),
            journal: journal.clone(),
            options: options.clone(),
        }
        .run(),
    );
    serve_clients(world, options, &fleet, &journal, &mut random).await?;
    sleep(Duration::from_millis(random.below(AFTERMATH_MS_MAX))).await;
    chaos.abort();
    world.heal();
    fleet.start_missing();
    come_to_rest(world).await?;
    if let Some(operator) = operator {
        clear_up(world, &operator).await?;
        let customer = Client::new(options.clients as u64, &mut random, world, &fleet, &journal);
        customer.deposit_everywhere().await;
        come_to_rest(world).await?;
    }
    verdict::judge(world, &journal, &options.faults)?;
    for place in 0..fleet.len() {
        fleet.stop(place).await?;
    }
    Ok(())
}

async fn serve_clients(
    world: &World,
    options: &Options,
    fleet: &Fleet,
    journal: &Journal,
    random: &mut Random,
) -> Result<(), String> {
    let mut clients = JoinSet::new();
    for number in 0..options.clients as u64 {
        let client = Client::new(number, random, world, fleet, journal);
        clients.spawn(client.run(options.orders_each));
    }
    let served = async { while clients.join_next().await.is_some() {} };
    timeout(CLIENTS_TIME_MAX, served).await.map_err(|_| "liveness: clients wait for ever".to_owned())
}

/// Waits until the view is the fold of the store and no rebuild runs.
///
/// # Errors
/// That did not happen in time.
pub(crate) async fn come_to_rest(world: &World) -> Result<(), String> {
    let deadline = Instant::now() + REST_TIME_MAX;
    while let Some(missing) = world.with(|state| verdict::missing(state)) {
        if Instant::now() >= deadline {
            return Err(format!("liveness: {} s after the last fault: {missing}", REST_TIME_MAX.as_secs()));
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Lets the operator put right what no service puts right by itself. From then on every document has to be right, also
/// those that are folded onto what was repaired.
async fn clear_up(world: &World, operator: &Operator) -> Result<(), String> {
    operator.repair().await?;
    operator.retry_parked().await?;
    world.vouch_for_view();
    Ok(())
}

fn spawn(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    #[expect(clippy::disallowed_methods, reason = "the simulator is no service")]
    tokio::spawn(work)
}

thread_local! {
    /// The panics in the run of this thread; `None` between runs.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Without this a panic would pass unnoticed, since a supervisor restarts the task.
fn listen_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let in_a_run = PANICS.with_borrow_mut(|panics| panics.as_mut().map(|all| all.push(info.to_string())));
            if in_a_run.is_none() {
                default(info);
            }
        }));
    });
}
