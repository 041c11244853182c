//! Writes a backlog straight into the store, and measures how long the projection takes to show it.
//!
//! The events are those of deposits, as the account service writes them, many commits per batch. So the store holds a
//! backlog much sooner than commands over HTTP could create one, and only the path from the store into the projection
//! is measured: forwarder, log, workers, index.
//!
//! The clock stops when the accounts that were written last are visible ([`written_last`]), since querying all of them
//! takes longer than draining the backlog. All are queried after that, and each must hold what was written.
//!
//! With embedded backends, which only one process at a time may open, the run opens a new bank itself; with servers the
//! services run elsewhere.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{bail, ensure};
use bytes::Bytes;
use clap::Args;
use futures::future::try_join_all;
use indicatif::ProgressBar;
use shared::clock::Clock;
use shared::config::StoreUrl;
use shared::coordinate::Version;
use shared::event::{AccountEvent, NewEvent, Personal, codec};
use shared::id::{AccountId, Ids};
use shared::money::{Amount, Money};
use shared::owner::Owner;
use shared::process::Process;
use shared::store::{AnyStore, Appended, Commit, EventStore, StreamWrite};
use tokio::time::Instant;

use super::bank::{Bank, HoldOptions};
use super::connection::Connection;
use super::cpu::CpuMeter;
use super::options::{Base, Target};
use super::progress;
use super::report::{Report, per_second};
use super::settings::RunSettings;
use super::shown::shown;

/// How many commits an append takes: so many that a batch costs less than its events.
const COMMITS_PER_BATCH: usize = 1_000;

/// How many appends are in flight at once, each for its share of the accounts.
const SHARES: usize = 4;

/// Any will do.
const CURRENCY: &str = "EUR";

/// How many connections wait for accounts to become visible.
const WAITERS: usize = 32;

/// How long an account may take to become visible before the run fails.
const PATIENCE: Duration = Duration::from_mins(30);

/// What is written, and where to.
#[derive(Args, Debug)]
pub(super) struct ProjectionOptions {
    #[command(flatten)]
    pub(super) target: Target,

    /// Number of deposits to write
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    events: u32,

    /// Number of accounts they are spread over
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    accounts: u32,

    /// Only write; do not wait for the projection
    #[arg(long)]
    write_only: bool,

    #[command(flatten)]
    hold: HoldOptions,

    #[command(flatten)]
    settings: RunSettings,
}

/// Writes, waits, reports.
pub(super) async fn measure(options: ProjectionOptions) -> anyhow::Result<Report> {
    let ProjectionOptions { target, events, accounts, write_only, hold, settings } = options;
    let is_here = settings.given.backends.store_url == StoreUrl::Embedded;
    ensure!(!(is_here && hold.is_asked_for()), "the run holds an embedded bank back itself: leave out --hold");
    if !is_here && !write_only {
        target.refuse_other_for_queries().await?;
    }
    // Removed after everything that has files in it is closed.
    let (settings, _scratch) = if is_here { settings.for_new_bank()? } else { (settings.given, None) };
    let place = if is_here {
        format!("opened by the run, in {}", settings.backends.data.display())
    } else {
        format!("at {}", target.balance_url.authority())
    };
    let process = Process::begin(settings).await?;
    let writer =
        Writer { store: process.backends.store.clone(), clock: process.clock.clone(), ids: process.ids.clone() };
    let mut bank = if is_here { Bank::here(process)? } else { Bank::elsewhere(&target.balance_url, hold) };
    let mut streams = writer.open_accounts(accounts).await?;
    if !write_only {
        // Batches are opened in order, so the last one is visible last.
        let last = streams.len().saturating_sub(COMMITS_PER_BATCH);
        wait_until_visible(bank.base(), &streams[last..].iter().collect::<Vec<_>>()).await?;
    }
    bank.hold().await?;
    let began = Instant::now();
    writer.deposit(&mut streams, events).await?;
    let written = began.elapsed();
    let mut report = Report::new("projection");
    report.setup.extend([("bank", place), ("events", events.to_string()), ("accounts", accounts.to_string())]);
    report.figures.extend([
        ("written_seconds", written.as_secs_f64()),
        ("written_events_per_second", per_second(events.into(), written)),
    ]);
    if !write_only {
        let cpu = CpuMeter::start();
        let released = Instant::now();
        bank.release().await?;
        wait_until_visible(bank.base(), &written_last(&streams, events)).await?;
        let visible = released.elapsed();
        report.cpu = cpu.stop();
        report.figures.extend([
            ("visible_seconds", visible.as_secs_f64()),
            ("visible_events_per_second", per_second(events.into(), visible)),
        ]);
        wait_until_visible(bank.base(), &streams.iter().collect::<Vec<_>>()).await?;
    }
    bank.close().await?;
    Ok(report)
}

/// One account and its state.
struct Stream {
    account: AccountId,
    version: Version,
    balance: i64,
}

/// Writes events as the account service would, without deciding anything.
struct Writer {
    store: AnyStore,
    clock: Clock,
    ids: Ids,
}

impl Writer {
    async fn open_accounts(&self, count: u32) -> anyhow::Result<Vec<Stream>> {
        let bar = progress::counted("opening accounts", u64::from(count));
        let mut streams: Vec<Stream> =
            (0..count).map(|_| Stream { account: self.ids.account(), version: Version::EMPTY, balance: 0 }).collect();
        for batch in streams.chunks_mut(COMMITS_PER_BATCH) {
            let opened = batch.iter_mut().map(|stream| {
                let owner = Owner::new(&format!("bench {}", stream.account)).expect("an owner's name is short");
                let opening = Money::new(0).expect("nothing is an amount of money");
                let currency = CURRENCY.parse().expect("the currency exists");
                let personal = Personal { owner };
                let overdraft_limit = opening;
                self.commit(stream, AccountEvent::AccountOpened { currency, overdraft_limit, opening, personal })
            });
            self.append(opened.collect()).await?;
            bar.inc(COMMITS_PER_BATCH as u64);
        }
        bar.finish_and_clear();
        Ok(streams)
    }

