//! Reads of the projection: mostly single balances, some lists and filters.

use anyhow::ensure;

use super::account::Accounts;
use super::check;
use super::connection::Connection;
use super::cpu::CpuMeter;
use super::load::Load;
use super::options::LoadOptions;
use super::order::{self, Mix, Outcome};
use super::report::Report;

/// Opens accounts, waits until all are visible, and reads.
pub(super) async fn measure(options: &LoadOptions) -> anyhow::Result<Report> {
    let accounts = Accounts::open(options).await?;
    use_each_once(&accounts, options).await?;
    let check = check::balances(&accounts, options).await?;
    let cpu = CpuMeter::start();
    let measured = Load::new(Mix::Reads, options, &accounts).run(&options.target.balance_url).await;
    let mut report = Report::of_load("queries", options, &measured, cpu.stop());
    report.check = Some(check);
    Ok(report)
}

/// Uses each account, since only accounts that were used are waited for and checked.
async fn use_each_once(accounts: &Accounts, options: &LoadOptions) -> anyhow::Result<()> {
    let mut connection = Connection::new(&options.target.url);
    for account in 0..accounts.count() {
        let order = order::deposit(accounts, account, 1);
        let answer = connection.send(&order.call).await?;
        let is_done = matches!(order.settle(&answer, accounts), Outcome::Done);
        ensure!(is_done, "a deposit was refused: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
    }
    Ok(())
}
