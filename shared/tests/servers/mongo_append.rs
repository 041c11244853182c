//! The fate of a batch in MongoDB when another writer is faster, or the server fails midway.

use mongodb::bson::{Bson, Document, doc};
use shared::clock::Clock;
use shared::coordinate::Version;
use shared::error::Effect;
use shared::event::StreamAfter;
use shared::id::{AccountId, Ids};
use shared::store::{AppendError, Appended, Commit, EventStore};

use super::mongo::{FAULTS, commit, empty_store};

/// A commit that writes to a new stream as well, and so takes a transaction.
fn transfer(ids: &Ids, stream: AccountId, expected: u64) -> Commit {
    commit(ids, &[(stream, expected), (ids.account(), 0)])
}

#[tokio::test]
async fn a_commit_whose_answers_are_lost_for_a_while_is_asked_for_again() {
    let _turn = FAULTS.lock().await;
    let (store, scratch) = empty_store().await;
    let ids = Ids::new(Clock::system());
    scratch.fail(doc! { "times": 3 }, "commitTransaction", doc! { "closeConnection": true }).await;
    let lost = transfer(&ids, ids.account(), 0);
    assert_eq!(store.append(vec![lost]).await.remove(0).unwrap(), Appended::New);
}

#[tokio::test]
async fn a_commit_that_stays_unanswered_may_have_happened_and_its_repeat_says_so() {
    let _turn = FAULTS.lock().await;
    let (store, scratch) = empty_store().await;
    let ids = Ids::new(Clock::system());
    let alone = commit(&ids, &[(ids.account(), 0)]);
    for (unanswered, command) in [(transfer(&ids, ids.account(), 0), "commitTransaction"), (alone, "insert")] {
        let fault = doc! { "writeConcernError": { "code": 64, "errmsg": "waiting for replication timed out" } };
        scratch.fail("alwaysOn", command, fault).await;
        match store.append(vec![unanswered.clone()]).await.remove(0) {
            Err(AppendError::Backend(failure)) => assert_eq!(failure.effect, Effect::Unknown),
            fate => panic!("{fate:?} instead of an unknown effect"),
        }
        scratch.fail("off", command, Document::new()).await;
        match store.append(vec![unanswered.clone()]).await.remove(0).unwrap() {
            Appended::Before(before) => assert_eq!(before.id, unanswered.id),
            Appended::New => panic!("it was committed before"),
        }
    }
}

/// The answer to an insert is lost: the driver does not repeat it, and the caller learns the outcome when it appends
/// again.
#[tokio::test]
async fn an_insert_whose_answer_is_lost_may_have_happened_and_its_repeat_has_one_effect() {
    let _turn = FAULTS.lock().await;
    let (store, scratch) = empty_store().await;
    let ids = Ids::new(Clock::system());
    let (one, other) = (ids.account(), ids.account());
    let batch = vec![commit(&ids, &[(one, 0)]), commit(&ids, &[(one, 1)]), commit(&ids, &[(other, 0)])];
    scratch.fail(doc! { "times": 1 }, "insert", doc! { "closeConnection": true }).await;
    for fate in store.append(batch.clone()).await {
        assert!(matches!(fate, Err(AppendError::Backend(failure)) if failure.effect == Effect::Unknown));
    }
    for fate in store.append(batch.clone()).await {
        fate.unwrap();
    }
    let questions = [one, other].map(|stream| StreamAfter { stream, after: Version::EMPTY });
    let lengths: Vec<usize> = store.read_streams(&questions, 10).await.unwrap().iter().map(Vec::len).collect();
    assert_eq!(lengths, [2, 1]);
}

/// What comes before a collision is written, what comes after it is judged anew, and nothing follows a write that
/// failed.
#[tokio::test]
async fn a_batch_that_collides_in_the_middle_is_written_in_front_of_it_and_behind_it() {
    let (store, scratch) = empty_store().await;
    let ids = Ids::new(Clock::system());
    let [first, raced, last] = [ids.account(), ids.account(), ids.account()];
    // Another process writes to a stream that is believed to be empty.
    let faster = commit(&ids, &[(raced, 0)]);
    assert_eq!(scratch.opened().await.append(vec![faster]).await.remove(0).unwrap(), Appended::New);
    let of = |stream, head| commit(&ids, &[(stream, head)]);
    let batch = vec![of(first, 0), of(raced, 0), of(raced, 1), of(last, 0), of(first, 1)];
    let fates = store.append(batch).await;
    for (n, fate) in fates.into_iter().enumerate() {
        match n {
            1 | 2 => {
                assert!(matches!(fate, Err(AppendError::Conflict { stream, .. }) if stream == raced), "commit {n}");
            }
            _ => assert_eq!(fate.unwrap(), Appended::New, "commit {n}"),
        }
    }
    let questions = [first, raced, last].map(|stream| StreamAfter { stream, after: Version::EMPTY });
    let lengths: Vec<usize> = store.read_streams(&questions, 10).await.unwrap().iter().map(Vec::len).collect();
    assert_eq!(lengths, [2, 1, 1]);
}

