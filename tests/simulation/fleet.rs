//! The processes of one run: started, crashed, stopped gracefully, started again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use account_service::command::Teller;
use balance_service::rebuild::Rebuilds;
use balance_service::{BalanceConfig, Nudge, Visibility, project};
use forwarder::ForwarderConfig;
use shared::backends::Ports;
use shared::lease::Holder;
use shared::supervise::Supervisor;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::options::Options;
use crate::world::index::WorldIndex;
use crate::world::lease::WorldLeases;
use crate::world::log::WorldLog;
use crate::world::random::Random;
use crate::world::store::WorldStore;
use crate::world::{ProcessPorts, World};

/// The four backends of a process.
pub(crate) type WorldPorts = Ports<WorldStore, WorldLog, WorldLeases, WorldIndex>;

/// How long a graceful stop may take.
pub(crate) const STOP_TIME_MAX: Duration = Duration::from_mins(1);

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Teller,
    Forwarder,
    Projector,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Teller => "teller",
            Self::Forwarder => "forwarder",
            Self::Projector => "projector",
        }
    }
}

/// A running process.
struct Running {
    role: Role,
    number: usize,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    service: Service,
}

/// What a process offers to the others.
enum Service {
    Teller(Teller<WorldStore>),
    Forwarder,
    Projector(Rebuilds<WorldPorts>),
}

/// A role, and the process that plays it, if one is up.
type Place = (Role, Option<Running>);

/// All processes, each at a place of its own; a place is empty while its process is down.
#[derive(Clone)]
pub(crate) struct Fleet {
    world: World,
    options: Arc<Options>,
    places: Arc<Mutex<Vec<Place>>>,
}