    /// Deposits to all accounts in turn, one share beside the other.
    async fn deposit(&self, streams: &mut [Stream], events: u32) -> anyhow::Result<()> {
        let bar = progress::counted("writing events", u64::from(events));
        let (count, per_share) = (streams.len(), streams.len().div_ceil(SHARES));
        let shares = streams.chunks_mut(per_share).enumerate().map(|(number, streams)| {
            let share = share_of(events, number * per_share, streams.len(), count);
            self.deposit_to(streams, share, &bar)
        });
        try_join_all(shares.collect::<Vec<_>>()).await?;
        bar.finish_and_clear();
        Ok(())
    }

    async fn deposit_to(&self, streams: &mut [Stream], events: usize, bar: &ProgressBar) -> anyhow::Result<()> {
        let mut written = 0;
        while written < events {
            let batch = (written..events).take(COMMITS_PER_BATCH);
            let commits: Vec<Commit> = batch
                .map(|number| {
                    let stream = &mut streams[number % streams.len()];
                    stream.balance += 1;
                    let (transaction, amount) = (self.ids.commit(), Amount::new(1).expect("a cent is an amount"));
                    self.commit(stream, AccountEvent::MoneyDeposited { transaction, amount })
                })
                .collect();
            let count = commits.len();
            self.append(commits).await?;
            written += count;
            bar.inc(count as u64);
        }
        Ok(())
    }

    fn commit(&self, stream: &mut Stream, event: AccountEvent) -> Commit {
        let time = self.clock.now();
        let events = codec::encode(&[NewEvent { id: self.ids.event(), time, event }]);
        let write = StreamWrite { stream: stream.account, expected: stream.version, events };
        stream.version = stream.version.next();
        Commit { id: self.ids.commit(), time, key: None, receipt: Bytes::new(), writes: vec![write] }
    }

    async fn append(&self, commits: Vec<Commit>) -> anyhow::Result<()> {
        for answer in self.store.append(commits).await {
            ensure!(matches!(answer, Ok(Appended::New)), "the store did not take an event: {answer:?}");
        }
        Ok(())
    }
}

/// How many of the events go to `length` of `count` accounts, beginning with number `first`.
fn share_of(events: u32, first: usize, length: usize, count: usize) -> usize {
    let events = events as usize;
    events * (first + length) / count - events * first / count
}

/// The accounts of the last batch of each share. A partition keeps the order of the store, and so many accounts include
/// some of every partition: when these are visible, so is everything that was written before.
fn written_last(streams: &[Stream], events: u32) -> Vec<&Stream> {
    let (count, per_share) = (streams.len(), streams.len().div_ceil(SHARES));
    let shares = streams.chunks(per_share).enumerate();
    shares
        .flat_map(|(number, streams)| {
            let share = share_of(events, number * per_share, streams.len(), count);
            let batch = share.saturating_sub(COMMITS_PER_BATCH.min(streams.len()))..share;
            batch.map(|event| &streams[event % streams.len()])
        })
        .collect()
}

/// Waits until each account is visible as it is in the store, and checks its balance.
async fn wait_until_visible(base: &Base, streams: &[&Stream]) -> anyhow::Result<()> {
    let bar = progress::counted("becoming visible", streams.len() as u64);
    let next = Cell::new(0);
    let waiters = (0..WAITERS).map(|_| async {
        let mut connection = Connection::new(base);
        while let Some(stream) = streams.get(next.replace(next.get() + 1)) {
            wait_for(&mut connection, stream).await?;
            bar.inc(1);
        }
        anyhow::Ok(())
    });
    let waited = try_join_all(waiters).await;
    bar.finish_and_clear();
    waited.map(|_| ())
}

async fn wait_for(connection: &mut Connection, stream: &Stream) -> anyhow::Result<()> {
    let Stream { account, version, balance } = stream;
    match shown(connection, *account, version.get(), Instant::now() + PATIENCE).await? {
        Ok(shown) => ensure!(
            (shown.version, shown.balance) == (version.get(), *balance),
            "{account} has balance {} at version {}, expected {balance} at {version}",
            shown.balance,
            shown.version
        ),
        Err(answer) => {
            bail!("{account} is not visible: {} {}", answer.status, String::from_utf8_lossy(&answer.body))
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_last_is_the_end_of_every_lane() {
        let ids = Ids::new(Clock::system());
        let stream = || Stream { account: ids.account(), version: Version::EMPTY, balance: 0 };
        let streams: Vec<Stream> = (0..8).map(|_| stream()).collect();
        let places = |events| -> Vec<usize> {
            let last = written_last(&streams, events);
            last.iter().map(|last| streams.iter().position(|s| s.account == last.account).unwrap()).collect()
        };
        assert_eq!(places(16), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(places(4), [0, 2, 4, 6]);
        assert_eq!(places(0), [0; 0]);
    }

    #[test]
    fn every_event_falls_to_one_share() {
        for (events, count, length) in [(10, 3, 1), (7, 8, 2), (1_000_003, 10_000, 2_500)] {
            let shares =
                (0..count).step_by(length).map(|first| share_of(events, first, length.min(count - first), count));
            assert_eq!(shares.sum::<usize>(), events as usize);
        }
    }
}
