use std::collections::BTreeSet;

use bytes::Bytes;
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use shared::clock::Timestamp;
use shared::coordinate::Version;
use shared::event::{AccountEvent, NewEvent, codec};
use shared::id::{AccountId, EventId};
use shared::money::Amount;
use shared::store::{Commit, EventStore, Snapshot, Snapshots, StreamWrite};

use super::patience::STORE_CALL_TIME_MAX;
use super::teller::QUEUE_MAX;
use super::{CommandError, Receipt, Request};
use crate::account::{Account, Command, Rejection, Status};
use crate::testing::{Bank, deposit, transfer, withdraw};

#[tokio::test]
async fn a_busy_account_takes_everything_in_a_few_appends_without_a_gap() {
    let bank = Bank::new();
    let account = bank.open(0).await;
    let before = bank.store.appends();
    let outcomes = join_all((0..500).map(|_| bank.execute(deposit(account, 1)))).await;
    let versions: BTreeSet<u64> =
        outcomes.into_iter().map(|outcome| outcome.unwrap().receipt.account().version.get()).collect();
    assert_eq!(versions, (2..=501).collect());
    assert_eq!(bank.balance(account).await, 500);
    assert!(bank.store.appends() - before <= 10, "{} appends for 500 commands", bank.store.appends() - before);
}

#[tokio::test]
async fn commands_of_one_account_are_carried_out_in_the_order_they_came() {
    let bank = Bank::new();
    let (account, other) = (bank.open(10_000).await, bank.open(10_000).await);
    let commands = (0..300).map(|n| match n % 3 {
        0 => deposit(account, 1),
        1 => transfer(other, account, 1),
        _ => transfer(account, other, 1),
    });
    let outcomes = join_all(commands.map(|command| bank.execute(command))).await;
    let versions = outcomes.into_iter().map(|outcome| {
        let receipt = outcome.unwrap().receipt;
        let Receipt::Transferred { from, to, .. } = receipt else { return receipt.account().version };
        if from.id == account { from.version } else { to.version }
    });
    assert!(versions.is_sorted_by(|earlier, later| earlier < later));
}

/// The first refusal has to be proved by a read, since the accounts are known from memory only; the commands after it
/// must not take effect before it is decided again.
#[tokio::test]
async fn a_command_that_is_decided_again_is_not_overtaken_at_its_accounts() {
    let bank = Bank::new();
    let (first, second, third) = (bank.open(0).await, bank.open(100).await, bank.open(0).await);
    let commands = [
        withdraw(first, 100),
        transfer(second, first, 100),
        withdraw(second, 100),
        deposit(first, 1),
        deposit(third, 1),
    ];
    let before = bank.store.appends();
    let outcomes = join_all(commands.map(|command| bank.execute(command))).await;
    let refused = [0, 2].map(|index| outcomes[index].clone().unwrap_err());
    let insufficient = |account| CommandError::from(Rejection::InsufficientFunds { account });
    assert_eq!(refused, [insufficient(first), insufficient(second)], "each came when its account was empty");
    let balances = join_all([first, second, third].map(|account| bank.balance(account))).await;
    assert_eq!(balances, [101, 0, 1]);
    assert_eq!(bank.store.appends() - before, 2, "one for each round");
}

#[tokio::test(flavor = "multi_thread")]
async fn money_is_conserved_among_many_transfers_and_nothing_is_refused_for_a_conflict() {
    let bank = Bank::new();
    let mut accounts = Vec::new();
    for _ in 0..8 {
        accounts.push(bank.open(1_000).await);
    }
    let mut random = StdRng::seed_from_u64(7);
    let commands: Vec<Command> = (0..1_000)
        .map(|_| {
            let (from, to) = (random.random_range(0..8_usize), random.random_range(0..7_usize));
            let to = if to >= from { to + 1 } else { to };
            transfer(accounts[from], accounts[to], random.random_range(1..400))
        })
        .collect();
    let mut taken = 0;
    for outcome in join_all(commands.into_iter().map(|command| bank.execute(command))).await {
        match outcome {
            Ok(_) => taken += 1,
            Err(CommandError::Rejected(Rejection::InsufficientFunds { .. })) => {}
            Err(other) => panic!("{other}"),
        }
    }
    let balances = join_all(accounts.iter().map(|account| bank.balance(*account))).await;
    assert_eq!(balances.iter().sum::<i64>(), 8_000);
    assert!(balances.iter().all(|balance| *balance >= 0));
    assert_eq!(bank.events().await, 8 + 2 * taken);
}

