use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use shared::index::BalanceIndex;
use tokio::time::{Instant, sleep, timeout};

use crate::fixture::{Bank, account, balance, parked};
use crate::rough::{Fault, RoughIndex};

/// Half of the time that a look for a parked account may take.
const AT_ONCE: Duration = Duration::from_millis(500);

/// How often an answer may be late because the machine is busy.
const ROUNDS: u64 = 5;

/// Waits until somebody looks for a parked account.
async fn looked_for(index: &RoughIndex) {
    while index.generations_asked() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn one_balance_is_found_by_its_id_or_said_to_be_unknown() {
    let (bank, _) = Bank::with(vec![balance(1, "Paulo", 500, 3)]).await;
    assert_eq!(bank.get(&format!("/balance/{}", account(1))).await.json()["balance"], 500);
    let unknown = bank.get(&format!("/balance/{}", account(2))).await;
    assert_eq!((unknown.status, &unknown.json()["code"]), (StatusCode::NOT_FOUND, &json!("account_not_found")));
    let detail = unknown.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.ends_with("if it was just opened, ask with min_version=1&wait_ms=2000"), "{detail}");
    assert_eq!(bank.get("/balance/7").await.json()["errors"][0]["field"], "id");
}

#[tokio::test]
async fn a_reader_who_knows_of_a_version_is_never_shown_an_older_one() {
    let (bank, _) = Bank::with(vec![balance(1, "Paulo", 500, 3)]).await;
    let path = format!("/balance/{}", account(1));
    assert_eq!(bank.get(&format!("{path}?min_version=3")).await.json()["version"], 3);
    for query in ["min_version=4", "min_version=4&wait_ms=0", "min_version=4&wait_ms=30"] {
        let refusal = bank.get(&format!("{path}?{query}")).await;
        assert_eq!(refusal.status, StatusCode::GATEWAY_TIMEOUT);
        assert_eq!((&refusal.json()["code"], &refusal.json()["version"]), (&json!("not_yet_visible"), &json!(3)));
    }
    let unseen = bank.get(&format!("/balance/{}?min_version=1", account(2))).await;
    assert_eq!((unseen.status, &unseen.json()["version"]), (StatusCode::GATEWAY_TIMEOUT, &json!(0)));
}

#[tokio::test]
async fn a_reader_who_waits_is_answered_as_soon_as_the_version_is_there() {
    let (bank, generation) = Bank::with(vec![balance(1, "Paulo", 500, 3)]).await;
    let path = format!("/balance/{}?min_version=5&wait_ms=30000", account(1));
    let write = async {
        bank.write(generation, vec![balance(1, "Paulo", 400, 4)]).await;
        bank.write(generation, vec![balance(1, "Paulo", 300, 6)]).await;
    };
    let (answer, ()) = tokio::join!(bank.get(&path), write);
    assert_eq!((answer.status, &answer.json()["version"]), (StatusCode::OK, &json!(6)));
}

/// Goal: nobody is kept waiting, or told to ask again, for a version that does not come before an operator acts.
#[tokio::test]
async fn a_reader_who_waits_for_a_parked_account_is_told_where_it_is_parked_long_before_the_time_is_up() {
    let (bank, generation) = Bank::with(vec![balance(1, "Paulo", 500, 3), balance(2, "Ana", 100, 3)]).await;
    bank.park(generation, vec![parked(1, 4), parked(2, 3)]).await;
    let path = format!("/balance/{}", account(1));
    for query in ["min_version=5&wait_ms=30000", "min_version=4&wait_ms=30000"] {
        let path = format!("{path}?{query}");
        let refusal =
            timeout(Duration::from_secs(15), bank.get(&path)).await.expect("half of what was asked for is enough");
        assert_eq!(refusal.status, StatusCode::GATEWAY_TIMEOUT, "{query}: {}", refusal.text);
        let told = refusal.json();
        assert_eq!(
            (&told["code"], &told["version"], &told["parked_at"]),
            (&json!("not_yet_visible"), &json!(3), &json!(4))
        );
        let detail = told["detail"].as_str().unwrap();
        assert!(detail.contains("it is parked at version 4") && !detail.contains("ask again"), "{detail}");
        assert!(!refusal.text.contains("its event has an unknown schema"), "the reason is for operators");
    }
    assert_eq!(bank.get(&format!("{path}?min_version=3")).await.status, StatusCode::OK);
    let passed = bank.get(&format!("/balance/{}?min_version=4&wait_ms=2000", account(2))).await;
    assert_eq!((passed.status, &passed.json()["parked_at"]), (StatusCode::GATEWAY_TIMEOUT, &Value::Null));
}

