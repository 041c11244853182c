//! What commands cost in the store: by law T6 a batch is what arrived while the one before it was under way, and a
//! batch is one append, however many accounts it concerns.

use std::time::Duration;

use account_service::account::Command;
use account_service::command::{CommandError, Teller};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::bank::{Bank, all_at_once, all_taken, amount, deposit, opened};
use super::bill::{Bill, bound};
use crate::world::store::WorldStore;

/// How many customers come at once.
const CUSTOMERS: usize = 1_000;

/// How many commands each customer sends, each after the answer to the one before.
const VISITS: usize = 10;

/// A snapshot is saved in the background, within this time.
const SNAPSHOT_SAVED_WITHIN: Duration = Duration::from_secs(1);

const COME_TOGETHER: &str = "all of them wait when the dispatch looks, and a batch holds 1,024";

/// Customers who each send one command after the other, as soon as the one before is answered.
async fn visit(teller: &Teller<WorldStore>, wishes: impl Iterator<Item = Vec<Command>>) {
    let mut customers = JoinSet::new();
    for wishes in wishes {
        let teller = teller.clone();
        customers.spawn(async move {
            for wish in wishes {
                all_taken(&teller, vec![wish]).await;
            }
        });
    }
    customers.join_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_thousand_commands_to_known_accounts_are_one_append_and_no_read() {
    let bank = Bank::new(1);
    let teller = bank.teller();
    let accounts = opened(&teller, CUSTOMERS).await;
    let deposits = accounts.iter().map(|account| deposit(*account)).collect();
    let bill = Bill::of(&bank.world, all_taken(&teller, deposits)).await;
    bill.assert(&[bound("store.append", 1, COME_TOGETHER)]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_commands_to_one_account_are_one_append() {
    let bank = Bank::new(1);
    let teller = bank.teller();
    let hot = opened(&teller, 1).await[0];
    let bill = Bill::of(&bank.world, async {
        all_taken(&teller, vec![deposit(hot); CUSTOMERS]).await;
        sleep(SNAPSHOT_SAVED_WITHIN).await;
    });
    bill.await.assert(&[
        bound("store.append", 1, COME_TOGETHER),
        bound("store.save_snapshots", 1, "the batch passes a multiple of 500 events, and keeps its last state"),
    ]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_transfers_round_a_circle_are_one_append() {
    let bank = Bank::new(1);
    let teller = bank.teller();
    let accounts = opened(&teller, CUSTOMERS).await;
    let to_the_next = |(number, from): (usize, &_)| Command::Transfer {
        from: *from,
        to: accounts[(number + 1) % CUSTOMERS],
        amount: amount(1),
    };
    let transfers = accounts.iter().enumerate().map(to_the_next).collect();
    let bill = Bill::of(&bank.world, all_taken(&teller, transfers)).await;
    bill.assert(&[bound("store.append", 1, COME_TOGETHER)]);
}

#[tokio::test(start_paused = true)]
async fn the_first_touch_of_a_thousand_accounts_is_one_load() {
    let bank = Bank::new(1);
    let accounts = opened(&bank.teller(), CUSTOMERS).await;
    let stranger = bank.teller();
    let deposits = accounts.iter().map(|account| deposit(*account)).collect();
    let bill = Bill::of(&bank.world, all_taken(&stranger, deposits)).await;
    bill.assert(&[
        bound("store.load_snapshots", 1, "the batch asks for all of its accounts at once"),
        bound("store.read_streams", 1, "it reads all of their streams at once, and none has 32 events"),
        bound("store.append", 1, COME_TOGETHER),
    ]);
}

#[tokio::test(start_paused = true)]
async fn the_first_touch_of_longer_streams_is_one_more_read() {
    let bank = Bank::new(1);
    let teller = bank.teller();
    let accounts = opened(&teller, 10).await;
    let deposits = |times| accounts.iter().flat_map(|account| vec![deposit(*account); times]).collect();
    all_taken(&teller, deposits(40)).await;
    let stranger = bank.teller();
    let bill = Bill::of(&bank.world, all_taken(&stranger, deposits(1))).await;
    bill.assert(&[
        bound("store.load_snapshots", 1, "the batch asks for all of its accounts at once"),
        bound("store.read_streams", 2, "each has 41 events, of which the first read asks for 32"),
        bound("store.append", 1, COME_TOGETHER),
    ]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_refusals_are_one_read() {
    let bank = Bank::new(1);
    let teller = bank.teller();
    let accounts = opened(&teller, CUSTOMERS).await;
    let too_much = |account: &_| Command::Withdraw { account: *account, amount: amount(1_000_000) };
    let withdrawals = accounts.iter().map(too_much).collect();
    let bill = Bill::of(&bank.world, async {
        for outcome in all_at_once(&teller, withdrawals).await {
            assert!(matches!(outcome, Err(CommandError::Rejected(_))), "{outcome:?}");
        }
    });
    bill.await.assert(&[bound("store.read_streams", 1, "law T3 asks for a read, and one is enough for a batch")]);
}

#[tokio::test(start_paused = true)]
async fn customers_who_come_again_and_again_share_their_appends() {
    let bank = Bank::new(1);
    let teller = bank.teller();
    let accounts = opened(&teller, CUSTOMERS).await;
    let deposits = visit(&teller, accounts.iter().map(|account| vec![deposit(*account); VISITS]));
    let bill = Bill::of(&bank.world, deposits).await;
    bill.assert(&[bound("store.append", 10, "who was answered together comes again together")]);
}

#[tokio::test(start_paused = true)]
async fn customers_of_one_account_who_come_again_and_again_share_their_appends() {
    let bank = Bank::new(1);
    let teller = bank.teller();
    let hot = opened(&teller, 1).await[0];
    let bill = Bill::of(&bank.world, visit(&teller, std::iter::repeat_n(vec![deposit(hot); VISITS], CUSTOMERS))).await;
    bill.assert(&[
        bound("store.append", 10, "while one batch is under way all others wait for the account, and are the next"),
        bound("store.save_snapshots", 10, "each batch passes multiples of 500 events"),
    ]);
}
