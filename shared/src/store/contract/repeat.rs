//! Law S4.

use futures::future::join_all;

use super::fixture::{Scribe, append_new, append_one, assert_before, conflict, traces, whole_stream};
use crate::store::{Appended, Commit, EventStore};

/// How many repeats are sent at once.
const REPEATS: usize = 24;

/// A repeat is recognised by its id, whatever else has changed.
pub async fn a_repeated_id_writes_nothing_and_returns_the_first_commit(store: &impl EventStore) {
    let scribe = Scribe::new();
    let (a, b) = (scribe.account(), scribe.account());
    let first = scribe.keyed(&scribe.key(), &[(a, 0, 1)]);
    append_new(store, std::slice::from_ref(&first)).await;
    assert_before(append_one(store, &first).await, &first);
    let second = scribe.commit(&[(a, 1, 1)]);
    append_new(store, std::slice::from_ref(&second)).await;
    assert_before(append_one(store, &first).await, &first);
    let differs = Commit { id: first.id, ..scribe.commit(&[(b, 0, 1)]) };
    assert_before(append_one(store, &differs).await, &first);

    let in_one_batch = scribe.commit(&[(b, 0, 3)]);
    let mut fates = store.append(vec![in_one_batch.clone(), in_one_batch.clone()]).await;
    assert_before(fates.pop().unwrap(), &in_one_batch);
    assert_eq!(fates.pop().unwrap().unwrap(), Appended::New);
    assert_eq!(whole_stream(store, a).await, [traces(&first), traces(&second)].concat());
    assert_eq!(whole_stream(store, b).await, traces(&in_one_batch));
}

/// A key belongs to one commit across all streams.
pub async fn a_repeated_key_writes_nothing_and_returns_the_first_commit(store: &impl EventStore) {
    let scribe = Scribe::new();
    let (a, b) = (scribe.account(), scribe.account());
    let (key, other_key) = (scribe.key(), scribe.key());
    let first = scribe.keyed(&key, &[(a, 0, 1)]);
    append_new(store, std::slice::from_ref(&first)).await;
    for repeat in [scribe.keyed(&key, &[(a, 0, 1)]), scribe.keyed(&key, &[(a, 1, 1)]), scribe.keyed(&key, &[(b, 0, 1)])]
    {
        assert_before(append_one(store, &repeat).await, &first);
        assert_eq!(store.find_commits(&[repeat.id]).await.unwrap(), [None], "the repeat itself is not kept");
    }
    let batch = vec![scribe.keyed(&other_key, &[(b, 0, 1)]), scribe.keyed(&other_key, &[(b, 1, 1)])];
    let mut fates = store.append(batch.clone()).await;
    assert_before(fates.pop().unwrap(), &batch[0]);
    assert_eq!(fates.pop().unwrap().unwrap(), Appended::New);
    assert_eq!(whole_stream(store, a).await, traces(&first));
    assert_eq!(whole_stream(store, b).await, traces(&batch[0]));
}

/// A commit that was refused can still be taken with the same id and key.
pub async fn a_refused_commit_takes_neither_its_id_nor_its_key(store: &impl EventStore) {
    let scribe = Scribe::new();
    let stream = scribe.account();
    let early = scribe.keyed(&scribe.key(), &[(stream, 1, 1)]);
    assert_eq!(conflict(append_one(store, &early).await), stream);
    append_new(store, &[scribe.commit(&[(stream, 0, 1)]), early.clone()]).await;
    assert_before(append_one(store, &early).await, &early);
}

/// One of them is taken and all the others get it as their answer; likewise for one key under many ids.
pub async fn repeats_at_the_same_time_have_one_effect(store: &impl EventStore) {
    let scribe = Scribe::new();
    let (a, b) = (scribe.account(), scribe.account());
    let same: Vec<Commit> = vec![scribe.commit(&[(a, 0, 1)]); REPEATS];
    let key = scribe.key();
    let same_key: Vec<Commit> = (0..REPEATS).map(|_| scribe.keyed(&key, &[(b, 0, 1)])).collect();
    for (stream, repeats) in [(a, same), (b, same_key)] {
        let fates = join_all(repeats.iter().map(|commit| append_one(store, commit))).await;
        let taken: Vec<&Commit> = repeats
            .iter()
            .zip(&fates)
            .filter_map(|(commit, fate)| matches!(fate, Ok(Appended::New)).then_some(commit))
            .collect();
        assert_eq!(taken.len(), 1, "taken once");
        assert_eq!(whole_stream(store, stream).await, traces(taken[0]));
        for fate in fates.into_iter().filter(|fate| !matches!(fate, Ok(Appended::New))) {
            assert_before(fate, taken[0]);
        }
    }
}
