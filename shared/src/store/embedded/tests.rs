use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;

use super::*;
use crate::clock::{Clock, Timestamp};
use crate::event::EncodedEvents;
use crate::id::Ids;
use crate::sqlite::Upkeep;
use crate::store::{ChangeFeed, FeedEntry, KeyedRequest, StreamWrite, contract};

/// So small that something is always being sorted.
const TINY: Sizes = Sizes { rows: 4, slices: 2, rows_max: 10_000, ahead: 5 };

fn opened(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open_sized(&DataFolder::open(path).unwrap(), TINY).unwrap()
}

pub(super) fn empty_store() -> (EmbeddedStore, TempDir) {
    let dir = TempDir::new().unwrap();
    (opened(dir.path()), dir)
}

/// A copy of what a process killed now would leave.
fn left_behind(path: &Path) -> TempDir {
    let left = TempDir::new().unwrap();
    for name in ["store.db", "store.db-wal"] {
        fs::copy(path.join(name), left.path().join(name)).unwrap();
    }
    left
}

mod tiny {
    use super::{contract, empty_store, left_behind, opened};

    crate::store_contract!(async { empty_store() });

    #[tokio::test]
    async fn what_was_acknowledged_is_there_when_the_store_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        contract::what_was_acknowledged_is_there_when_the_store_is_opened_again(async || opened(dir.path())).await;
    }

    /// Stores that are never closed; each continues with what the previous one would leave if it were killed.
    #[tokio::test]
    async fn what_was_acknowledged_is_there_when_the_store_is_killed_and_opened_again() {
        let stores = super::Mutex::new(vec![empty_store()]);
        let open = async || {
            let mut stores = stores.lock().unwrap();
            let dir = left_behind(stores.last().unwrap().1.path());
            let store = opened(dir.path());
            stores.push((store.clone(), dir));
            store
        };
        contract::what_was_acknowledged_is_there_when_the_store_is_opened_again(open).await;
    }
}

/// A store's writer thread, one step at a time.
struct Steps {
    dir: TempDir,
    connection: Connection,
    recent: Shared,
    settler: Settler,
    ids: Ids,
    random: StdRng,
    accounts: BTreeMap<AccountId, u64>,
    commits: Vec<Commit>,
}

impl Steps {
    fn new(seed: u64) -> Self {
        let (store, dir) = empty_store();
        drop(store);
        let connection = Connection::open(dir.path().join("store.db")).unwrap();
        // For the length of the test, the write-ahead log keeps every transaction.
        connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        let recent = Shared::new(read::recent(&connection).unwrap());
        let ids = Ids::seeded(Clock::system(), seed);
        let accounts = (0..4).map(|_| (ids.account(), 0)).collect();
        let settler = Settler::new(recent.clone(), TINY);
        let random = StdRng::seed_from_u64(seed);
        Self { dir, connection, recent, settler, ids, random, accounts, commits: Vec::new() }
    }

    /// A transfer, or a deposit of up to three events, often with a key.
    fn commit(&mut self) -> Commit {
        let streams: Vec<AccountId> = self.accounts.keys().copied().collect();
        let first = self.random.random_range(0..streams.len());
        let count = self.random.random_range(1..=3);
        let mut write = |stream: AccountId| {
            let head = self.accounts.get_mut(&stream).unwrap();
            let expected = Version::new(*head);
            *head += u64::from(count);
            StreamWrite { stream, expected, events: EncodedEvents { count, json: format!("[{head}]").into() } }
        };
        let mut writes = vec![write(streams[first])];
        if self.random.random_ratio(1, 2) {
            writes.push(write(streams[(first + 1) % streams.len()]));
        }
        let id = self.ids.commit();
        let key = self.random.random_ratio(1, 2).then(|| IdempotencyKey::new(&id.to_string()).unwrap());
        let key = key.map(|key| KeyedRequest { key, request: [3; 32] });
        Commit { id, time: Timestamp::EPOCH, key, receipt: id.to_string().into(), writes }
    }