#[tokio::test]
async fn an_append_whose_answer_is_lost_has_one_effect_and_is_answered() {
    let bank = Bank::new();
    let account = bank.open(0).await;
    bank.store.lose_answers(1);
    let outcome = bank.execute(deposit(account, 5)).await.unwrap();
    assert!(!outcome.replayed);
    assert_eq!((bank.balance(account).await, bank.version(account).await), (5, Version::new(2)));

    bank.store.lose_answers(2);
    let outcomes = join_all((0..50).map(|_| bank.execute(deposit(account, 1)))).await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!((bank.balance(account).await, bank.version(account).await), (55, Version::new(52)));
}

/// As above: a commit that was taken although its answer was lost still precedes the commands after it.
#[tokio::test]
async fn a_refusal_among_appends_whose_answer_is_lost_is_not_overtaken() {
    let bank = Bank::new();
    let account = bank.open(0).await;
    bank.store.lose_answers(1);
    let commands = [deposit(account, 1), withdraw(account, 1_000), deposit(account, 1_000)];
    let outcomes = join_all(commands.map(|command| bank.execute(command))).await;
    assert_eq!(outcomes[1], Err(Rejection::InsufficientFunds { account }.into()), "it came before the second deposit");
    assert_eq!((bank.balance(account).await, bank.version(account).await), (1_001, Version::new(3)));
}

#[tokio::test]
async fn an_outcome_that_stays_unknown_is_not_called_a_failure_and_its_key_tells_later() {
    let bank = Bank::new();
    let account = bank.open(10).await;
    bank.store.lose_answers_for_good(1);
    let lost = bank.execute_keyed("lost", withdraw(account, 10)).await;
    assert_eq!(lost, Err(CommandError::OutcomeUnknown));
    let told = bank.execute_keyed("lost", withdraw(account, 10)).await.unwrap();
    assert!(told.replayed);
    assert_eq!((bank.balance(account).await, bank.version(account).await), (0, Version::new(2)));
}

#[tokio::test]
async fn a_store_that_recovers_is_waited_for_and_one_that_is_broken_is_not() {
    let bank = Bank::new();
    let account = bank.open(0).await;
    bank.store.fail(3);
    bank.execute(deposit(account, 5)).await.unwrap();
    bank.store.break_down(1);
    assert_eq!(bank.execute(deposit(account, 5)).await, Err(CommandError::Unavailable));
    bank.execute(deposit(account, 5)).await.unwrap();
    assert_eq!(bank.balance(account).await, 10);
}

#[tokio::test]
async fn a_few_commands_do_not_wait_for_a_large_batch_that_hangs() {
    let bank = Bank::new();
    let (mut accounts, other) = (Vec::new(), bank.open(0).await);
    for _ in 0..20 {
        accounts.push(bank.open(0).await);
    }
    let before = bank.store.appends();
    bank.store.hang(1);
    let hanging = join_all(accounts.iter().map(|account| bank.execute(deposit(*account, 1))));
    let others = async {
        while bank.store.appends() == before {
            tokio::task::yield_now().await;
        }
        for _ in 0..3 {
            bank.execute(deposit(other, 1)).await.unwrap();
        }
    };
    tokio::select! {
        biased;
        _ = hanging => panic!("the store does not answer"),
        done = tokio::time::timeout(STORE_CALL_TIME_MAX / 2, others) => done.expect("they have a batch of their own"),
    }
    assert_eq!(bank.balance(other).await, 3);
}

#[tokio::test]
async fn commands_that_wait_for_an_account_whose_batch_hangs_keep_out_no_others() {
    let bank = Bank::new();
    let (busy, free) = (bank.open(0).await, bank.open(0).await);
    let before = bank.store.appends();
    bank.store.hang(1);
    let others = async {
        while bank.store.appends() == before {
            tokio::task::yield_now().await;
        }
        let waiting = join_all((1..QUEUE_MAX).map(|_| bank.execute(deposit(busy, 1))));
        let passing = async {
            let passed = tokio::time::timeout(STORE_CALL_TIME_MAX / 2, bank.execute(deposit(free, 1))).await;
            passed.expect("its account is free").unwrap();
            tokio::select! {
                biased;
                _ = bank.execute(deposit(busy, 1)) => panic!("it is the last that may wait"),
                refused = bank.execute(deposit(busy, 1)) => assert_eq!(refused, Err(CommandError::Overloaded)),
            }
        };
        tokio::select! {
            biased;
            _ = waiting => panic!("they have to wait"),
            () = passing => {}
        }
    };
    tokio::select! {
        biased;
        _ = bank.execute(deposit(busy, 1)) => panic!("the store does not answer"),
        () = others => {}
    }
    assert_eq!(bank.balance(free).await, 1);
}