#[tokio::test]
async fn a_transaction_that_the_server_gives_up_is_tried_again() {
    let _turn = FAULTS.lock().await;
    let (store, scratch) = empty_store().await;
    let ids = Ids::new(Clock::system());
    let conflict = doc! { "errorCode": 112, "errorLabels": ["TransientTransactionError"] };
    scratch.fail(doc! { "times": 2 }, "insert", conflict).await;
    let batch = vec![transfer(&ids, ids.account(), 0), commit(&ids, &[(ids.account(), 5)])];
    let mut fates = store.append(batch).await;
    assert!(matches!(fates.pop().unwrap(), Err(AppendError::Conflict { .. })));
    assert_eq!(fates.pop().unwrap().unwrap(), Appended::New);
}

#[tokio::test]
async fn an_insert_of_a_transaction_that_fails_for_another_reason_had_no_effect() {
    let _turn = FAULTS.lock().await;
    let (store, scratch) = empty_store().await;
    let ids = Ids::new(Clock::system());
    let failed = transfer(&ids, ids.account(), 0);
    scratch.fail(doc! { "times": 1 }, "insert", doc! { "errorCode": 8_000 }).await;
    match store.append(vec![failed.clone()]).await.remove(0) {
        Err(AppendError::Backend(failure)) => assert_eq!(failure.effect, Effect::None),
        fate => panic!("{fate:?} instead of a failure"),
    }
    assert_eq!(store.append(vec![failed]).await.remove(0).unwrap(), Appended::New);
}

/// Each process remembers where streams end, and the other process moves these ends.
#[tokio::test]
async fn two_processes_that_write_to_the_same_streams_leave_no_gap() {
    let (one, scratch) = empty_store().await;
    let other = scratch.opened().await;
    let ids = Ids::new(Clock::system());
    let streams = [ids.account(), ids.account()];
    for head in 0..10 {
        let (first, second) = if head % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let transfer = commit(&ids, &[(streams[0], head), (streams[1], head)]);
        assert_eq!(first.append(vec![transfer]).await.remove(0).unwrap(), Appended::New);
        for (store, late) in [(first, head), (second, head), (first, head + 2), (second, head + 2)] {
            let refused = commit(&ids, &[(streams[1], late)]);
            assert!(store.append(vec![refused]).await.remove(0).is_err(), "at {} a write to {late}", head + 1);
        }
    }
    let questions = streams.map(|stream| StreamAfter { stream, after: Version::EMPTY });
    for stream in one.read_streams(&questions, 100).await.unwrap() {
        let versions: Vec<u64> = stream.iter().map(|record| record.first_version.get()).collect();
        assert_eq!(versions, (1..=10).collect::<Vec<u64>>());
    }
}

/// It died after its insert, so it neither commits nor aborts, and its place stays taken.
#[tokio::test]
async fn a_transaction_that_a_dead_process_left_does_not_block_its_accounts() {
    let (store, scratch) = empty_store().await;
    let ids = Ids::new(Clock::system());
    let stream = ids.account();
    assert_eq!(store.append(vec![commit(&ids, &[(stream, 0)])]).await.remove(0).unwrap(), Appended::New);

    let dead = mongodb::Client::with_uri_str(scratch.url()).await.unwrap();
    let events = dead.database(scratch.name()).collection::<Document>("events");
    let mut next = events.find_one(doc! {}).await.unwrap().unwrap();
    let Some(Bson::Binary(place)) = next.get_mut("_id") else { panic!("a place is binary") };
    // Ends in the first version.
    *place.bytes.last_mut().unwrap() += 1;
    next.remove("commit");
    let mut session = dead.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    events.insert_one(next).session(&mut session).await.unwrap();

    assert_eq!(store.append(vec![commit(&ids, &[(stream, 1)])]).await.remove(0).unwrap(), Appended::New);
    assert!(session.commit_transaction().await.is_err(), "the dead one was not ended");
}
