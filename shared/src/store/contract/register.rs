//! Laws R1 and R2.

use bytes::Bytes;
use futures::future::join_all;

use crate::coordinate::Revision;
use crate::store::{Register, Registers, WriteError};

fn value(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn actual<T>(outcome: Result<T, WriteError>) -> Revision {
    match outcome {
        Err(WriteError::Moved { actual, .. }) => actual,
        Err(WriteError::Backend(failure)) => panic!("{failure}"),
        Ok(_) => panic!("the wrong revision was accepted"),
    }
}

/// Law R1.
pub async fn the_wrong_revision_changes_nothing(store: &impl Registers) {
    assert_eq!(store.read_register("map").await.unwrap(), None);
    assert_eq!(actual(store.write_register("map", Revision::new(1), value("x")).await), Revision::ABSENT);
    assert_eq!(actual(store.remove_register("map", Revision::new(1)).await), Revision::ABSENT);
    let first = store.write_register("map", Revision::ABSENT, value("1")).await.unwrap();
    let second = store.write_register("map", first, value("2")).await.unwrap();
    for wrong in [Revision::ABSENT, first, second.next()] {
        assert_eq!(actual(store.write_register("map", wrong, value("x")).await), second);
        assert_eq!(actual(store.remove_register("map", wrong).await), second);
    }
    let expected = Register { revision: second, value: value("2") };
    assert_eq!(store.read_register("map").await.unwrap(), Some(expected));
}

/// Law R2: a writer that remembers a revision from before a removal is refused after it.
pub async fn revisions_of_a_register_grow_also_over_a_removal(store: &impl Registers) {
    let mut last = Revision::ABSENT;
    for _ in 0..3 {
        let first = store.write_register("job", Revision::ABSENT, value("")).await.unwrap();
        assert!(first > last);
        let second = store.write_register("job", first, value("{}")).await.unwrap();
        assert!(second > first);
        store.remove_register("job", second).await.unwrap();
        assert_eq!(store.read_register("job").await.unwrap(), None);
        assert!(store.list_registers("job").await.unwrap().is_empty());
        assert_eq!(actual(store.write_register("job", second, value("x")).await), Revision::ABSENT);
        last = second;
    }
}

/// Law R1 under contention.
pub async fn concurrent_writers_of_a_register_count_without_loss(store: &impl Registers) {
    const WRITERS: usize = 24;
    let count = || async {
        // A writer loses only to one that wins, and each of the others wins once.
        for _ in 0..WRITERS {
            let (at, counted) = match store.read_register("count").await.unwrap() {
                Some(register) => (register.revision, register.value.len()),
                None => (Revision::ABSENT, 0),
            };
            match store.write_register("count", at, Bytes::from(vec![b'|'; counted + 1])).await {
                Ok(_) => return,
                Err(WriteError::Moved { .. }) => {}
                Err(WriteError::Backend(failure)) => panic!("{failure}"),
            }
        }
        panic!("a writer lost more often than the others won");
    };
    join_all((0..WRITERS).map(|_| count())).await;
    assert_eq!(store.read_register("count").await.unwrap().unwrap().value.len(), WRITERS);
}

/// Prefixes are plain text: no character in them is special.
pub async fn registers_are_listed_by_prefix_in_order(store: &impl Registers) {
    for name in ["b/2", "a", "b/10", "b", "b_x", "b/%", "c/1", "B/1"] {
        store.write_register(name, Revision::ABSENT, value(name)).await.unwrap();
    }
    let removed = store.write_register("b/gone", Revision::ABSENT, value("")).await.unwrap();
    store.remove_register("b/gone", removed).await.unwrap();
    let list = async |prefix: &str| -> Vec<String> {
        let found = store.list_registers(prefix).await.unwrap();
        for (name, register) in &found {
            assert_eq!(register.value, value(name));
        }
        found.into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(list("b/").await, ["b/%", "b/10", "b/2"]);
    assert_eq!(list("b_").await, ["b_x"]);
    assert_eq!(list("%").await, [""; 0]);
    assert_eq!(list("").await, ["B/1", "a", "b", "b/%", "b/10", "b/2", "b_x", "c/1"]);
}