#[tokio::test]
async fn a_command_that_finds_too_many_waiting_is_told_so_and_has_no_effect() {
    const TOO_MANY: usize = 100;
    let bank = Bank::new();
    let account = bank.open(0).await;
    // All of them arrive before the dispatch runs.
    let outcomes = join_all((0..QUEUE_MAX + TOO_MANY).map(|_| bank.execute(deposit(account, 1)))).await;
    let (taken, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((taken.len(), refused.len()), (QUEUE_MAX, TOO_MANY));
    assert!(refused.iter().all(|outcome| *outcome == Err(CommandError::Overloaded)));
    assert_eq!(bank.balance(account).await, i64::try_from(QUEUE_MAX).unwrap());
}

#[tokio::test]
async fn two_processes_on_one_account_lose_nothing() {
    let here = Bank::new();
    let there = here.sibling();
    let account = here.open(0).await;
    let (ours, theirs) = tokio::join!(
        join_all((0..200).map(|_| here.execute(deposit(account, 1)))),
        join_all((0..200).map(|_| there.execute(deposit(account, 1)))),
    );
    assert!(ours.iter().chain(&theirs).all(Result::is_ok));
    assert_eq!((here.balance(account).await, here.version(account).await), (400, Version::new(401)));
}

#[tokio::test]
async fn nothing_is_refused_on_an_old_state() {
    let here = Bank::new();
    let there = here.sibling();
    let account = here.open(0).await;
    there.execute(deposit(account, 100)).await.unwrap();
    // The first process still believes that the account is empty.
    here.execute(withdraw(account, 100)).await.unwrap();
    // And the second that it holds 100.
    let refused = there.execute(withdraw(account, 1)).await;
    assert_eq!(refused, Err(Rejection::InsufficientFunds { account }.into()));
    there.execute(Command::Close { account }).await.unwrap();
    let closed = here.execute(deposit(account, 1)).await;
    assert_eq!(closed, Err(Rejection::AccountClosed { account }.into()));
    assert_eq!(here.teller.account(account).await.unwrap().map(|account| account.status), Some(Status::Closed));
}

#[tokio::test]
async fn the_same_key_many_times_at_once_has_one_effect_and_one_receipt() {
    let bank = Bank::new();
    let account = bank.open(0).await;
    let outcomes = join_all((0..64).map(|_| bank.execute_keyed("once", deposit(account, 7)))).await;
    let outcomes: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().filter(|outcome| !outcome.replayed).count(), 1);
    assert!(outcomes.iter().all(|outcome| outcome.transaction == outcomes[0].transaction));
    assert!(outcomes.iter().all(|outcome| outcome.receipt == outcomes[0].receipt && outcome.time == outcomes[0].time));
    assert_eq!((bank.balance(account).await, bank.version(account).await), (7, Version::new(2)));
}

#[tokio::test]
async fn the_same_key_in_two_processes_at_once_has_one_effect() {
    let here = Bank::new();
    let there = here.sibling();
    let account = here.open(0).await;
    let (ours, theirs) =
        tokio::join!(here.execute_keyed("once", deposit(account, 7)), there.execute_keyed("once", deposit(account, 7)));
    assert_eq!(ours.unwrap().transaction, theirs.unwrap().transaction);
    assert_eq!(here.balance(account).await, 7);
}

#[tokio::test]
async fn a_repeat_that_the_rules_would_refuse_now_gets_the_first_receipt() {
    let bank = Bank::new();
    let account = bank.open(50).await;
    let first = bank.execute_keyed("all", withdraw(account, 50)).await.unwrap();
    let again = bank.execute_keyed("all", withdraw(account, 50)).await.unwrap();
    assert!(again.replayed && !first.replayed);
    assert_eq!(again.receipt, first.receipt);
    let other = bank.execute_keyed("new", withdraw(account, 50)).await;
    assert_eq!(other, Err(Rejection::InsufficientFunds { account }.into()));
    // A refusal does not use up its key.
    bank.execute(deposit(account, 50)).await.unwrap();
    bank.execute_keyed("new", withdraw(account, 50)).await.unwrap();
    assert_eq!(bank.balance(account).await, 0);
}

