//! Statements of random accounts, page by page, against the folds of their streams.

use futures::future::join_all;
use proptest::prelude::*;
use shared::clock::Timestamp;
use shared::coordinate::Version;
use shared::event::{StreamAfter, codec};
use shared::id::{AccountId, EventId};
use shared::money::{MONEY_MAX, Money};
use shared::store::EventStore;

use super::{Line, Place};
use crate::account::{Account, Command};
use crate::command::CommandError;
use crate::testing::{Bank, deposit, transfer, withdraw};

/// More events than an account of these tests has.
const EVENTS_MAX: usize = 1_000;

/// Which command, whether it concerns the second of two accounts, and how much money.
type Wish = (u8, bool, i64);

fn command((what, is_second, minor_units): Wish, [first, second]: [AccountId; 2]) -> Command {
    let (account, other) = if is_second { (second, first) } else { (first, second) };
    match what {
        0 => deposit(account, minor_units),
        1 => withdraw(account, minor_units),
        2 => transfer(account, other, minor_units),
        _ => Command::Rename { account, owner: serde_json::from_str("\"Ana\"").unwrap() },
    }
}

/// What the fold of the stream says of each version, newest first.
async fn folded(bank: &Bank, account: AccountId) -> Vec<(Version, EventId, Timestamp, Money)> {
    let whole = [StreamAfter { stream: account, after: Version::EMPTY }];
    let records = bank.store.read_streams(&whole, EVENTS_MAX).await.unwrap().remove(0);
    let (mut states, mut known) = (Vec::new(), None);
    for new in records.iter().flat_map(|recorded| codec::decode(&recorded.events).unwrap()) {
        let after = Account::evolve(known.take(), account, &new.event, new.time).unwrap();
        states.push((after.version, new.id, new.time, after.balance));
        known = Some(after);
    }
    states.reverse();
    states
}

/// All lines, in pages; money comes in after the first one.
async fn listed(bank: &Bank, account: AccountId, lines_max: usize) -> Vec<Line> {
    let (mut lines, mut from) = (Vec::new(), None);
    loop {
        let page = bank.teller.statement(account, from, lines_max).await.unwrap().expect("the account is open");
        assert!((1..=lines_max).contains(&page.lines.len()), "a page of {} lines", page.lines.len());
        if lines.is_empty() {
            bank.execute(deposit(account, 1)).await.unwrap();
        }
        lines.extend(page.lines);
        assert!(lines.len() < EVENTS_MAX, "the pages never end");
        from = page.next;
        if from.is_none() {
            return lines;
        }
    }
}

async fn every_page_size_lists_the_stream(wishes: Vec<Wish>) {
    let bank = Bank::new();
    let accounts = [bank.open(50).await, bank.open(0).await];
    let commands = wishes.into_iter().map(|wish| bank.execute(command(wish, accounts)));
    let outcomes = join_all(commands).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(_) | Err(CommandError::Rejected(_)))), "{outcomes:?}");
    for account in accounts {
        let events = folded(&bank, account).await.len();
        for lines_max in 1..=events + 1 {
            let expected = folded(&bank, account).await;
            let lines = listed(&bank, account, lines_max).await;
            let shown: Vec<_> = lines.iter().map(|line| (line.version, line.event, line.time, line.balance)).collect();
            assert_eq!(shown, expected, "pages of {lines_max} lines");
            let before: Vec<i64> = lines.iter().map(|line| line.balance.get() - line.change.get()).collect();
            let below = lines.iter().skip(1).map(|line| line.balance.get());
            assert_eq!(before, below.chain([0]).collect::<Vec<_>>(), "pages of {lines_max} lines");
        }
    }
}

/// Laws ST1 to ST3.
#[test]
fn pages_of_every_size_show_every_event_once_with_its_balance_while_commands_go_on() {
    let config = ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() };
    let wishes = prop::collection::vec((0..4_u8, any::<bool>(), 1..60_i64), 0..16);
    proptest!(config, |(given in wishes)| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(every_page_size_lists_the_stream(given));
    });
}

/// Law ST4.
#[tokio::test]
async fn a_page_far_down_asks_for_no_more_events_than_it_has_lines() {
    const LINES: usize = 50;
    let bank = Bank::new();
    let account = bank.open(0).await;
    let outcomes = join_all((0..300).map(|_| bank.execute(deposit(account, 1)))).await;
    assert!(outcomes.iter().all(Result::is_ok));
    let lines = listed(&bank, account, LINES).await;
    assert_eq!((lines.len(), bank.store.events_asked_max()), (301, LINES));
}

#[tokio::test]
async fn a_place_at_which_the_account_never_was_has_no_page() {
    let bank = Bank::new();
    let account = bank.open(5).await;
    bank.execute(deposit(account, 7)).await.unwrap();
    let nobody = bank.teller.ids().account();
    assert_eq!(bank.teller.statement(nobody, None, 10).await, Ok(None));
    let page = async |version: u64, minor_units: i64, lines_max: usize| {
        let place = Place { version: Version::new(version), balance: Money::new(minor_units).unwrap() };
        bank.teller.statement(account, Some(place), lines_max).await.unwrap()
    };
    assert_eq!(page(2, 12, 10).await.map(|page| page.lines.len()), Some(2));
    assert_eq!(page(3, 12, 10).await, None, "the stream ends below");
    assert_eq!(page(2, 13, 10).await, None, "the account was opened with less");
    assert_eq!(page(2, -MONEY_MAX, 1).await, None, "the balance before is none");
}

/// A new primary may not show the last commits yet, which this process knows of.
#[tokio::test]
async fn an_account_whose_last_event_the_store_does_not_show_yet_is_asked_for_again() {
    let bank = Bank::new();
    let account = bank.open(5).await;
    bank.execute(deposit(account, 7)).await.unwrap();
    bank.store.read_behind(2);
    assert_eq!(bank.teller.statement(account, None, 10).await, Err(CommandError::Unavailable));
    assert_eq!(bank.teller.statement(account, None, 10).await.map(|page| page.unwrap().lines.len()), Ok(2));
}

#[tokio::test]
async fn a_next_page_that_the_store_does_not_show_yet_is_no_wrong_place_to_a_process_that_knows_the_account() {
    let bank = Bank::new();
    let account = bank.open(5).await;
    bank.execute(deposit(account, 7)).await.unwrap();
    let next = bank.teller.statement(account, None, 1).await.unwrap().unwrap().next;
    assert!(next.is_some());
    bank.store.read_behind(1);
    assert_eq!(bank.teller.statement(account, next, 1).await, Err(CommandError::Unavailable));
    assert_eq!(bank.teller.statement(account, next, 1).await.map(|page| page.unwrap().lines.len()), Ok(1));
    let stranger = bank.sibling();
    bank.store.read_behind(1);
    assert_eq!(stranger.teller.statement(account, next, 1).await, Ok(None), "it has only the word of the store");
}
