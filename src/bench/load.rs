//! Many connections send orders, in one of two models of time (law BE2).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use futures::future::join_all;
use tokio::time::{Instant, sleep, sleep_until};

use super::account::Accounts;
use super::bank::HoldOptions;
use super::connection::{Connection, NoAnswer};
use super::cpu::CpuMeter;
use super::latency::Latencies;
use super::options::{Base, LoadOptions};
use super::order::{Mix, Orders, Outcome};
use super::report::Report;
use super::{check, progress};

/// How long a client waits after it could not connect, so that it does not retry in a busy loop.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The load, and whether the projection is to follow it.
#[derive(Args, Debug)]
pub(super) struct CommandOptions {
    #[command(flatten)]
    pub(super) load: LoadOptions,

    #[command(flatten)]
    hold: HoldOptions,
}

/// Runs a scenario that is nothing but load on the account service.
pub(super) async fn measure(scenario: &'static str, mix: Mix, options: &CommandOptions) -> anyhow::Result<Report> {
    let CommandOptions { load: options, hold } = options;
    let accounts = Accounts::open(options).await?;
    hold.hold().await?;
    let cpu = CpuMeter::start();
    let measured = Load::new(mix, options, &accounts).run(&options.target.url).await;
    let cpu = cpu.stop();
    hold.release().await?;
    let check = check::balances(&accounts, options).await?;
    let mut report = Report::of_load(scenario, options, &measured, cpu);
    if hold.is_asked_for() {
        report.setup.insert("projection", "held back during the load".to_owned());
    }
    report.check = Some(check);
    Ok(report)
}

/// What a load has measured.
pub(super) struct Measured {
    /// From the time an order was due to its answer, for successful orders that were due in the measured time.
    pub(super) latencies: Latencies,
    /// Answers in the measured time, by kind; `ok` are those that did what was asked.
    pub(super) answers: BTreeMap<String, u64>,
    /// How many orders succeeded in the measured time.
    pub(super) done: u64,
    /// How long the measured time was.
    pub(super) duration: Duration,
}

/// The times of a run: its start, the start of the measurement, and its end.
#[derive(Clone, Copy)]
pub(super) struct Schedule {
    began: Instant,
    pub(super) measured_from: Instant,
    pub(super) ends: Instant,
}

impl Schedule {
    pub(super) fn of(options: &LoadOptions) -> Self {
        let began = Instant::now();
        let measured_from = began + options.warmup();
        Self { began, measured_from, ends: measured_from + options.duration() }
    }

    fn is_measured(&self, time: Instant) -> bool {
        (self.measured_from..self.ends).contains(&time)
    }
}

/// A load and what it has measured so far.
pub(super) struct Load<'a> {
    options: &'a LoadOptions,
    accounts: &'a Accounts,
    orders: RefCell<Orders<'a>>,
    schedule: Schedule,
    /// How many times of the timetable have been taken.
    taken: Cell<u32>,
    seen: RefCell<Measured>,
}

impl<'a> Load<'a> {
    pub(super) fn new(mix: Mix, options: &'a LoadOptions, accounts: &'a Accounts) -> Self {
        let seen =
            Measured { latencies: Latencies::new(), answers: BTreeMap::new(), done: 0, duration: options.duration() };
        Self {
            options,
            accounts,
            orders: RefCell::new(Orders::new(mix, options, accounts)),
            schedule: Schedule::of(options),
            taken: Cell::new(0),
            seen: RefCell::new(seen),
        }
    }

    /// Sends orders to a service until the time is over.
    pub(super) async fn run(self, base: &Base) -> Measured {
        let bar = progress::timed("measuring", self.schedule.ends - self.schedule.began);
        let customers = join_all((0..self.options.connections).map(|_| self.customer(base)));
        progress::beside(&bar, customers).await;
        bar.finish_and_clear();
        self.seen.into_inner()
    }

    async fn customer(&self, base: &Base) {
        let mut connection = Connection::new(base);
        while let Some(due) = self.next_due().await {
            let order = self.orders.borrow_mut().next();
            let answer = connection.send(&order.call).await;
            let ended = Instant::now();
            let outcome = match answer {
                Ok(answer) => match order.settle(&answer, self.accounts) {
                    Outcome::Done => None,
                    Outcome::Other(status) => Some(status.as_u16().to_string()),
                },
                Err(NoAnswer::Unknown { .. }) => {
                    order.become_uncertain(self.accounts);
                    Some("unknown".to_owned())
                }
                Err(NoAnswer::Unreachable { .. }) => {
                    sleep(AGAIN_AFTER).await;
                    Some("unreachable".to_owned())
                }
            };
            self.take_down(due, ended, outcome.as_deref());
        }
    }

    /// When the next order is due; `None` when the time is over. Timers have a resolution of milliseconds, so in the
    /// open model an order may begin that much late, which counts as its latency.
    async fn next_due(&self) -> Option<Instant> {
        let due = match self.options.rate {
            None => Instant::now(),
            Some(rate) => {
                let number = self.taken.replace(self.taken.get() + 1);
                let due = self.schedule.began + Duration::from_secs(1) * number / rate;
                if due < self.schedule.ends {
                    sleep_until(due).await;
                }
                due
            }
        };
        (due < self.schedule.ends).then_some(due)
    }

    fn take_down(&self, due: Instant, ended: Instant, failure: Option<&str>) {
        let seen = &mut *self.seen.borrow_mut();
        if self.schedule.is_measured(ended) {
            seen.done += u64::from(failure.is_none());
            *seen.answers.entry(failure.unwrap_or("ok").to_owned()).or_default() += 1;
        }
        if failure.is_none() && self.schedule.is_measured(due) {
            seen.latencies.record(ended - due);
        }
    }
}
