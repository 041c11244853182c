//! How long a command takes from its answer until the projection shows it: by id, and by search.
//!
//! Some customers look after each of their commands, beside the load of all others.

use std::cell::RefCell;

use futures::future::{join, join_all};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use std::time::Duration;
use tokio::time::{Instant, sleep};

use super::account::{Accounts, Side};
use super::check;
use super::connection::{Call, Connection};
use super::cpu::CpuMeter;
use super::latency::Latencies;
use super::load::{Load, Schedule};
use super::options::LoadOptions;
use super::order::{self, Mix, Outcome};
use super::report::Report;

/// How many customers look by id, and how many by search.
const WATCHERS_EACH: u64 = 4;

/// How long a watcher rests between two commands, so that watching adds no load of its own.
const REST: Duration = Duration::from_millis(20);

/// How long to wait before searching again: a part of a search engine's refresh, so that looking adds no load of its
/// own.
const SEARCH_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// How long the projection may take to reach a version.
const WAIT_MS: u32 = 30_000;

/// Runs load on the account service while watchers look.
pub(super) async fn measure(options: &LoadOptions) -> anyhow::Result<Report> {
    let accounts = Accounts::open(options).await?;
    let cpu = CpuMeter::start();
    let watchers = Watchers::new(options, &accounts);
    let load = Load::new(Mix::All, options, &accounts);
    let (measured, ()) = join(load.run(&options.target.url), watchers.run()).await;
    let cpu = cpu.stop();
    let mut report = Report::of_load("mixed", options, &measured, cpu);
    watchers.tell(&mut report);
    report.check = Some(check::balances(&accounts, options).await?);
    Ok(report)
}

/// Customers who look at the projection.
pub(super) struct Watchers<'a> {
    options: &'a LoadOptions,
    accounts: &'a Accounts,
    schedule: Schedule,
    by_id: RefCell<Latencies>,
    by_search: RefCell<Latencies>,
}

#[derive(Clone, Copy)]
enum Look {
    ById,
    BySearch,
}

#[derive(Deserialize)]
struct Found {
    version: u64,
}

impl<'a> Watchers<'a> {
    pub(super) fn new(options: &'a LoadOptions, accounts: &'a Accounts) -> Self {
        let (by_id, by_search) = (RefCell::new(Latencies::new()), RefCell::new(Latencies::new()));
        Self { options, accounts, schedule: Schedule::of(options), by_id, by_search }
    }

    /// Watches until the time is over.
    pub(super) async fn run(&self) {
        let by_id = (0..WATCHERS_EACH).map(|number| self.watch(Look::ById, number));
        let by_search = (0..WATCHERS_EACH).map(|number| self.watch(Look::BySearch, WATCHERS_EACH + number));
        join(join_all(by_id), join_all(by_search)).await;
    }

    pub(super) fn tell(&self, report: &mut Report) {
        report.add_latencies("visible by id", &self.by_id.borrow());
        report.add_latencies("visible by search", &self.by_search.borrow());
    }

    async fn watch(&self, look: Look, number: u64) {
        let mut random = StdRng::seed_from_u64(self.options.seed ^ (number + 1));
        let mut commands = Connection::new(&self.options.target.url);
        let mut queries = Connection::new(&self.options.target.balance_url);
        while Instant::now() < self.schedule.ends {
            sleep(REST).await;
            let account = random.random_range(0..self.accounts.count());
            let order = order::deposit(self.accounts, account, 1);
            let Ok(answer) = commands.send(&order.call).await else {
                order.become_uncertain(self.accounts);
                continue;
            };
            let answered = Instant::now();
            let (Outcome::Done, Ok(side)) =
                (order.settle(&answer, self.accounts), serde_json::from_slice::<Side>(&answer.body))
            else {
                continue;
            };
            let is_visible = match look {
                Look::ById => self.wait_by_id(&mut queries, account, side.version).await,
                Look::BySearch => self.wait_by_search(&mut queries, account, side.version).await,
            };
            if is_visible && answered >= self.schedule.measured_from {
                let latencies = match look {
                    Look::ById => &self.by_id,
                    Look::BySearch => &self.by_search,
                };
                latencies.borrow_mut().record(answered.elapsed());
            }
        }
    }

    async fn wait_by_id(&self, queries: &mut Connection, account: usize, version: u64) -> bool {
        let id = self.accounts.get(account).id;
        let call = Call::get(format!("/balance/{id}?min_version={version}&wait_ms={WAIT_MS}"));
        queries.send(&call).await.is_ok_and(|answer| answer.status.is_success())
    }

    async fn wait_by_search(&self, queries: &mut Connection, account: usize, version: u64) -> bool {
        let owner = self.accounts.get(account).owner.replace(' ', "%20");
        let give_up = Instant::now() + Duration::from_millis(WAIT_MS.into());
        while Instant::now() < give_up {
            let Ok(answer) = queries.send(&Call::get(format!("/balance?owner={owner}"))).await else { return false };
            let found: Vec<Found> = serde_json::from_slice(&answer.body).unwrap_or_default();
            if found.first().is_some_and(|found| found.version >= version) {
                return true;
            }
            sleep(SEARCH_AGAIN_AFTER).await;
        }
        false
    }
}
