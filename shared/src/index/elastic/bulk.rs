//! Many writes in one call, each with its own fate.
//!
//! An answer of "200" says nothing: every line has a status of its own. A line that was written, or that met a version
//! conflict, is done. One that Elasticsearch can never take as it is counts against its document. Lines that it is too
//! busy for are sent again, alone, after a growing pause. Anything else fails the caller, and no document is blamed for
//! it.
//!
//! A caller that waits for a busy server keeps its place among the few calls in flight. So a server that refuses is
//! sent less and less, and workers that wait for a place read nothing from the log meanwhile.

use std::io::Write as _;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use elasticsearch::http::Method;
use elasticsearch::http::headers::{CONTENT_TYPE, HeaderMap, HeaderValue};
use metrics::counter;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tracing::debug;

use super::ElasticIndex;
use super::answer::{Failure, body_of};
use super::together::{ALONE_FROM, Fates, Together};
use crate::coordinate::Version;
use crate::telemetry::metric::INDEX_BUSY;

/// The most lines in one bulk. Elasticsearch writes the lines of a bulk one after the other on one of its few threads,
/// so this is how long others wait for that thread. A document takes less than 2 KiB, so a body stays below 4 MiB, a
/// small part of what Elasticsearch accepts by default.
pub(super) const LINES_AT_ONCE: usize = 2_000;

/// How many bytes are reserved for a document and its action: the length of one with a short owner name.
const LINE_BYTES: usize = 512;

/// The most bulks a process has in flight: enough to keep a node of a few cores busy, few enough to fit into its queue
/// beside those of other processes.
pub(super) const BULKS_AT_ONCE: usize = 4;

/// How many of these may be large: the other places are left to small bulks, since clients wait for those.
pub(super) const LARGE_AT_ONCE: usize = 2;

/// The first pause for a busy server; it doubles up to [`BUSY_PAUSE_MAX`].
pub(super) const BUSY_PAUSE_MIN: Duration = Duration::from_millis(20);

/// The longest pause for a busy server.
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How often lines are sent again before the caller gets a failure: for about a second, so that an operator notices.
pub(super) const BUSY_TRIES_MAX: usize = 6;

/// The only parts of an answer that are requested. Reasons are left out, since they quote documents and so names.
const PARTS: &str = "items.*.status,items.*.error.type,error.type";

/// Why a document is refused, whoever sends it and whenever: its content does not fit the mapping. Other refusals with
/// the same status are about the request or the index, and no account is parked for them.
const UNFIT: &[&str] = &["document_parsing_exception", "mapper_parsing_exception", "strict_dynamic_mapping_exception"];

/// Which stored documents a write replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Those of a lower version.
    Older,
    /// Those of a lower or equal version.
    OlderOrEqual,
}

impl Over {
    /// Whether a write of this version replaces a document that shows the stored one.
    pub(super) fn replaces(self, stored: Version, written: Version) -> bool {
        match self {
            Self::Older => stored < written,
            Self::OlderOrEqual => stored <= written,
        }
    }

    const fn version_type(self) -> &'static str {
        match self {
            Self::Older => "external",
            Self::OlderOrEqual => "external_gte",
        }
    }
}

/// Lines as they are sent, in one buffer.
#[derive(Debug, Default)]
pub(super) struct Lines {
    body: Vec<u8>,
    /// Where each line ends.
    ends: Vec<usize>,
}

impl Lines {
    /// Room for this many documents with their actions.
    pub(super) fn for_documents(documents: usize) -> Self {
        Self { body: Vec::with_capacity(documents * LINE_BYTES), ends: Vec::with_capacity(documents) }
    }