    /// Appends a batch and then sorts, in one transaction. Now and then that is rolled back, and then run again without
    /// the sorting, or not at all.
    fn turn(&mut self) {
        let before = self.accounts.clone();
        let batch: Vec<Commit> = (0..self.random.random_range(1..=2)).map(|_| self.commit()).collect();
        let (goes_well, is_run_again) = (self.random.random_ratio(3, 4), self.random.random_ratio(1, 2));
        let (mut last, is_kept_up) = self.run(&batch, true, goes_well);
        if last.is_none() && is_run_again {
            (last, _) = self.run(&batch, false, true);
        }
        match last {
            Some(last) => {
                self.recent.write().commit_through(last);
                self.commits.extend(batch);
            }
            None => self.accounts = before,
        }
        self.settler.after_turn(is_kept_up);
    }

    /// Returns the last position if it is committed, and whether the sorting is.
    fn run(&mut self, batch: &[Commit], is_kept_up: bool, is_committed: bool) -> (Option<u64>, bool) {
        let transaction = self.connection.unchecked_transaction().unwrap();
        let Batch { fates, last } = append::append(&transaction, &self.recent, u64::MAX, batch).unwrap();
        assert!(fates.iter().all(|fate| matches!(fate, Ok(Appended::New))));
        if is_kept_up {
            self.settler.within_turn(&transaction).unwrap();
        }
        if is_committed {
            transaction.commit().unwrap();
        } else {
            transaction.rollback().unwrap();
        }
        (is_committed.then_some(last), is_kept_up && is_committed)
    }

    /// All committed writes, in the order of the feed.
    fn records(&self) -> Vec<Recorded> {
        let record = |commit: &Commit, StreamWrite { stream, expected, events }: &StreamWrite| Recorded {
            stream: *stream,
            first_version: expected.next(),
            time: commit.time,
            events: events.clone(),
        };
        self.commits.iter().flat_map(|commit| commit.writes.iter().map(|write| record(commit, write))).collect()
    }

    fn sorted(&self) -> Vec<Recorded> {
        let mut records = self.records();
        records.sort_by_key(|record| (recent::place(record.stream), record.first_version));
        records
    }

    fn rows_of(&self, table: &str) -> u64 {
        self.connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }

    /// Checks that a store opened on the folder as it is now has everything, and continues.
    async fn assert_nothing_is_lost_if_killed_now(&self) {
        let left = left_behind(self.dir.path());
        let store = opened(left.path());
        let records = self.records();
        assert_eq!(fed(&store, records.len()).await, records);
        assert_eq!(scanned(&store).await, self.sorted());
        let heads = store.heads(SlotRange::ALL, None, 100).await.unwrap();
        assert_eq!(heads.len(), self.accounts.values().filter(|head| **head > 0).count());
        assert!(heads.iter().all(|(stream, head)| head.get() == self.accounts[stream]));
        let ids: Vec<CommitId> = self.commits.iter().map(|commit| commit.id).collect();
        let stored: Vec<StoredCommit> = store.find_commits(&ids).await.unwrap().into_iter().flatten().collect();
        assert!(stored.len() == ids.len() && stored.iter().zip(&self.commits).all(|(found, first)| is(found, first)));
        for fate in store.append(self.commits.clone()).await {
            assert!(matches!(fate, Ok(Appended::Before(_))));
        }
        let head = if records.is_empty() { Position::Start } else { Position::Number(records.len() as u64) };
        assert_eq!(store.head().await.unwrap(), head);
    }
}

fn is(found: &StoredCommit, Commit { id, time, key, receipt, .. }: &Commit) -> bool {
    found.id == *id && found.time == *time && found.key == *key && found.receipt == *receipt
}

async fn fed(store: &EmbeddedStore, writes: usize) -> Vec<Recorded> {
    let mut feed = store.feed(Position::Start).await.unwrap();
    let mut entries: Vec<FeedEntry> = Vec::new();
    while entries.len() < writes {
        entries.extend(feed.next_batch(3).await.unwrap().entries);
    }
    let positions = (1..).map(Position::Number);
    assert!(entries.iter().zip(positions).all(|(entry, position)| entry.position == position));
    entries.into_iter().map(|entry| entry.recorded).collect()
}