#[tokio::test]
async fn a_key_stands_for_one_request() {
    let bank = Bank::new();
    let account = bank.open(50).await;
    bank.execute_keyed("one", deposit(account, 1)).await.unwrap();
    let reused = [deposit(account, 2), withdraw(account, 1), withdraw(account, 1_000)];
    for command in reused {
        assert_eq!(bank.execute_keyed("one", command).await, Err(CommandError::KeyReused));
    }
    let at_once = join_all([1, 2].map(|minor_units| bank.execute_keyed("two", deposit(account, minor_units)))).await;
    assert!(matches!(at_once[..], [Ok(_), Err(CommandError::KeyReused)]));
    assert_eq!(bank.balance(account).await, 52);
}

#[tokio::test]
async fn a_version_that_has_passed_is_told() {
    let bank = Bank::new();
    let account = bank.open(50).await;
    let at = |version| Request { command: deposit(account, 1), key: None, if_match: Some(Version::new(version)) };
    bank.teller.execute(at(1)).await.unwrap();
    let (expected, actual) = (Version::new(1), Version::new(2));
    let passed = bank.teller.execute(at(1)).await;
    assert_eq!(passed, Err(CommandError::VersionMismatch { account, expected, actual }));
    let at_once = join_all((0..10).map(|_| bank.teller.execute(at(2)))).await;
    assert_eq!(at_once.iter().filter(|outcome| outcome.is_ok()).count(), 1);
}

#[tokio::test]
async fn a_long_stream_gets_a_snapshot_and_reads_the_same_with_it() {
    let bank = Bank::new();
    let account = bank.open(0).await;
    let outcomes = join_all((0..2_500).map(|_| bank.execute(deposit(account, 1)))).await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert!(bank.snapshot(account).await.version >= Version::new(500));
    let (with_memory, without) = (bank.teller.account(account).await, bank.sibling().teller.account(account).await);
    assert_eq!(with_memory, without);
    assert_eq!(without.unwrap().map(|account| account.balance.get()), Some(2_500));
}

#[tokio::test]
async fn a_snapshot_stands_for_a_beginning_that_cannot_be_read() {
    let bank = Bank::new();
    let account = append_nonsense(&bank).await;
    let model = bank.open(5).await;
    let model = bank.teller.account(model).await.unwrap().unwrap();
    let state = serde_json::to_vec(&Account { id: account, ..model }).unwrap().into();
    let snapshot = Snapshot { stream: account, version: Version::new(1), schema: Account::SCHEMA, state };
    bank.store.save_snapshots(vec![snapshot]).await.unwrap();

    bank.execute(deposit(account, 1)).await.unwrap();
    assert_eq!((bank.balance(account).await, bank.version(account).await), (6, Version::new(2)));
}

#[tokio::test]
async fn a_stream_that_makes_no_sense_is_neither_shown_nor_written() {
    let bank = Bank::new();
    let account = append_nonsense(&bank).await;
    assert_eq!(bank.teller.account(account).await, Err(CommandError::Unreadable));
    assert_eq!(bank.execute(deposit(account, 1)).await, Err(CommandError::Unreadable));
    let sound = bank.open(5).await;
    assert_eq!(bank.execute(transfer(sound, account, 1)).await, Err(CommandError::Unreadable));
    assert_eq!(bank.balance(sound).await, 5);
}

#[tokio::test]
async fn shutdown_answers_everything_that_was_taken_in() {
    let bank = Bank::new();
    let account = bank.open(0).await;
    let (outcomes, ()) = tokio::join!(join_all((0..2_000).map(|_| bank.execute(deposit(account, 1)))), async {
        bank.shutdown.cancel();
    });
    let taken = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(_) | Err(CommandError::Unavailable))));
    assert_eq!(bank.balance(account).await, i64::try_from(taken).unwrap());
    assert_eq!(taken, 2_000, "what was in the queue when shutdown came was taken in");
    assert_eq!(bank.execute(deposit(account, 1)).await, Err(CommandError::Unavailable));
    bank.supervisor.wait().await.unwrap();
}

/// A stream that begins with a deposit.
async fn append_nonsense(bank: &Bank) -> AccountId {
    let account = AccountId::from_bytes([9; 16]);
    let id = bank.teller.ids().commit();
    let event = AccountEvent::MoneyDeposited { transaction: id, amount: Amount::new(1).unwrap() };
    let events = codec::encode(&[NewEvent { id: EventId::from_number(1), time: Timestamp::EPOCH, event }]);
    let writes = vec![StreamWrite { stream: account, expected: Version::EMPTY, events }];
    let commit = Commit { id, time: Timestamp::EPOCH, key: None, receipt: Bytes::from_static(b"?"), writes };
    assert!(bank.store.append(vec![commit]).await.iter().all(Result::is_ok));
    account
}
