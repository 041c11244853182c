use std::time::Duration;

use axum::http::{Method, StatusCode};
use balance_service::verify::{ACCOUNTS_MAX, PATIENCE_MIN};
use serde_json::{Value, json};
use shared::clock::Timestamp;
use shared::event::{AccountEvent, NewEvent, Personal, codec};
use shared::id::{AccountId, EventId};
use shared::money::Money;
use shared::owner::Owner;
use shared::store::Registers;

use crate::fixture::{Answer, Bank, PATIENCE_NOTED, account, balance, parked};

/// The events of a stream of server-sent events: name and data.
fn events(answer: &Answer) -> Vec<(String, Value)> {
    let events = answer.text.split("\n\n").filter(|event| !event.is_empty());
    let parts = events.map(|event| event.split_once('\n').unwrap());
    parts
        .map(|(name, data)| {
            let name = name.strip_prefix("event: ").unwrap().to_owned();
            (name, serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap())
        })
        .collect()
}

async fn verify(bank: &Bank, query: &str) -> Vec<(String, Value)> {
    verify_for(bank, PATIENCE_MIN, query).await
}

async fn verify_for(bank: &Bank, patience: Duration, query: &str) -> Vec<(String, Value)> {
    let path = format!("/balance/verify?patience_ms={}{query}", patience.as_millis());
    let answer = bank.ask(Method::POST, &path, &[]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let mut events = events(&answer);
    events.retain(|(name, _)| name != "progress");
    events
}

#[tokio::test]
async fn every_partition_is_reported_and_then_that_it_is_done() {
    let (bank, _) = Bank::with(vec![balance(1, "Paulo", 500, 3)]).await;
    let events = verify(&bank, "").await;
    assert_eq!(events.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["partition", "partition", "done"]);
    assert_eq!((&events[0].1["partition"], &events[1].1["partition"]), (&json!(1), &json!(2)));
    let orphans: u64 = events[..2].iter().map(|(_, report)| report["found"]["orphans"].as_u64().unwrap()).sum();
    assert_eq!(orphans, 1, "the store knows of no account");

    let events = verify(&bank, "&partitions=2").await;
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].1["partition"], 2);
}

/// Opens the account with number 1 in the store alone.
async fn open(bank: &Bank) {
    let event = AccountEvent::AccountOpened {
        currency: "EUR".parse().unwrap(),
        overdraft_limit: Money::ZERO,
        opening: Money::new(70).unwrap(),
        personal: Personal { owner: Owner::new("Maria").unwrap() },
    };
    let opened = NewEvent { id: EventId::from_number(1), time: Timestamp::EPOCH, event };
    bank.commit(1, codec::encode(&[opened])).await;
}

#[tokio::test]
async fn a_missing_document_is_repaired_when_that_is_asked_for() {
    let (bank, _) = Bank::with(Vec::new()).await;
    open(&bank).await;
    let missing = |events: &[(String, Value)], part: &str| -> u64 {
        events.iter().filter_map(|(_, report)| report[part]["missing"].as_u64()).sum()
    };
    let looked = verify(&bank, "&repair=false").await;
    assert_eq!((missing(&looked, "found"), missing(&looked, "left")), (1, 0));
    assert_eq!(bank.get(&format!("/balance/{}", account(1))).await.status, StatusCode::NOT_FOUND);

    let repaired = verify(&bank, "&repair=true").await;
    assert_eq!((missing(&repaired, "found"), missing(&repaired, "left")), (1, 0));
    assert_eq!(bank.get(&format!("/balance/{}", account(1))).await.json()["balance"], 70);
}

#[tokio::test]
async fn an_account_is_parked_only_until_its_document_has_passed_the_entry() {
    let (bank, generation) = Bank::with(Vec::new()).await;
    open(&bank).await;
    bank.park(generation, vec![parked(1, 1)]).await;
    let query = format!("&accounts={}", account(1));
    let counts = async || {
        let events = verify(&bank, &query).await;
        ["checked", "parked", "missing"].map(|count| events[0].1["found"][count].as_u64().unwrap())
    };
    assert_eq!(counts().await, [0, 1, 0]);
    bank.write(generation, vec![balance(1, "Maria", 70, 1)]).await;
    assert_eq!(counts().await, [1, 0, 0], "the event at which it was parked is in the document");
}

#[tokio::test]
async fn without_a_view_the_check_fails_and_says_why() {
    let bank = Bank::empty().await;
    let events = verify(&bank, "").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].0, "failed");
    assert!(events[0].1["detail"].as_str().unwrap().contains("no projection yet"), "{events:?}");
}

/// What is noted of the last verification of the whole view.
async fn noted(bank: &Bank) -> Option<Value> {
    let register = bank.store.read_register("verify/balance").await.unwrap()?;
    Some(serde_json::from_slice(&register.value).unwrap())
}