async fn scanned(store: &EmbeddedStore) -> Vec<Recorded> {
    let (mut records, mut after) = (Vec::new(), None);
    loop {
        let page = store.scan(SlotRange::ALL, after, 2).await.unwrap();
        records.extend(page.records);
        match page.next {
            Some(next) => after = Some(next),
            None => return records,
        }
    }
}

/// Laws G1, G2, G5 and G6: at each stage of a run, and of the appends alongside it.
#[tokio::test]
async fn a_process_that_is_killed_at_any_stage_loses_and_doubles_nothing() {
    for seed in 0..6 {
        let mut steps = Steps::new(seed);
        while steps.rows_of("positions") < 20 {
            steps.turn();
            steps.assert_nothing_is_lost_if_killed_now().await;
        }
        assert!(steps.rows_of("recent") <= 4 * TINY.rows, "sorting keeps up");
        steps.settler.before_close(&steps.connection).unwrap();
        steps.assert_nothing_is_lost_if_killed_now().await;
        assert_eq!((steps.rows_of("recent"), steps.rows_of("writes")), (0, steps.records().len() as u64));
    }
}

/// Law G4: whatever is sorted between the look into memory and the look into the file.
#[test]
fn a_read_that_is_overtaken_by_the_sorting_sees_the_state_it_began_with() {
    for seed in 0..10 {
        let mut steps = Steps::new(seed);
        let mut reads = Vec::new();
        for _ in 0..20 {
            steps.turn();
            let recent = steps.recent.read();
            let committed = recent.committed();
            let page = committed.page(SlotRange::ALL, None, usize::MAX);
            let feed = committed.fed(0, usize::MAX);
            reads.push((committed.settled(), page, feed, steps.sorted(), steps.records()));
        }
        for step in 0..2 {
            for (settled, page, feed, sorted, records) in &reads {
                let all = SlotRange::ALL;
                let scan = read::scan(&steps.connection, all, None, usize::MAX, *settled, page.clone()).unwrap();
                assert!(scan.records == *sorted, "seed {seed}, step {step}, {settled} settled");
                let older = read::fed(&steps.connection, 0, 1_000, *settled, || Ok(())).unwrap();
                if feed.is_none() {
                    assert_eq!(older.len() as u64, *settled, "seed {seed}, step {step}");
                    assert!(older.iter().map(|entry| &entry.recorded).eq(&records[..older.len()]));
                }
            }
            steps.settler.before_close(&steps.connection).unwrap();
        }
    }
}

/// The data of a release without `recent` is there, in the same order, and can be appended to.
#[tokio::test]
async fn a_store_of_the_first_layout_goes_on() {
    let dir = TempDir::new().unwrap();
    let folder = DataFolder::open(dir.path()).unwrap();
    let first_layout = FileSpec { schema: &[include_str!("schema_1.sql")], ..STORE };
    let database = Database::open(&folder, first_layout).unwrap();
    let ids = Ids::new(Clock::system());
    let stream = ids.account();
    let known = ids.commit();
    let fill = move |connection: &Connection| {
        connection.execute(
            "INSERT INTO commits (id, time, key, request, receipt) VALUES (?1, 0, 'k', ?2, ?3)",
            rusqlite::params![known.as_bytes(), [3_u8; 32], b"{}"],
        )?;
        for version in [2, 1] {
            connection.execute(
                "INSERT INTO writes (slot, stream, first_version, count, time, position, events)
                 VALUES (?1, ?2, ?3, 1, 0, ?3, ?4)",
                rusqlite::params![recent::place(stream).0, stream.as_bytes(), version, b"[{}]"],
            )?;
        }
        Ok(())
    };
    database.write("fill", fill).await.unwrap();
    drop((database, folder));

    let store = opened(dir.path());
    assert_eq!(store.head().await.unwrap(), Position::Number(2));
    assert!(store.find_keys(&[IdempotencyKey::new("k").unwrap()]).await.unwrap()[0].is_some());
    let commit = |id, expected| contract::plain_commit(id, &[(stream, expected)]);
    let fates = store.append(vec![commit(known, 0), commit(ids.commit(), 1), commit(ids.commit(), 2)]).await;
    assert!(matches!(&fates[..], [Ok(Appended::Before(_)), Err(AppendError::Conflict { .. }), Err(_)]));
    assert_eq!(store.append(vec![commit(ids.commit(), 2)]).await.remove(0).unwrap(), Appended::New);
    let versions: Vec<u64> = fed(&store, 3).await.iter().map(|record| record.first_version.get()).collect();
    assert_eq!(versions, [1, 2, 3]);
}

