//! Customers and observers at work on a cluster, and the verdict when they are done.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::alias::{self, Absence, Onlooker};
use crate::cluster::Cluster;
use crate::customers::customer::{Customer, open_accounts};
use crate::customers::desks::Desks;
use crate::customers::journal::Journal;
use crate::customers::verdict::Case;
use crate::customers::{get, observer, rebuild};
use crate::pulse::Pulse;
use crate::service::{Kind, lacking};
use crate::tally::Count;

/// How many customers send commands at once.
const CUSTOMERS: usize = 6;

/// How many accounts they usually share: few enough that two customers often use the same one.
const ACCOUNTS: usize = 24;

/// What each account holds at the beginning.
const OPENING: i64 = 5_000;

/// How many readers go round the balance services.
const OBSERVERS: usize = 2;

/// The load on a cluster, from its first account to the verdict.
pub(crate) struct Load {
    journal: Arc<Journal>,
    accounts: Vec<String>,
    desks: Desks,
    views: Vec<String>,
    absence: Absence,
    /// Whether customers are at full speed. They are not while a scenario waits for the bank, which needs the machine.
    hurry: watch::Sender<bool>,
    stop: CancellationToken,
    customers: JoinSet<()>,
    observers: JoinSet<usize>,
}

impl Load {
    /// Opens accounts, waits until the projection shows them, and starts customers and observers.
    pub(crate) async fn begin(cluster: &Cluster) -> Self {
        Self::begin_with(cluster, ACCOUNTS).await
    }

    /// The same with this many accounts.
    pub(crate) async fn begin_with(cluster: &Cluster, accounts: usize) -> Self {
        let journal = Arc::new(Journal::default());
        let (desks, views) = (cluster.desks(), cluster.views());
        let accounts = open_accounts(&desks, &journal, accounts, OPENING).await;
        for account in &accounts {
            get(&format!("{}/balance/{account}?min_version=1&wait_ms=30000", views[0])).await;
        }
        let (mut customers, mut observers) = (JoinSet::new(), JoinSet::new());
        let (hurry, stop) = (watch::Sender::new(false), CancellationToken::new());
        for number in 0..CUSTOMERS {
            let (accounts, journal) = (accounts.clone(), Arc::clone(&journal));
            let customer = Customer::new(number, &desks, accounts, journal, hurry.subscribe());
            customers.spawn(customer.trade(stop.clone()));
        }
        for number in 0..OBSERVERS {
            let mut views = views.clone();
            views.rotate_left(number);
            observers.spawn(observer::watch(views, accounts.clone(), stop.clone()));
        }
        let absence = Absence::default();
        let (alias, accounts_seen) = (cluster.alias_url(), accounts.clone());
        let onlooker = Onlooker { alias, accounts: accounts_seen, absence: absence.clone(), stop: stop.clone() };
        observers.spawn(alias::watch_documents(onlooker.clone()));
        observers.spawn(alias::watch_searches(onlooker.clone()));
        observers.spawn(alias::watch_turns(onlooker));
        Self { journal, accounts, desks, views, absence, hurry, stop, customers, observers }
    }

    /// From now on the index may be missing for a while, but never go back.
    pub(crate) fn expect_absence(&self) {
        self.absence.allow();
    }

    /// What is needed to measure the projection while customers are at work.
    pub(crate) fn pulse(&self) -> Pulse {
        Pulse { journal: Arc::clone(&self.journal), accounts: self.accounts.clone(), views: self.views.clone() }
    }

    /// Waits until this many more commands are acknowledged, at full speed. Many are under way when it returns.
    pub(crate) async fn acknowledge(&mut self, more: usize) {
        self.hurry.send_replace(true);
        tokio::select! {
            biased;
            Some(ended) = self.customers.join_next() => panic!("a customer gave up: {ended:?}"),
            Some(ended) = self.observers.join_next() => panic!("an observer gave up: {ended:?}"),
            () = self.journal.wait_for_more(more) => {}
        }
        self.hurry.send_replace(false);
    }

    /// Does something that takes a while, with customers at full speed all the time.
    pub(crate) async fn in_full_flight<T>(&self, deed: impl Future<Output = T>) -> T {
        self.hurry.send_replace(true);
        let done = deed.await;
        self.hurry.send_replace(false);
        done
    }

    /// Waits until the projection shows everything acknowledged so far.
    pub(crate) async fn wait_visible(&self) {
        for (number, account) in self.accounts.iter().enumerate() {
            let view = &self.views[number % self.views.len()];
            let version = self.journal.history(account).last().map_or(0, |effect| effect.version);
            get(&format!("{view}/balance/{account}?min_version={version}&wait_ms=30000")).await;
        }
    }

    /// Waits until every balance service is ready and shows a balance although these dependencies do not answer.
    pub(crate) async fn wait_shown_without(&self, away: &[&str]) {
        for view in &self.views {
            let ready = get(&format!("{view}/readyz")).await;
            let lacking = lacking(&ready);
            assert!(away.iter().all(|name| lacking.contains(name)), "{view} does not lack {away:?}: {ready}");
            get(&format!("{view}/balance/{}", self.accounts[0])).await;
        }
    }

    /// Requests a rebuild from one of the balance services; returns whether it began one.
    pub(crate) async fn request_rebuild(&self, cluster: &Cluster, number: usize) -> bool {
        let is_begun = rebuild::request(&self.views[number % self.views.len()]).await;
        cluster.tally().add(Count::Rebuilds, usize::from(is_begun));
        is_begun
    }

    /// Stops customers and observers. All services must run.
    async fn end(&mut self, cluster: &Cluster) {
        self.stop.cancel();
        while let Some(ended) = self.customers.join_next().await {
            ended.expect("no customer found a fault");
        }
        while let Some(ended) = self.observers.join_next().await {
            let sightings = ended.expect("no observer found a fault");
            assert!(sightings > 0, "an observer saw nothing, so it proved nothing");
            cluster.tally().add(Count::Sightings, sightings);
        }
        cluster.tally().add(Count::Commands, self.journal.commands().len());
    }

    /// Ends the load and the bank, and judges: what was acknowledged is in the store, once, and every document is the
    /// fold of its stream, first as the bank left it, then as a rebuild makes it.
    pub(crate) async fn judge(mut self, mut cluster: Cluster) {
        cluster.wait_ready().await;
        self.end(&cluster).await;
        let case = Case { journal: &self.journal, accounts: &self.accounts, desks: &self.desks, views: &self.views };
        case.check().await;
        case.check_parked().await;
        let account_service = cluster.of(Kind::Account).next().expect("there is one").url("");
        alias::check(&cluster.alias_url(), &self.accounts, &account_service).await;
        rebuild::prove(&self.views[0]).await;
        cluster.tally().count(Count::Rebuilds);
        case.check_repeats().await;
        case.check().await;
        alias::check(&cluster.alias_url(), &self.accounts, &account_service).await;
        alias::check_leftovers(&cluster.alias_url()).await;
        cluster.stop().await;
    }
}
