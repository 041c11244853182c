//! What the servers of a replica set guarantee beyond what the store asks of them.

use std::time::Duration;

use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};
use tracing::debug;

use super::MongoStore;
use super::failure::read;
use crate::clock::{Clock, Timestamp};
use crate::durability::Weakness;

const SERVER: &str = "mongodb";

/// The oldest release of each line whose change streams survive the step-down of a primary and its rollback
/// (SERVER-92239).
const RELEASES: [[u32; 3]; 2] = [[7, 0, 21], [8, 0, 5]];

/// How many hours a feed must be able to pause, at least, before the server forgets what it has not seen.
const WINDOW_HOURS_MIN: f64 = 24.0;

/// The filled fraction from which an oplog has begun to forget, or is about to.
const OPLOG_FULL: f64 = 0.9;

/// A younger oplog has too little history to judge a day by.
const HISTORY_HOURS_MIN: f64 = 1.0;

const SECONDS_AN_HOUR: f64 = 3_600.0;

/// How far a server's clock may differ from this machine's: half of what makes an event look late.
const CLOCKS_APART_MAX: Duration = Duration::from_millis(500);

impl MongoStore {
    /// Where the servers' settings guarantee less than a bank should have, and whether the primary's clock is far from
    /// this one. What the servers do not reveal is left out.
    pub async fn weaknesses(&self, clock: &Clock) -> Vec<Weakness> {
        let admin = self.client.database("admin");
        let build = told(&admin, doc! { "buildInfo": 1 }).await;
        let asked = clock.now();
        let status = told(&admin, doc! { "serverStatus": 1, "metrics": 0, "tcmalloc": 0 }).await;
        let answered = clock.now();
        let set = told(&admin, doc! { "replSetGetConfig": 1 }).await;
        let found = [
            build.and_then(|build| release(build.get_str("version").ok()?)),
            status.as_ref().and_then(|status| engine(status.get_document("storageEngine").ok()?)),
            set.and_then(|set| journal(set.get_document("config").ok()?)),
            status.as_ref().and_then(|status| clock_apart(local_time(status)?, asked, answered)),
            match status.as_ref().and_then(retention) {
                Some(hours) if hours >= WINDOW_HOURS_MIN => None,
                Some(_) | None => Oplog::look(&self.client.database("local")).await.and_then(Oplog::weakness),
            },
        ];
        found.into_iter().flatten().collect()
    }
}

/// The server's answer, if it gives one.
async fn told(database: &Database, command: Document) -> Option<Document> {
    let answer = read("weaknesses", Box::pin(async { database.run_command(command).await })).await;
    answer.inspect_err(|failure| debug!(%failure, "cannot read the configuration of mongodb")).ok()
}

fn release(version: &str) -> Option<Weakness> {
    let mut parts = version.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let found = [parts.next()?, parts.next()?, parts.next()?];
    let survives = match RELEASES.iter().find(|release| release[..2] == found[..2]) {
        Some(release) => found >= *release,
        None => found > RELEASES[RELEASES.len() - 1],
    };
    (!survives).then(|| Weakness {
        server: SERVER,
        setting: "version",
        found: version.to_owned(),
        wanted: "8.0.5 or newer, or 7.0.21",
        risk: "the feed may miss a commit when a primary steps down (SERVER-92239)",
    })
}

fn engine(engine: &Document) -> Option<Weakness> {
    matches!(engine.get_bool("persistent"), Ok(false)).then(|| Weakness {
        server: SERVER,
        setting: "storage.engine",
        found: engine.get_str("name").unwrap_or("one without persistence").to_owned(),
        wanted: "wiredTiger",
        risk: "acknowledged commits are lost when the servers stop",
    })
}

fn journal(config: &Document) -> Option<Weakness> {
    matches!(config.get_bool("writeConcernMajorityJournalDefault"), Ok(false)).then(|| Weakness {
        server: SERVER,
        setting: "writeConcernMajorityJournalDefault",
        found: "false".to_owned(),
        wanted: "true (rs.reconfig)",
        risk: "a majority may acknowledge a commit that is not in its journals",
    })
}

fn local_time(status: &Document) -> Option<Timestamp> {
    let millis = status.get_datetime("localTime").ok()?.timestamp_millis();
    Some(Timestamp::from_micros(millis.checked_mul(1_000)?))
}

/// Whether the server's clock, read at some moment between question and answer, is far from this machine's.
fn clock_apart(theirs: Timestamp, asked: Timestamp, answered: Timestamp) -> Option<Weakness> {
    let (behind, ahead) = (theirs.until(asked), answered.until(theirs));
    let (apart, where_to) = if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") };
    (apart > CLOCKS_APART_MAX).then(|| Weakness {
        server: SERVER,
        setting: "localTime",
        found: format!("{:.1} s {where_to} this machine's clock", apart.as_secs_f64()),
        wanted: "less than half a second from it (NTP on both)",
        risk: "if the clocks of services differ as well, reported lags are too long or too short, and workers and \
               rebuilds wait for events that only look late",
    })
}

/// The minimum number of hours for which the server keeps its history, whatever its size.
fn retention(status: &Document) -> Option<f64> {
    number(status.get_document("oplogTruncation").ok()?.get("oplogMinRetentionHours")?)
}