#[tokio::test]
async fn a_reader_who_waits_for_two_seconds_is_told_of_a_parked_account_though_each_read_is_slow() {
    let (bank, generation) = Bank::with(vec![balance(1, "Paulo", 500, 3)]).await;
    bank.park(generation, vec![parked(1, 4)]).await;
    let bank = bank.with_fault(Fault::Slow);
    let refusal = bank.get(&format!("/balance/{}?min_version=5&wait_ms=2000", account(1))).await;
    assert_eq!((refusal.status, &refusal.json()["parked_at"]), (StatusCode::GATEWAY_TIMEOUT, &json!(4)));
}

#[tokio::test]
async fn an_account_that_is_parked_at_its_first_event_is_not_taken_for_one_that_was_just_opened() {
    let (bank, generation) = Bank::with(Vec::new()).await;
    bank.park(generation, vec![parked(1, 1)]).await;
    for query in ["", "?min_version=0"] {
        let refusal = bank.get(&format!("/balance/{}{query}", account(1))).await;
        assert_eq!((refusal.status, &refusal.json()["parked_at"]), (StatusCode::NOT_FOUND, &json!(1)), "{query}");
        assert!(!refusal.text.contains("just opened"), "{}", refusal.text);
    }
}

#[tokio::test]
async fn a_reader_whose_version_comes_in_time_costs_no_look_for_a_parked_account() {
    let (bank, generation) = Bank::with(vec![balance(1, "Paulo", 500, 3)]).await;
    let (bank, index) = RoughIndex::of(bank, None);
    let path = format!("/balance/{}", account(1));
    for query in ["", "?min_version=3", "?min_version=3&wait_ms=30000"] {
        assert_eq!(bank.get(&format!("{path}{query}")).await.status, StatusCode::OK, "{query}");
    }
    assert_eq!(index.gets_and_loads(), (3, 0));
    let later = format!("{path}?min_version=4&wait_ms=30000");
    let write = async {
        // The second look has begun, so the first one is over.
        while index.gets_and_loads().0 < 5 {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(index.gets_and_loads().1, 0);
        bank.write(generation, vec![balance(1, "Paulo", 400, 4)]).await;
    };
    let (answer, ()) = tokio::join!(bank.get(&later), write);
    assert_eq!((answer.status, &answer.json()["version"]), (StatusCode::OK, &json!(4)));
}

#[tokio::test]
async fn a_reader_who_does_not_wait_costs_no_look_for_a_parked_account_and_is_told_how_to_have_one() {
    let (bank, generation) = Bank::with(vec![balance(1, "Paulo", 500, 3)]).await;
    bank.park(generation, vec![parked(1, 4)]).await;
    let (bank, index) = RoughIndex::of(bank, None);
    let refusal = bank.get(&format!("/balance/{}?min_version=4", account(1))).await;
    assert_eq!((refusal.status, index.gets_and_loads()), (StatusCode::GATEWAY_TIMEOUT, (1, 0)));
    let detail = refusal.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("from 2000 on the answer tells whether the account is parked"), "{detail}");
}

/// Goal: an answer that is known does not depend on whether it is found out who is parked.
#[tokio::test]
async fn a_silent_look_for_a_parked_account_ends_soon_and_the_answer_is_as_without_it() {
    let (bank, _) = Bank::with(vec![balance(1, "Paulo", 500, 3)]).await;
    let bank = bank.with_fault(Fault::Silent);
    for (number, query, status) in [
        (2, "", StatusCode::NOT_FOUND),
        (1, "?min_version=9", StatusCode::GATEWAY_TIMEOUT),
        (1, "?min_version=9&wait_ms=2000", StatusCode::GATEWAY_TIMEOUT),
    ] {
        let refusal = bank.get(&format!("/balance/{}{query}", account(number))).await;
        assert_eq!((refusal.status, &refusal.json()["parked_at"]), (status, &Value::Null), "{query}: {}", refusal.text);
    }
}