/// Laws G3 and Q3: a transaction that is run again because another write in it failed has the same outcome.
#[tokio::test]
async fn a_batch_that_is_run_again_is_judged_anew() {
    let (store, _dir) = empty_store();
    let ids = Ids::new(Clock::system());
    let stream = ids.account();
    let commit = |expected| vec![contract::plain_commit(ids.commit(), &[(stream, expected)])];
    let (open_gate, gate) = std::sync::mpsc::channel::<()>();
    let wait = store.database.write("wait", move |_| {
        // Open once its other end is dropped, even if this is run again.
        gate.recv().unwrap_or_default();
        Ok(())
    });
    let fails = store.database.write("fails", |connection| connection.execute("INSERT INTO nowhere", []));
    // Polled in this order: all wait for the gate, and then share a transaction.
    let (_, first, failed, second, ()) = tokio::join!(
        biased;
        wait,
        store.append(commit(0)),
        fails,
        store.append(commit(1)),
        async move { drop(open_gate) }
    );
    assert!(failed.is_err());
    assert_eq!([first, second].map(|mut fates| fates.remove(0).unwrap()), [Appended::New, Appended::New]);
    assert_eq!(fed(&store, 2).await.len(), 2);
}

/// Only after sorting has failed again and again.
#[test]
fn nothing_is_appended_when_too_much_is_unsorted() {
    let mut steps = Steps::new(1);
    while steps.recent.read().committed().len() == 0 {
        steps.turn();
    }
    let batch = [steps.commit()];
    let refusal = append::append(&steps.connection, &steps.recent, 1, &batch).map(|_| ()).unwrap_err();
    assert_eq!(refusal.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull), "{refusal}");
}

/// Law G6: refused appends do not keep the rows before them from being sorted.
#[tokio::test]
async fn a_store_that_refuses_appends_sorts_and_takes_them_again() {
    let dir = TempDir::new().unwrap();
    let sizes = Sizes { rows_max: 5, ..TINY };
    let store = EmbeddedStore::open_sized(&DataFolder::open(dir.path()).unwrap(), sizes).unwrap();
    let ids = Ids::new(Clock::system());
    let commit = || contract::plain_commit(ids.commit(), &[(ids.account(), 0)]);
    let too_many = (0..6).map(|_| commit()).collect();
    assert!(store.append(too_many).await.iter().all(Result::is_ok));
    let refused = store.append(vec![commit()]).await.remove(0).unwrap_err();
    assert!(refused.to_string().contains("could not be sorted in"), "{refused}");
    assert_eq!(store.append(vec![commit()]).await.remove(0).unwrap(), Appended::New);
}

/// Readiness checks ask for the head, which memory knows without the file.
#[tokio::test]
async fn a_store_whose_writer_has_died_says_so_when_it_is_asked_for_its_head() {
    let (store, _dir) = empty_store();
    store.head().await.unwrap();
    let mut commits = store.database.commits();
    store.database.write_and_tell("test", |_| Ok(()), |()| panic!("a mistake behind a write")).await.unwrap_err();
    while commits.changed().await.is_ok() {}
    assert!(store.head().await.unwrap_err().to_string().contains("has ended"));
}