#[tokio::test]
async fn a_check_of_every_partition_is_noted_with_what_is_wrong_when_it_ends() {
    let (bank, generation) = Bank::with(vec![balance(1, "Paulo", 500, 3)]).await;
    verify_for(&bank, PATIENCE_NOTED, "&partitions=1").await;
    assert_eq!(noted(&bank).await, None);
    for repair in ["false", "true"] {
        verify_for(&bank, PATIENCE_NOTED, &format!("&repair={repair}")).await;
        let noted = noted(&bank).await.unwrap();
        let told = (&noted["generation"], &noted["found"]["orphans"]);
        assert_eq!(told, (&json!(generation.0), &json!(1)), "no repair removes an orphan");
    }
}

#[tokio::test]
async fn what_a_hasty_check_finds_wrong_is_not_noted_and_that_it_finds_nothing_wrong_is() {
    let (wrong, _) = Bank::with(vec![balance(1, "Paulo", 500, 3)]).await;
    let events = verify(&wrong, "").await;
    assert_eq!(events.last().unwrap().0, "done");
    assert_eq!(noted(&wrong).await, None, "the worker of the view may only have been slow");
    let (right, generation) = Bank::with(Vec::new()).await;
    verify(&right, "").await;
    assert_eq!(noted(&right).await.unwrap()["generation"], generation.0);
}

#[tokio::test]
async fn a_check_of_accounts_reports_these_alone_and_is_not_noted_though_every_partition_has_some() {
    let documents = [0, 1, 2].map(|number| balance(number, "Paulo", 500, 3));
    let (bank, _) = Bank::with(documents.to_vec()).await;
    let query = format!("&accounts={},{}", account(1), account(0));
    let events = verify_for(&bank, PATIENCE_NOTED, &query).await;
    assert_eq!(events.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["partition", "partition", "done"]);
    for ((_, report), number) in events.iter().zip([0, 1]) {
        let found = (&report["found"]["checked"], &report["found"]["orphans"]);
        assert_eq!(found, (&json!(1), &json!(1)), "{report}");
        assert_eq!(report["found"]["findings"][0]["account"], account(number).to_string());
    }
    assert_eq!(noted(&bank).await, None, "there are other accounts");

    let events = verify(&bank, &format!("&accounts={}", account(0))).await;
    assert_eq!((events.len(), &events[0].1["partition"]), (2, &json!(1)));
}

#[tokio::test]
async fn accounts_that_do_not_exist_are_named_and_nothing_is_compared() {
    let (bank, _) = Bank::with(vec![balance(1, "Paulo", 500, 3)]).await;
    let asked = [2, 1, 0].map(|number| account(number).to_string()).join(",");
    let events = verify(&bank, &format!("&accounts={asked}&repair=true")).await;
    let told = format!("no such account: {}, {}", account(0), account(2));
    assert_eq!(events, [("failed".to_owned(), json!({ "detail": told }))]);
}

#[tokio::test]
async fn a_service_compares_once_at_a_time_and_ends_with_its_client() {
    let (bank, _) = Bank::with(vec![balance(1, "Paulo", 500, 3)]).await;
    // The orphan makes the first request wait out its patience.
    let first = bank.ask(Method::POST, "/balance/verify?patience_ms=60000", &[]);
    let second = async {
        loop {
            let second = bank.ask(Method::POST, "/balance/verify?patience_ms=1000", &[]).await;
            if second.status == StatusCode::CONFLICT {
                return second;
            }
        }
    };
    tokio::select! {
        biased;
        _ = first => panic!("an orphan is judged before the patience is over"),
        second = second => {
            assert_eq!(second.json()["code"], "verification_running");
            assert!(second.text.contains("when the other client is answered or gone"), "{}", second.text);
        }
    }
    // The first client has gone.
    verify(&bank, "").await;
}

#[tokio::test]
async fn a_wrong_parameter_is_refused_before_anything_begins() {
    let (bank, _) = Bank::with(Vec::new()).await;
    let both = format!("partitions=1&accounts={}", account(1));
    let ids = (0_u128..).map(|number| AccountId::from_bytes(number.to_be_bytes()).to_string());
    let too_many = format!("accounts={}", ids.take(ACCOUNTS_MAX + 1).collect::<Vec<_>>().join(","));
    for (query, field) in [
        (&*both, "accounts"),
        (&*too_many, "accounts"),
        ("accounts=", "accounts"),
        ("accounts=7", "accounts"),
        ("partitions=3", "partitions"),
        ("partitions=0", "partitions"),
        ("partitions=1,x", "partitions"),
        ("partitions=", "partitions"),
        ("patience_ms=999", "patience_ms"),
        ("patience_ms=3600001", "patience_ms"),
        ("repair=yes", "repair"),
    ] {
        let refusal = bank.ask(Method::POST, &format!("/balance/verify?{query}"), &[]).await;
        assert_eq!(refusal.status, StatusCode::BAD_REQUEST, "{query}: {}", refusal.text);
        assert_eq!(refusal.json()["errors"][0]["field"], field, "{query}");
    }
}
