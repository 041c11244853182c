//! What the servers of a replica set promise beyond what the store asks of them.

use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};
use tracing::debug;

use super::MongoStore;
use super::failure::read;
use crate::durability::Weakness;

const SERVER: &str = "mongodb";

/// The oldest releases of each line whose change streams survive the step-down of a primary with what it rolled back
/// (SERVER-92239).
const RELEASES: [[u32; 3]; 2] = [[7, 0, 21], [8, 0, 5]];

/// How long the feed may be left alone, in hours, before the server forgets what it has not seen.
const WINDOW_HOURS_MIN: f64 = 24.0;

/// Filled to this part, an oplog has begun to forget, or is about to.
const OPLOG_FULL: f64 = 0.9;

/// A younger oplog tells nothing about a day.
const HISTORY_HOURS_MIN: f64 = 1.0;

const SECONDS_AN_HOUR: f64 = 3_600.0;

impl MongoStore {
    /// What the servers' settings promise less than a bank should have. What they do not tell is not among it.
    pub async fn weaknesses(&self) -> Vec<Weakness> {
        let admin = self.client.database("admin");
        let build = told(&admin, doc! { "buildInfo": 1 }).await;
        let status = told(&admin, doc! { "serverStatus": 1, "metrics": 0, "tcmalloc": 0 }).await;
        let set = told(&admin, doc! { "replSetGetConfig": 1 }).await;
        let found = [
            build.and_then(|build| release(build.get_str("version").ok()?)),
            status.as_ref().and_then(|status| engine(status.get_document("storageEngine").ok()?)),
            set.and_then(|set| journal(set.get_document("config").ok()?)),
            match status.as_ref().and_then(retention) {
                Some(hours) if hours >= WINDOW_HOURS_MIN => None,
                Some(_) | None => Oplog::look(&self.client.database("local")).await.and_then(Oplog::weakness),
            },
        ];
        found.into_iter().flatten().collect()
    }
}

/// What the server answers, if it does.
async fn told(database: &Database, command: Document) -> Option<Document> {
    let answer = read("weaknesses", Box::pin(async { database.run_command(command).await })).await;
    answer.inspect_err(|failure| debug!(%failure, "mongodb does not tell about itself")).ok()
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
        found: engine.get_str("name").unwrap_or("one without files").to_owned(),
        wanted: "wiredTiger",
        risk: "acknowledged commits are gone when the servers stop",
    })
}

fn journal(config: &Document) -> Option<Weakness> {
    matches!(config.get_bool("writeConcernMajorityJournalDefault"), Ok(false)).then(|| Weakness {
        server: SERVER,
        setting: "writeConcernMajorityJournalDefault",
        found: "false".to_owned(),
        wanted: "true (rs.reconfig)",
        risk: "a majority may acknowledge a commit that its journals do not have",
    })
}

/// How long the server keeps its history at least, in hours, whatever its size.
fn retention(status: &Document) -> Option<f64> {
    number(status.get_document("oplogTruncation").ok()?.get("oplogMinRetentionHours")?)
}

/// The history a feed is read from.
#[derive(Clone, Copy, Debug)]
struct Oplog {
    /// From its first entry to its last.
    hours: f64,
    /// How much of its room it takes.
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

    /// How long it lasts when it is full, as far as it can be told from what is in it.
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
            risk: "a forwarder that stands still for longer makes every worker synchronise with the store",
        })
    }
}

fn seconds(answer: &Document) -> Option<u32> {
    Some(first_of(answer)?.get_timestamp("ts").ok()?.time)
}

fn first_of(answer: &Document) -> Option<&Document> {
    answer.get_document("cursor").ok()?.get_array("firstBatch").ok()?.first()?.as_document()
}

/// A number of any kind; servers change the kind from release to release.
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
    fn an_oplog_is_judged_by_what_it_holds_when_it_is_full() {
        let window = |hours, filled| Oplog { hours, filled }.weakness().map(|weakness| weakness.found);
        assert_eq!(window(3.0, 0.95).as_deref(), Some("enough for 3.0 hours"));
        assert_eq!(window(2.0, 0.5).as_deref(), Some("enough for 4.0 hours"));
        assert_eq!(window(48.0, 1.0), None);
        assert_eq!(window(2.0, 0.01), None);
        assert_eq!(window(0.1, 0.5), None, "too young to tell");
    }
}
