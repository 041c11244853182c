use std::sync::Arc;
use std::time::Duration;

use account_service::account::Command;
use account_service::command::{CommandError, Outcome, Request, Teller};
use shared::backends::Ports;
use shared::coordinate::{Position, Version};
use shared::id::AccountId;
use shared::log::PartitionLog;
use shared::money::Amount;
use shared::owner::Owner;
use shared::partition::PartitionMap;
use shared::store::{ChangeFeed, EventStore, FeedEntry};
use tokio::task::JoinSet;

use crate::fleet::{Fleet, Role, WorldPorts};
use crate::options::Options;
use crate::pace::Pace;
use crate::run::come_to_rest;
use crate::world::fault::Faults;
use crate::world::random::Random;
use crate::world::store::WorldStore;
use crate::world::{ProcessPorts, World};

/// Any seed would do: the calls take as long in every world.
const SEED: u64 = 1;

/// The longest a request or an answer travels: long enough for what waits meanwhile to form a batch.
const LATENCY_MAX_MS: u64 = 5;

/// The default lifetime of leases.
const LEASE_TTL: Duration = Duration::from_secs(5);

/// How many accounts there are.
pub(crate) const ACCOUNTS: usize = 2_000;

/// How many events each account of a filled bank has.
pub(crate) const EVENTS_EACH: usize = 5;

/// The largest number of customers at once. The queue of a teller holds four times as many.
const CUSTOMERS_AT_ONCE: usize = 1_000;

/// A bank whose processes are started one by one, so that the calls of each can be counted.
pub(crate) struct Bank {
    pub(crate) world: World,
    partitions: PartitionMap,
}

impl Bank {
    /// An empty bank.
    pub(crate) fn new(partitions: u16) -> Self {
        let partitions = PartitionMap::new(partitions).expect("there are partitions");
        Self { world: World::new(SEED, Faults::slow(LATENCY_MAX_MS)), partitions }
    }

    pub(crate) const fn partitions(&self) -> PartitionMap {
        self.partitions
    }

    /// Starts one process.
    pub(crate) fn start(&self, role: Role) -> Fleet {
        self.start_with(self.options(role))
    }

    /// Starts a projector that verifies the view at this interval.
    pub(crate) fn start_verifying(&self, every: Duration) -> Fleet {
        self.start_with(Options { verify_every: Some(every), ..self.options(Role::Projector) })
    }

    fn start_with(&self, options: Options) -> Fleet {
        Fleet::start(self.world.clone(), Arc::new(options))
    }

    fn options(&self, role: Role) -> Options {
        Options {
            seed: SEED,
            faults: Faults::slow(LATENCY_MAX_MS),
            partitions: self.partitions,
            tellers: usize::from(role == Role::Teller),
            forwarders: usize::from(role == Role::Forwarder),
            projectors: usize::from(role == Role::Projector),
            clients: 0,
            orders_each: 0,
            lease_ttl: LEASE_TTL,
            pace: Pace::of_the_bank(),
            compare_heads: true,
            verify_every: None,
            rebuilds: false,
        }
    }

    /// Starts one process, lets it work for a while, and stops it gracefully.
    pub(crate) async fn start_for(&self, role: Role, time: Duration) {
        let fleet = self.start(role);
        tokio::time::sleep(time).await;
        fleet.stop(0).await.expect("it stops when it is asked to");
    }

    /// Starts a projector, lets it bring the view up to date, and stops it gracefully.
    pub(crate) async fn project_all(&self) {
        let projector = self.start(Role::Projector);
        self.rest().await;
        projector.stop(0).await.expect("it stops when it is asked to");
    }

    /// Another teller, which knows no account yet.
    pub(crate) fn teller(&self) -> Teller<WorldStore> {
        self.start(Role::Teller).teller(&mut Random::new(SEED)).expect("it was just started")
    }

    /// The ports of a process that is not a service.
    pub(crate) fn ports(&self) -> WorldPorts {
        let ProcessPorts { store, log, leases, index, .. } = self.world.process("visitor");
        Ports { store, log, leases, index }
    }

    /// Waits until the view matches the store.
    pub(crate) async fn rest(&self) {
        come_to_rest(&self.world).await.expect("a bank without faults comes to rest");
    }