/// The history a feed is read from.
#[derive(Clone, Copy, Debug)]
struct Oplog {
    /// From its first entry to its last.
    hours: f64,
    /// The fraction of its maximum size in use.
    filled: f64,
}

impl Oplog {
    async fn look(local: &Database) -> Option<Self> {
        let end = |direction: i32| {
            doc! { "find": "oplog.rs", "sort": { "$natural": direction }, "projection": { "ts": 1 }, "limit": 1 }
        };
        let first = seconds(&told(local, end(1)).await?)?;
        let last = seconds(&told(local, end(-1)).await?)?;
        let sizes =
            doc! { "aggregate": "oplog.rs", "pipeline": [{ "$collStats": { "storageStats": {} } }], "cursor": {} };
        let sizes = told(local, sizes).await?;
        let sizes = first_of(&sizes)?.get_document("storageStats").ok()?;
        let filled = number(sizes.get("size")?)? / number(sizes.get("maxSize")?)?;
        Some(Self { hours: f64::from(last.saturating_sub(first)) / SECONDS_AN_HOUR, filled })
    }

    /// How many hours it lasts when it is full, as far as its content tells.
    fn window(self) -> Option<f64> {
        if self.filled >= OPLOG_FULL {
            Some(self.hours)
        } else {
            (self.hours >= HISTORY_HOURS_MIN).then(|| self.hours / self.filled)
        }
    }

    fn weakness(self) -> Option<Weakness> {
        let hours = self.window().filter(|hours| *hours < WINDOW_HOURS_MIN)?;
        Some(Weakness {
            server: SERVER,
            setting: "replication.oplogSizeMB",
            found: format!("enough for {hours:.1} hours"),
            wanted: "enough for 24 hours, or set storage.oplogMinRetentionHours",
            risk: "a forwarder that is down for longer makes every worker synchronise with the store",
        })
    }
}

fn seconds(answer: &Document) -> Option<u32> {
    Some(first_of(answer)?.get_timestamp("ts").ok()?.time)
}

fn first_of(answer: &Document) -> Option<&Document> {
    answer.get_document("cursor").ok()?.get_array("firstBatch").ok()?.first()?.as_document()
}

/// A number of any BSON type; servers change the type from release to release.
#[expect(clippy::cast_precision_loss, reason = "a size to compare with another one")]
fn number(value: &Bson) -> Option<f64> {
    value.as_f64().or_else(|| value.as_i64().map(|whole| whole as f64)).or_else(|| value.as_i32().map(f64::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_whose_feed_does_not_survive_a_step_down_are_named() {
        for weak in ["4.4.29", "6.0.5", "7.0.20", "7.3.4", "8.0.0", "8.0.4", "8.0.4-rc1"] {
            assert_eq!(release(weak).unwrap().found, weak);
        }
        for sound in ["7.0.21", "7.0.30", "8.0.5", "8.1.0", "8.2.1-rc0", "9.0.0"] {
            assert_eq!(release(sound), None);
        }
        assert_eq!(release("who knows"), None);
    }

    #[test]
    fn a_server_without_files_or_journal_is_named_and_one_that_does_not_tell_is_not() {
        assert_eq!(engine(&doc! { "name": "inMemory", "persistent": false }).unwrap().found, "inMemory");
        assert_eq!(engine(&doc! { "name": "wiredTiger", "persistent": true }), None);
        assert!(journal(&doc! { "writeConcernMajorityJournalDefault": false }).is_some());
        assert_eq!(journal(&doc! { "writeConcernMajorityJournalDefault": true }), None);
        assert_eq!((engine(&doc! {}), journal(&doc! {})), (None, None));
    }

    #[test]
    fn a_clock_that_is_far_from_this_one_is_named_and_a_slow_answer_is_not_taken_for_it() {
        let (asked, answered) = (Timestamp::from_micros(10_000_000), Timestamp::from_micros(13_000_000));
        let apart = |seconds: f64| {
            #[expect(clippy::cast_possible_truncation, reason = "some seconds")]
            let theirs = Timestamp::from_micros((seconds * 1e6) as i64);
            clock_apart(theirs, asked, answered).map(|weakness| weakness.found)
        };
        for close in [9.6, 10.0, 11.5, 13.0, 13.4] {
            assert_eq!(apart(close), None, "{close}");
        }
        assert_eq!(apart(7.9).as_deref(), Some("2.1 s behind this machine's clock"));
        assert_eq!(apart(13.6).as_deref(), Some("0.6 s ahead of this machine's clock"));
        let status = doc! { "localTime": mongodb::bson::DateTime::from_millis(7_900) };
        assert_eq!(local_time(&status), Some(Timestamp::from_micros(7_900_000)));
        assert_eq!(local_time(&doc! {}), None);
    }

    #[test]
    fn an_oplog_is_judged_by_what_it_holds_when_it_is_full() {
        let window = |hours, filled| Oplog { hours, filled }.weakness().map(|weakness| weakness.found);
        assert_eq!(window(3.0, 0.95).as_deref(), Some("enough for 3.0 hours"));
        assert_eq!(window(2.0, 0.5).as_deref(), Some("enough for 4.0 hours"));
        assert_eq!(window(48.0, 1.0), None);
        assert_eq!(window(2.0, 0.01), None);
        assert_eq!(window(0.1, 0.5), None, "too young to tell");
    }
}
