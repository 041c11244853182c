use axum::http::{Method, StatusCode};
use bytes::Bytes;
use serde_json::json;
use shared::clock::Timestamp;
use shared::event::codec::encode;
use shared::event::{AccountEvent, EncodedEvents, NewEvent, Personal};
use shared::id::{CommitId, EventId};
use shared::index::BalanceIndex;
use shared::money::{Amount, Money};
use shared::owner::Owner;

use crate::fixture::{Bank, account, balance, parked};
use crate::rough::{Fault, REFUSED};

fn event(event: AccountEvent) -> EncodedEvents {
    encode(&[NewEvent { id: EventId::from_number(1), time: Timestamp::EPOCH, event }])
}

/// The first event of an account, which any release can fold: it is opened with 50 on it.
fn opened() -> EncodedEvents {
    event(AccountEvent::AccountOpened {
        currency: "EUR".parse().unwrap(),
        overdraft_limit: Money::ZERO,
        opening: Money::new(50).unwrap(),
        personal: Personal { owner: Owner::new("Paulo").unwrap() },
    })
}

/// No release can read it.
const fn poison() -> EncodedEvents {
    EncodedEvents { count: 1, json: Bytes::from_static(b"[{}]") }
}

#[tokio::test]
async fn parked_accounts_are_listed_page_by_page() {
    let (bank, generation) = Bank::with(Vec::new()).await;
    bank.park(generation, (1..=5).map(|number| parked(number, 7)).collect()).await;
    let mut path = Some("/balance/parked?limit=2".to_owned());
    let mut seen = Vec::new();
    while let Some(page) = path {
        assert!(seen.len() < 100, "the pages never end");
        let list = bank.get(&page).await;
        seen.extend(list.each("id"));
        path = list.next();
    }
    seen.sort_by_key(ToString::to_string);
    assert_eq!(seen, (1..=5).map(|number| json!(account(number).to_string())).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_full_page_with_nothing_behind_it_is_the_last() {
    let (bank, generation) = Bank::with(Vec::new()).await;
    bank.park(generation, (1..=4).map(|number| parked(number, 7)).collect()).await;
    for (path, shown, has_next) in [
        ("/balance/parked?limit=3".to_owned(), 3, true),
        ("/balance/parked?limit=4".to_owned(), 4, false),
        (format!("/balance/parked?limit=2&cursor={}", account(2)), 2, false),
    ] {
        let page = bank.get(&path).await;
        assert_eq!((page.each("id").len(), page.next().is_some()), (shown, has_next), "{path}");
    }
}

#[tokio::test]
async fn an_entry_that_its_document_has_passed_is_not_listed_and_leaves_its_page_full() {
    let (bank, generation) = Bank::with(Vec::new()).await;
    bank.park(generation, (1..=4).map(|number| parked(number, 7)).collect()).await;
    bank.write(generation, vec![balance(2, "Maria", 70, 7)]).await;
    let page = bank.get("/balance/parked?limit=2").await;
    let shown: Vec<_> = [1, 3].map(|number| json!(account(number).to_string())).into();
    assert_eq!((page.each("id"), page.next().is_some()), (shown, true));
}

#[tokio::test]
async fn a_page_after_something_that_is_no_id_is_refused_like_that_id_in_a_path() {
    let (bank, _) = Bank::with(Vec::new()).await;
    let in_a_path = bank.get("/balance/x").await.json()["errors"][0]["message"].clone();
    assert!(in_a_path.as_str().unwrap().starts_with("must be a UUID such as "), "{in_a_path}");
    for cursor in ["", "x", "0198c1a27f0070008000000000000001"] {
        let refusal = bank.get(&format!("/balance/parked?cursor={cursor}")).await;
        assert_eq!(refusal.status, StatusCode::BAD_REQUEST, "{cursor}: {}", refusal.text);
        assert_eq!(refusal.json()["errors"], json!([{ "field": "cursor", "message": in_a_path }]), "{cursor}");
    }
}

#[tokio::test]
async fn an_account_that_is_not_parked_cannot_be_let_go() {
    let (bank, _) = Bank::with(vec![balance(1, "Paulo", 500, 3)]).await;
    for number in [1, 2] {
        let refusal = bank.ask(Method::POST, &format!("/balance/parked/{}/retry", account(number)), &[]).await;
        assert_eq!((refusal.status, &refusal.json()["code"]), (StatusCode::NOT_FOUND, &json!("not_parked")));
    }
}

#[tokio::test]
async fn an_account_whose_events_can_be_folded_now_is_let_go() {
    let (bank, generation) = Bank::with(Vec::new()).await;
    bank.commit(1, opened()).await;
    bank.park(generation, vec![parked(1, 1)]).await;

    let retry = format!("/balance/parked/{}/retry", account(1));
    let let_go = bank.ask(Method::POST, &retry, &[]).await;
    assert_eq!((let_go.status, &let_go.json()["balance"]), (StatusCode::OK, &json!(50)), "{}", let_go.text);
    assert_eq!(bank.get(&format!("/balance/{}", account(1))).await.json()["balance"], 50);
    assert_eq!(bank.get("/balance/parked").await.json(), json!([]));
}

#[tokio::test]
async fn an_account_whose_event_still_cannot_be_folded_stays_parked() {
    let (bank, generation) = Bank::with(Vec::new()).await;
    bank.commit(1, poison()).await;
    bank.park(generation, vec![parked(1, 1)]).await;

    let refusal = bank.ask(Method::POST, &format!("/balance/parked/{}/retry", account(1)), &[]).await;
    assert_eq!((refusal.status, &refusal.json()["code"]), (StatusCode::CONFLICT, &json!("still_parked")));
    let (told, listed) = (refusal.json()["parked"].clone(), bank.get("/balance/parked").await);
    assert_eq!(listed.each("id"), [json!(account(1).to_string())]);
    assert_eq!((&told["at"], &told["since"]), (&json!(1), &listed.json()[0]["since"]));
}

#[tokio::test]
async fn an_account_whose_document_the_index_refuses_stays_parked_with_its_reason() {
    let (bank, generation) = Bank::with(Vec::new()).await;
    bank.commit(1, opened()).await;
    bank.park(generation, vec![parked(1, 1)]).await;

    let bank = bank.with_fault(Fault::RefusesDocuments);
    let refusal = bank.ask(Method::POST, &format!("/balance/parked/{}/retry", account(1)), &[]).await;
    assert_eq!((refusal.status, &refusal.json()["code"]), (StatusCode::CONFLICT, &json!("still_parked")));
    let told = refusal.json()["parked"].clone();
    assert_eq!((&told["id"], &told["at"]), (&json!(account(1).to_string()), &json!(1)));
    assert_eq!(told["reason"], REFUSED);
    assert_eq!(bank.get("/balance/parked").await.each("id"), [json!(account(1).to_string())]);
}

/// Goal: whatever a retry can fold is shown, and where the account is parked is told alike by the retry and the list.
#[tokio::test]
async fn an_account_that_gets_as_far_as_a_later_event_is_shown_and_parked_there() {
    let (bank, generation) = Bank::with(vec![balance(1, "Paulo", 50, 1)]).await;
    let deposit = || {
        let (transaction, amount) = (CommitId::from_bytes([1; 16]), Amount::new(5).unwrap());
        event(AccountEvent::MoneyDeposited { transaction, amount })
    };
    for (version, events) in [(0, opened()), (1, deposit()), (2, deposit()), (3, poison())] {
        bank.commit_after(version, 1, events).await;
    }
    bank.park(generation, vec![parked(1, 2)]).await;

    let refusal = bank.ask(Method::POST, &format!("/balance/parked/{}/retry", account(1)), &[]).await;
    assert_eq!((refusal.status, &refusal.json()["code"]), (StatusCode::CONFLICT, &json!("still_parked")));
    assert_eq!(refusal.json()["parked"]["at"], 4);
    assert_eq!(bank.get("/balance/parked").await.each("at"), [json!(4)]);
    let loaded = bank.index.load(generation, &[account(1)]).await.unwrap();
    let shown = loaded[0].balance.as_ref().map(|balance| (balance.version.get(), balance.balance.get()));
    assert_eq!(shown, Some((3, 60)));
}