    /// Adds a whole document with this external version, over those that `over` says.
    pub(super) fn index(&mut self, id: impl std::fmt::Display, external: u64, over: Over, document: &impl Serialize) {
        let kind = over.version_type();
        self.action(format_args!(r#"{{"index":{{"_id":"{id}","version":{external},"version_type":"{kind}"}}}}"#));
        self.content(document);
    }

    /// Adds a whole document over the stored one, if that was last changed under this number and term.
    pub(super) fn index_over(
        &mut self,
        id: impl std::fmt::Display,
        sequence: u64,
        term: u64,
        document: &impl Serialize,
    ) {
        self.action(format_args!(r#"{{"index":{{"_id":"{id}","if_seq_no":{sequence},"if_primary_term":{term}}}}}"#));
        self.content(document);
    }

    /// Adds a document that is created if there is none yet.
    pub(super) fn create(&mut self, id: impl std::fmt::Display, document: &impl Serialize) {
        self.action(format_args!(r#"{{"create":{{"_id":"{id}"}}}}"#));
        self.content(document);
    }

    /// Adds a deletion.
    pub(super) fn delete(&mut self, id: impl std::fmt::Display) {
        self.action(format_args!(r#"{{"delete":{{"_id":"{id}"}}}}"#));
        self.ends.push(self.body.len());
    }

    pub(super) const fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Adds the lines of another caller after these.
    pub(super) fn append(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        let start = self.body.len();
        self.body.extend_from_slice(&other.body);
        self.ends.extend(other.ends.iter().map(|end| start + end));
    }

    fn action(&mut self, action: std::fmt::Arguments<'_>) {
        writeln!(self.body, "{action}").expect("memory takes every byte");
    }

    fn content(&mut self, document: &impl Serialize) {
        serde_json::to_writer(&mut self.body, document).expect("a document is an object of texts and numbers");
        self.body.push(b'\n');
        self.ends.push(self.body.len());
    }

    /// No more lines can be added after this.
    fn close(self) -> Closed {
        Closed { body: self.body.into(), ends: self.ends }
    }
}

/// Lines that may be sent more than once.
struct Closed {
    body: Bytes,
    ends: Vec<usize>,
}

impl Closed {
    /// Only these lines; without a copy if they are all there are.
    fn of(&self, lines: &[usize]) -> Bytes {
        if lines.len() == self.ends.len() {
            return self.body.clone();
        }
        let parts = lines.iter().map(|line| {
            let start = line.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.body[start..self.ends[*line]]
        });
        parts.collect::<Vec<_>>().concat().into()
    }
}

/// What became of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It took effect.
    Done,
    /// An existing version or document is in the way.
    Conflict,
    /// Elasticsearch can never take this document, for a reason of this kind.
    Unfit(String),
}

#[derive(Deserialize)]
struct BulkAnswer {
    items: Vec<Item>,
}

/// An item of an answer names the action, and then what became of it.
#[derive(Deserialize)]
struct Item {
    #[serde(rename = "index", alias = "create", alias = "delete")]
    fate: ItemFate,
}

#[derive(Deserialize)]
struct ItemFate {
    status: u16,
    error: Option<ItemError>,
}

#[derive(Deserialize)]
struct ItemError {
    #[serde(rename = "type")]
    kind: String,
}

impl ItemFate {
    fn read(self) -> Result<Fate, Failure> {
        match (self.status, self.error.map(|error| error.kind)) {
            // Deleting a missing document is no error.
            (200..=299 | 404, None) => Ok(Fate::Done),
            (409, _) => Ok(Fate::Conflict),
            (400, Some(kind)) if UNFIT.contains(&kind.as_str()) => Ok(Fate::Unfit(kind)),
            (status, kind) => {
                let kind = kind.unwrap_or_default();
                Err(Failure::Refused { status, kind, reason: "a line of a bulk".to_owned() })
            }
        }
    }
}

/// The fates of the lines that were sent. Another number of them is no answer: it is unknown which lines it leaves out.
fn read_answer(body: &[u8], lines: usize) -> Result<Vec<Result<Fate, Failure>>, Failure> {
    let BulkAnswer { items } = serde_json::from_slice(body).map_err(|error| Failure::unreadable(&error))?;
    if items.len() != lines {
        return Err(Failure::Unreadable(format!("{} results for {lines} lines", items.len())));
    }
    Ok(items.into_iter().map(|item| item.fate.read()).collect())
}

impl ElasticIndex {
    /// Writes at most [`LINES_AT_ONCE`] lines to an alias, and only to an alias: a deleted index is not created again
    /// (law X6). Few lines go with those of other callers that wait in `together`. Returns their fates, in order.
    pub(super) async fn bulk(&self, together: &Together, alias: &str, lines: Lines) -> Fates {
        if lines.len() >= ALONE_FROM {
            let _large = self.bulks.large.acquire().await.expect("the semaphore is never closed");
            return self.send_all(alias, lines).await?.into_iter().collect();
        }
        let mut asked = together.hand_in(alias, lines);
        loop {
            let turn = match together.next(alias, &mut asked).await {
                Ok(fates) => return fates,
                Err(turn) => turn,
            };
            let (lines, callers) = together.take(alias);
            callers.tell(self.send_all(alias, lines).await);
            drop(turn);
        }
    }

    /// Sends lines until each has a fate, or Elasticsearch has been too busy for too long.
    async fn send_all(&self, alias: &str, lines: Lines) -> Result<Vec<Result<Fate, Failure>>, Failure> {
        let _place = self.bulks.places.acquire().await.expect("the semaphore is never closed");
        let lines = lines.close();
        let mut open: Vec<usize> = (0..lines.ends.len()).collect();
        let mut fates = vec![Ok(Fate::Done); open.len()];
        let pauses = ExponentialBuilder::new().with_min_delay(BUSY_PAUSE_MIN).with_max_delay(BUSY_PAUSE_MAX);
        let mut pauses = pauses.with_max_times(BUSY_TRIES_MAX).build();
        while let Some(busy) = self.send(alias, &lines, &mut open, &mut fates).await? {
            let Some(pause) = pauses.next() else { break };
            counter!(INDEX_BUSY.name).increment(open.len() as u64);
            debug!(alias, lines = open.len(), pause_ms = pause.as_millis(), failure = %busy, "index is busy, waiting");
            sleep(pause).await;
        }
        Ok(fates)
    }

    /// Sends the open lines once, and leaves open those that Elasticsearch was too busy for.
    async fn send(
        &self,
        alias: &str,
        lines: &Closed,
        open: &mut Vec<usize>,
        fates: &mut [Result<Fate, Failure>],
    ) -> Result<Option<Failure>, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        let (path, query) = (format!("/{alias}/_bulk"), [("require_alias", "true"), ("filter_path", PARTS)]);
        let sent = self.client.send(Method::Post, &path, headers, Some(&query), Some(lines.of(open)), None).await;
        let items = match body_of(sent).await.and_then(|body| read_answer(&body, open.len())) {
            Err(failure) if failure.is_busy() => vec![Err(failure); open.len()],
            items => items?,
        };
        for (line, fate) in open.iter().zip(items) {
            fates[*line] = fate;
        }
        let busy = |line: &usize| fates[*line].as_ref().err().filter(|failure| failure.is_busy());
        open.retain(|line| busy(line).is_some());
        Ok(open.first().and_then(busy).cloned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// What Elasticsearch says of one line.
    fn item() -> impl Strategy<Value = serde_json::Value> {
        let action = prop::sample::select(vec!["index", "create", "delete"]);
        let status = prop::sample::select(vec![200_u16, 201, 400, 403, 404, 409, 429, 500, 503]);
        let kind = prop::sample::select(vec!["document_parsing_exception", "illegal_argument_exception", "other"]);
        (action, status, prop::option::of(kind)).prop_map(|(action, status, kind)| {
            let mut fate = json!({ "status": status });
            if let Some(kind) = kind {
                fate["error"] = json!({ "type": kind });
            }
            json!({ action: fate })
        })
    }

    proptest! {
        #[test]
        fn an_answer_is_read_whole_or_not_at_all(items in prop::collection::vec(item(), 1..20), cut in 0.0_f64..1.0) {
            let whole = json!({ "items": items }).to_string();
            prop_assert_eq!(read_answer(whole.as_bytes(), items.len()).unwrap().len(), items.len());
            for wrong in [items.len() - 1, items.len() + 1] {
                prop_assert!(read_answer(whole.as_bytes(), wrong).is_err());
            }
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss,
                reason = "any place before the end will do")]
            let part = &whole.as_bytes()[..(whole.len() as f64 * cut) as usize];
            prop_assert!(read_answer(part, items.len()).is_err(), "half an answer was read");
        }

        #[test]
        fn garbage_is_no_answer(garbage in prop::collection::vec(any::<u8>(), 0..200), lines in 1_usize..20) {
            prop_assert!(read_answer(&garbage, lines).is_err());
        }
    }

    #[test]
    fn only_a_document_that_does_not_fit_is_blamed() {
        let read = |item: serde_json::Value| serde_json::from_value::<Item>(item).unwrap().fate.read();
        let refused =
            |status: u16, kind: &str| read(json!({ "index": { "status": status, "error": { "type": kind } } }));
        for kind in UNFIT {
            assert_eq!(refused(400, kind).unwrap(), Fate::Unfit((*kind).to_owned()));
        }
        for (status, kind) in [
            // Two indices behind the alias, an invalid version, a full mapping.
            (400, "illegal_argument_exception"),
            (403, "cluster_block_exception"),
            (404, "index_not_found_exception"),
            (429, "es_rejected_execution_exception"),
            (429, "document_parsing_exception"),
            (503, "unavailable_shards_exception"),
            (500, "mapper_parsing_exception"),
        ] {
            assert!(refused(status, kind).is_err(), "{status} {kind}");
        }
        assert_eq!(read(json!({ "delete": { "status": 404 } })).unwrap(), Fate::Done);
    }

    #[test]
    fn a_line_is_sent_again_as_it_was() {
        let mut lines = Lines::default();
        lines.index("a", 7, Over::Older, &json!({ "b": 1 }));
        lines.delete("b");
        lines.create("c", &json!({}));
        let lines = lines.close();
        let [first, second, third] = [0, 1, 2].map(|line| String::from_utf8(lines.of(&[line]).to_vec()).unwrap());
        assert_eq!(first, "{\"index\":{\"_id\":\"a\",\"version\":7,\"version_type\":\"external\"}}\n{\"b\":1}\n");
        assert_eq!(second, "{\"delete\":{\"_id\":\"b\"}}\n");
        assert_eq!(third, "{\"create\":{\"_id\":\"c\"}}\n{}\n");
        assert_eq!(lines.of(&[0, 1, 2]), lines.body);
        assert_eq!(lines.of(&[0, 2]), first + &third);
    }
}
