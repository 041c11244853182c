//! `bank verify`: compares the projection with the store, while the bank is open or when it is stopped, and repairs it
//! with `--repair`.
//!
//! It is a process of its own beside a running bank: on servers it opens the same store and index as the services and
//! asks no other process. Embedded backends belong to the one process that has locked the data folder, so there the
//! running bank does the work: with `--url` its balance service is asked for the same reports. Without `--url`, a
//! folder in use is refused with the command that would work. The balance service is not asked automatically, because
//! the bank that listens at the default address may not be the one whose folder was named.
//!
//! Whoever has locked the folder knows that no service of its bank runs: all of them need the store. So nothing is in
//! flight there, and nothing is waited for. A document that is missing or behind stays so until the bank runs; that
//! will bring it up to date, by the log or by reconciling, so it lags and is not wrong, which has an exit code of its
//! own. A file that the folder lacks is told: an empty one in its place would have nothing to compare.
//!
//! Both ways run [`balance_service::verify`], whose laws say why traffic raises no false alarm.

mod here;
mod report;
mod screen;
mod there;

use std::time::Duration;

use balance_service::verify::{Accounts, AccountsError, PATIENCE_DEFAULT, PATIENCE_MAX, PATIENCE_MIN};
use clap::Args;
use shared::config::{Settings, StoreUrl};
use shared::id::AccountId;
use shared::partition::SLOTS;

use crate::console;
use crate::exit::{CodedFailure, Exit};
use crate::url::base_url;
use report::Summary;
pub(crate) use report::{documents, list_findings};
use screen::Screen;

/// What to compare, and how.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// Verify through the balance service at this URL; needed while a bank on embedded backends is running
    #[arg(long, value_parser = base_url)]
    url: Option<String>,

    /// Verify only this partition, from 1; may be repeated
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=i64::from(SLOTS)))]
    partition: Vec<u16>,

    /// Verify only these accounts, at most 100; may be repeated
    #[arg(long, value_name = "ID", num_args = 1.., conflicts_with = "partition")]
    account: Vec<AccountId>,

    /// How long a difference may be due to events in flight, in seconds; a stopped bank on embedded backends has none
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE_DEFAULT.as_secs(),
          value_parser = clap::value_parser!(u64).range(PATIENCE_MIN.as_secs()..=PATIENCE_MAX.as_secs()))]
    patience: u64,

    /// Rewrite wrong documents from the store, and compare again
    #[arg(long)]
    repair: bool,

    /// Print the report as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: Settings,
}

impl VerifyArgs {
    /// Whether it is certain that no service of the bank runs: to compare with an embedded store, this process locks
    /// its folder.
    fn is_bank_stopped(&self) -> bool {
        self.url.is_none() && self.settings.backends.store_url == StoreUrl::Embedded
    }

    fn patience(&self) -> Duration {
        if self.is_bank_stopped() { Duration::ZERO } else { Duration::from_secs(self.patience) }
    }

    /// The partitions asked for, each once and in order; nothing for all.
    fn partitions(&self) -> Option<Vec<u16>> {
        let mut partitions = self.partition.clone();
        partitions.sort_unstable();
        partitions.dedup();
        Some(partitions).filter(|partitions| !partitions.is_empty())
    }

    /// The accounts asked for; nothing if partitions are.
    fn accounts(&self) -> Result<Option<Accounts>, AccountsError> {
        if self.account.is_empty() {
            return Ok(None);
        }
        Accounts::new(self.account.clone()).map(Some)
    }
}

/// Compares, repairs if asked to, reports.
pub(crate) async fn run(args: VerifyArgs) -> anyhow::Result<Exit> {
    let accounts =
        args.accounts().map_err(|refused| CodedFailure::new(Exit::Usage, format_args!("--account {refused}")))?;
    let mut screen = Screen::new();
    let compared = match &args.url {
        Some(base) => there::compare(base, &args, accounts.as_ref(), &mut screen).await,
        None => here::compare(&args, accounts, &mut screen).await,
    };
    screen.clear();
    let reports = compared?;
    let summary = Summary::of(&reports, args.repair, args.is_bank_stopped());
    let text = if args.json { report::json(&summary, &reports)? + "\n" } else { report::table(&summary, &reports) };
    Ok(console::print(&text, summary.exit()))
}