impl Fleet {
    /// Starts every process of a run.
    pub(crate) fn start(world: World, options: Arc<Options>) -> Self {
        let roles = std::iter::repeat_n(Role::Teller, options.tellers)
            .chain(std::iter::repeat_n(Role::Forwarder, options.forwarders))
            .chain(std::iter::repeat_n(Role::Projector, options.projectors));
        let places = roles.map(|role| (role, None)).collect();
        let fleet = Self { world, options, places: Arc::new(Mutex::new(places)) };
        fleet.start_missing();
        fleet
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vec<Place>) -> T) -> T {
        act(&mut self.places.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Starts every process that is down.
    pub(crate) fn start_missing(&self) {
        for place in 0..self.len() {
            self.start_at(place);
        }
    }

    /// How many processes there are, running or not.
    pub(crate) fn len(&self) -> usize {
        self.with(|places| places.len())
    }

    /// Starts the process of a place if it is down.
    pub(crate) fn start_at(&self, place: usize) {
        let role = self.with(|places| places[place].1.is_none().then_some(places[place].0));
        if let Some(role) = role {
            let running = self.run(role, place);
            self.with(|places| places[place].1 = Some(running));
        }
    }

    fn run(&self, role: Role, place: usize) -> Running {
        let ports = self.world.process(&format!("{}-{place}", role.name()));
        let number = ports.number;
        let shutdown = CancellationToken::new();
        let (task, service) = match role {
            Role::Teller => {
                let (task, teller) = self.run_teller(ports, &shutdown);
                (task, Service::Teller(teller))
            }
            Role::Forwarder => (self.run_forwarder(ports, shutdown.clone()), Service::Forwarder),
            Role::Projector => {
                let (task, rebuilds) = self.run_projector(ports, shutdown.clone());
                (task, Service::Projector(rebuilds))
            }
        };
        Running { role, number, shutdown, task, service }
    }

    fn run_teller(&self, ports: ProcessPorts, shutdown: &CancellationToken) -> (JoinHandle<()>, Teller<WorldStore>) {
        let mut supervisor = Supervisor::new(shutdown.clone());
        let teller =
            Teller::start(self.options.pace.teller, ports.store, ports.clock, ports.ids, &mut supervisor, shutdown);
        let task = spawn(self.world.clone(), async move { supervisor.wait().await.map_err(|error| error.to_string()) });
        (task, teller)
    }

    fn run_forwarder(&self, ports: ProcessPorts, shutdown: CancellationToken) -> JoinHandle<()> {
        let config = ForwarderConfig {
            holder: holder(&ports),
            partitions: self.options.partitions,
            lease_ttl: self.options.lease_ttl,
            log_window: self.options.pace.log_window,
            trim_every: self.options.pace.trim_every,
        };
        let ProcessPorts { store, log, leases, clock, .. } = ports;
        spawn(self.world.clone(), async move {
            forwarder::run(config, store, log, leases, clock, shutdown).await.map_err(|error| error.to_string())
        })
    }

    fn run_projector(
        &self,
        ports: ProcessPorts,
        shutdown: CancellationToken,
    ) -> (JoinHandle<()>, Rebuilds<WorldPorts>) {
        let config = BalanceConfig {
            holder: holder(&ports),
            partitions: self.options.partitions,
            lease_ttl: self.options.lease_ttl,
            reconcile_every: self.options.compare_heads.then_some(self.options.pace.compare_every),
            verify_every: self.options.verify_every,
            keep_previous: self.options.pace.keep_previous,
        };
        let nudge = Nudge::default();
        let ProcessPorts { store, log, leases, index, clock, ids, .. } = ports;
        let backends = Ports { store, log, leases, index };
        let rebuilds = Rebuilds::new(backends.clone(), config.partitions, clock.clone(), ids.clone(), nudge.clone());
        let task = spawn(self.world.clone(), async move {
            let projecting = project(config, backends, clock, ids, nudge, Visibility::default(), shutdown);
            projecting.await.map_err(|error| error.to_string())
        });
        (task, rebuilds)
    }

    /// Ends a process as a power cut does.
    pub(crate) fn crash(&self, place: usize) {
        if let Some(running) = self.with(|places| places[place].1.take()) {
            self.world.crash(running.number);
            running.task.abort();
        }
    }

    /// Stops a process gracefully.
    ///
    /// # Errors
    /// It did not end in time.
    pub(crate) async fn stop(&self, place: usize) -> Result<(), String> {
        let Some(running) = self.with(|places| places[place].1.take()) else { return Ok(()) };
        running.shutdown.cancel();
        match tokio::time::timeout(STOP_TIME_MAX, running.task).await {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("liveness: a {} does not stop when it is asked to", running.role.name())),
        }
    }

    /// The process's number in the world, if it runs.
    pub(crate) fn number(&self, place: usize) -> Option<usize> {
        self.with(|places| places[place].1.as_ref().map(|running| running.number))
    }

    /// Some running teller, if any.
    pub(crate) fn teller(&self, random: &mut Random) -> Option<Teller<WorldStore>> {
        self.any(random, |service| match service {
            Service::Teller(teller) => Some(teller.clone()),
            Service::Forwarder | Service::Projector(_) => None,
        })
    }

    /// The rebuilds of some running projector, if any.
    pub(crate) fn rebuilds(&self, random: &mut Random) -> Option<Rebuilds<WorldPorts>> {
        self.any(random, |service| match service {
            Service::Projector(rebuilds) => Some(rebuilds.clone()),
            Service::Teller(_) | Service::Forwarder => None,
        })
    }

    fn any<T>(&self, random: &mut Random, offers: impl Fn(&Service) -> Option<T>) -> Option<T> {
        self.with(|places| {
            let running = places.iter().filter_map(|(_, running)| running.as_ref());
            let mut found: Vec<T> = running.filter_map(|running| offers(&running.service)).collect();
            (!found.is_empty()).then(|| found.swap_remove(random.index(found.len())))
        })
    }
}

fn holder(ports: &ProcessPorts) -> Holder {
    Holder(format!("process {}", ports.number).into())
}

/// Runs a process; one that ends with an error breaks a law, since it has to wait out every failure of a backend.
fn spawn(world: World, work: impl Future<Output = Result<(), String>> + Send + 'static) -> JoinHandle<()> {
    #[expect(clippy::disallowed_methods, reason = "the simulator runs processes, not tasks of a service")]
    tokio::spawn(async move {
        if let Err(error) = work.await {
            world.with(|state| state.audit.violate("liveness: a process gives up", || error));
        }
    })
}