    /// A bank whose forwarder and projector ran while it was empty and then stopped. After that all accounts got all
    /// their events, which have not been forwarded.
    pub(crate) async fn with_backlog(partitions: u16) -> Self {
        let bank = Self::new(partitions);
        let forwarder = bank.start(Role::Forwarder);
        bank.project_all().await;
        forwarder.stop(0).await.expect("it stops when it is asked to");
        bank.fill().await;
        bank
    }

    /// Publishes the last event of each account of a filled bank, and none before it.
    pub(crate) async fn publish_last_events(&self) {
        let last = self.feed_of_version(EVENTS_EACH as u64).await;
        self.publish(&last).await;
    }

    /// Appends one more event to each account of a filled bank, without publishing it.
    pub(crate) async fn deposited_and_not_published(&self) -> Vec<FeedEntry> {
        let before = self.feed_of_version(1).await;
        let deposits = before.iter().map(|entry| deposit(entry.recorded.stream)).collect();
        all_taken(&self.teller(), deposits).await;
        self.feed_of_version(EVENTS_EACH as u64 + 1).await
    }

    /// For each account, the entry of the feed that ends with this version.
    async fn feed_of_version(&self, version: u64) -> Vec<FeedEntry> {
        let mut feed = self.ports().store.feed(Position::Start).await.expect("there are no faults");
        let mut found: Vec<FeedEntry> = Vec::new();
        while found.len() < ACCOUNTS {
            let entries = feed.next_batch(usize::MAX).await.expect("there are no faults").entries;
            let is_of_version = |entry: &FeedEntry| entry.recorded.last_version() == Version::new(version);
            found.extend(entries.into_iter().filter(is_of_version));
        }
        found
    }

    /// Publishes these writes, each to its partition.
    pub(crate) async fn publish(&self, entries: &[FeedEntry]) {
        let log = self.ports().log;
        for partition in self.partitions.all() {
            let extent = log.extent(partition).await.expect("there are no faults");
            let is_here = |entry: &&FeedEntry| self.partitions.partition_of(&entry.recorded.stream) == partition;
            let entries: Vec<FeedEntry> = entries.iter().filter(is_here).cloned().collect();
            let published = log.publish(partition, &extent.incarnation, extent.last, &entries).await;
            published.expect("nobody else publishes");
        }
    }

    /// Appends all events of all accounts.
    pub(crate) async fn fill(&self) -> Vec<AccountId> {
        let teller = self.teller();
        let accounts = opened(&teller, ACCOUNTS).await;
        for _ in 1..EVENTS_EACH {
            all_taken(&teller, accounts.iter().map(|account| deposit(*account)).collect()).await;
        }
        accounts
    }
}

/// Opens this many accounts.
pub(crate) async fn opened(teller: &Teller<WorldStore>, count: usize) -> Vec<AccountId> {
    let accounts: Vec<AccountId> = (0..count).map(|_| teller.ids().account()).collect();
    let open = |account: &AccountId| Command::Open {
        account: *account,
        owner: Owner::new("Paulo").expect("a name"),
        currency: "EUR".parse().expect("a currency"),
        opening: Some(amount(1_000)),
        overdraft_limit: None,
    };
    all_taken(teller, accounts.iter().map(open).collect()).await;
    accounts
}

pub(crate) fn amount(minor_units: i64) -> Amount {
    Amount::new(minor_units).expect("an amount")
}

pub(crate) fn deposit(account: AccountId) -> Command {
    Command::Deposit { account, amount: amount(1) }
}

/// Each command comes from a customer of its own, as many at once as allowed.
pub(crate) async fn all_taken(teller: &Teller<WorldStore>, commands: Vec<Command>) {
    for commands in commands.chunks(CUSTOMERS_AT_ONCE) {
        for outcome in all_at_once(teller, commands.to_vec()).await {
            outcome.expect("the rules allow it");
        }
    }
}

/// Each command comes from a customer of its own, all at once; the outcomes come in any order.
pub(crate) async fn all_at_once(
    teller: &Teller<WorldStore>,
    commands: Vec<Command>,
) -> Vec<Result<Outcome, CommandError>> {
    let mut customers = JoinSet::new();
    for command in commands {
        let teller = teller.clone();
        customers.spawn(async move { teller.execute(Request { command, key: None, if_match: None }).await });
    }
    customers.join_all().await
}
