//! `bank import`: plays a file of transactions through the HTTP API, as any client would.
//!
//! I1  Nothing is sent before the whole file has been read and understood.
//! I2  The lines of an account are played in the file's order; many accounts are played side by side.
//! I3  Every request carries an idempotency key made of the import's name and an id of the file. So an interrupted
//!     import is resumed by starting it again, repeating a finished one does no accepted line twice, and no state is
//!     kept outside the bank. A rejected line leaves no trace there, so a repetition sends it again, after all the
//!     accepted ones, and it may then be posted, unless its id was used for another line; without rejected lines a
//!     repetition changes nothing.
//! I4  At the end each account's balance is compared with its accepted lines, and with what it held before if it was
//!     there already. Accounts of which neither can be told (`tally.rs`) are named as not compared.
//!
//! Files of one name are parts of one import: they share its accounts, and their ids must differ. By default it is the
//! name of the file without its folders. If the folders or the content were part of it, a file that was moved, or
//! mended after lines were rejected, would be posted twice.

mod client;
mod player;
mod reader;
mod report;
mod tally;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use flate2::read::MultiGzDecoder;
use indicatif::ProgressBar;
use shared::money::{Currency, Money};

use crate::console;
use crate::exit::{CodedFailure, Exit};
use crate::service::Service;
use crate::url::base_url;
use client::Client;
use player::Player;
use reader::{ReadError, Statement};

/// The longest name of an import: with the ids of the file it must fit into an idempotency key of 255 characters.
const NAME_CHARS_MAX: usize = 100;

/// How many accounts are played at the same time unless the user says otherwise: enough to fill the commits of a disk
/// that takes a millisecond to sync.
const PARALLEL_DEFAULT: u16 = 64;

/// How many accounts may be played at the same time: each holds a connection.
const PARALLEL_MAX: i64 = 1_024;

const FILE_HELP: &str = "CSV file, plain or .gz, with the columns transaction_id, account_id, date, direction \
    (credit or debit), kind, amount_cents: one transaction per line, in the order in which they happened. \
    date and kind are not read: the lines of each account are posted in the order of the file";

/// What to import, and where to.
#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    #[arg(help = FILE_HELP)]
    file: PathBuf,

    /// URL of the account service
    #[arg(long, default_value = "http://127.0.0.1:8000", value_parser = base_url)]
    url: String,

    /// Overdraft limit of each account, in cents
    #[arg(long, default_value = "0", value_name = "CENTS", value_parser = money)]
    overdraft_limit: Money,

    /// Currency of the accounts (ISO 4217); the bank's default if omitted
    #[arg(long, value_name = "CODE")]
    currency: Option<Currency>,

    /// Name of this import, part of every idempotency key; the file name without its folders if omitted. Files of one
    /// name share their accounts, and must not share transaction ids
    #[arg(long)]
    name: Option<String>,

    /// How many accounts are imported at the same time
    #[arg(long, default_value_t = PARALLEL_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=PARALLEL_MAX))]
    parallel: u16,
}

fn money(text: &str) -> Result<Money, String> {
    let cents = text.parse().map_err(|error| format!("must be a whole number of cents: {error}"))?;
    Money::new(cents).map_err(|error| error.to_string())
}

/// Reads, plays, compares, reports.
pub(crate) async fn run(args: ImportArgs) -> anyhow::Result<Exit> {
    let name = match args.name {
        Some(name) => name,
        None => args.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        let told = format!("an import's name must have 1 to {NAME_CHARS_MAX} visible ASCII characters; set --name");
        return Err(CodedFailure::new(Exit::Usage, told).into());
    }
    let statements = read(&args.file)
        .map_err(|error| CodedFailure::new(Exit::BadFile, format_args!("{}: {error}", args.file.display())))?;
    Service::Account.refuse_other(&args.url, "--url").await?;
    let progress = progress_bar(statements.iter().map(|statement| statement.lines.len()).sum());
    let client = Client::new(args.url, usize::from(args.parallel))?;
    let player = Player::new(client, name, args.overdraft_limit, args.currency, progress.clone());
    let started = Instant::now();
    let ended = player.play(statements, usize::from(args.parallel)).await;
    progress.finish_and_clear();
    let summary = ended?;
    Ok(console::print(&report::render(&summary, started.elapsed()), summary.exit()))
}

fn read(path: &Path) -> Result<Vec<Statement>, ReadError> {
    let file = io::BufReader::new(File::open(path)?);
    let is_packed = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
    let text: Box<dyn Read> = if is_packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    reader::read(text)
}

/// Drawn on a terminal only.
fn progress_bar(lines: usize) -> ProgressBar {
    console::progress_bar(lines as u64, "{bar:40} {human_pos}/{human_len} lines, {per_sec}, {eta} left")
}