#[tokio::test]
async fn a_reader_who_waits_is_answered_at_once_though_a_look_for_a_parked_account_is_silent() {
    let (mut bank, generation) = Bank::with(vec![balance(1, "Paulo", 500, 3)]).await;
    for round in 1..=ROUNDS {
        let (same, index) = RoughIndex::of(bank, Some(Fault::Silent));
        bank = same;
        let version = 3 + round;
        let path = format!("/balance/{}?min_version={version}&wait_ms=30000", account(1));
        let write = async {
            looked_for(&index).await;
            let looking = Instant::now();
            bank.write(generation, vec![balance(1, "Paulo", 500, version)]).await;
            bank.visibility.seen([account(1)].into_iter());
            looking
        };
        let (answer, looking) = tokio::join!(bank.get(&path), write);
        assert_eq!((answer.status, &answer.json()["version"]), (StatusCode::OK, &json!(version)), "{}", answer.text);
        if looking.elapsed() < AT_ONCE {
            return;
        }
    }
    panic!("the answer waits for the look");
}

#[tokio::test]
async fn a_reader_who_waits_is_let_go_during_a_silent_look_for_a_parked_account() {
    let (bank, _) = Bank::with(vec![balance(1, "Paulo", 500, 3)]).await;
    let (bank, index) = RoughIndex::of(bank, Some(Fault::Silent));
    let path = format!("/balance/{}?min_version=4&wait_ms=30000", account(1));
    let stop = async {
        looked_for(&index).await;
        bank.shutdown.cancel();
    };
    let (answer, ()) = tokio::join!(bank.get(&path), stop);
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.json()["detail"], "the service is shutting down; retry");
}

#[tokio::test]
async fn a_reader_who_waits_waits_for_the_first_view_as_well() {
    let bank = Bank::empty().await;
    let path = format!("/balance/{}?min_version=1", account(1));
    for too_short in ["", "&wait_ms=20"] {
        let refusal = bank.get(&format!("{path}{too_short}")).await;
        assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(refusal.json()["detail"].as_str().unwrap().starts_with("the projection is being built"));
    }
    let build = async {
        let generation = bank.index.create().await.unwrap();
        bank.write(generation, vec![balance(1, "Paulo", 500, 1)]).await;
        bank.index.promote(generation, None).await.unwrap();
    };
    let long = format!("{path}&wait_ms=30000");
    let (answer, ()) = tokio::join!(bank.get(&long), build);
    assert_eq!((answer.status, &answer.json()["version"]), (StatusCode::OK, &json!(1)));
}

#[tokio::test]
async fn a_reader_who_waits_is_let_go_when_the_service_stops() {
    let (bank, _) = Bank::with(vec![balance(1, "Paulo", 500, 3)]).await;
    let path = format!("/balance/{}?min_version=4&wait_ms=30000", account(1));
    let stop = async { bank.shutdown.cancel() };
    let (answer, ()) = tokio::join!(bank.get(&path), stop);
    assert_eq!((answer.status, &answer.json()["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("unavailable")));
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_wait_out_of_range_is_told_the_range() {
    let (bank, _) = Bank::with(vec![balance(1, "Paulo", 500, 3)]).await;
    for (query, range) in [
        ("min_version=-1", "0 to 18446744073709551615"),
        ("min_version=x", "0 to 18446744073709551615"),
        ("min_version=4&wait_ms=x", "0 to 30000"),
        ("min_version=4&wait_ms=30001", "0 to 30000"),
    ] {
        let refusal = bank.get(&format!("/balance/{}?{query}", account(1))).await;
        assert_eq!(refusal.json()["errors"][0]["message"], format!("must be a whole number from {range}"), "{query}");
    }
}

#[tokio::test]
async fn a_wait_that_makes_no_sense_is_refused() {
    let (bank, _) = Bank::with(vec![balance(1, "Paulo", 500, 3)]).await;
    let path = format!("/balance/{}", account(1));
    for (query, field) in [
        ("wait_ms=10", "wait_ms"),
        ("min_version=4&wait_ms=30001", "wait_ms"),
        ("min_version=-1", "min_version"),
        ("min_version=x", "min_version"),
        ("version=4", "version"),
    ] {
        let refusal = bank.get(&format!("{path}?{query}")).await;
        assert_eq!((refusal.status, &refusal.json()["errors"][0]["field"]), (StatusCode::BAD_REQUEST, &json!(field)));
    }
}
