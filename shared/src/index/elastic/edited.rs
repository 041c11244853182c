//! Documents that somebody edited by hand.
//!
//! Elasticsearch keeps a version of its own for each document, and the bank sets it to the account's version with every
//! write. An edit (`_update`, or a document saved anew) raises only Elasticsearch's. It then takes the account's next
//! event for an old one, and the right document for one, too. So a conflict alone does not make a write stale (law X2):
//! what counts is the version that the stored document shows. If it shows one that this write replaces, the write is
//! bound to the very document that was looked at, by the number and term of its last change. So nothing written since
//! then is lost, and nobody finds the account missing meanwhile.
//!
//! Such a write raises Elasticsearch's version by one as well. So an account that was edited costs a conflict, a look
//! and a second write for each change, until a rebuild. A metric counts these, and a process warns of them
//! [seldom](crate::telemetry::Seldom).

use elasticsearch::MgetParts;
use metrics::counter;
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::warn;

use super::ElasticIndex;
use super::answer::{Failure, answer};
use super::bulk::{Fate, Lines, Over};
use super::read::{Got, version_in};
use super::write::Document;
use crate::coordinate::Version;
use crate::index::{Balance, Generation};
use crate::telemetry::metric::DOCUMENTS_EDITED;

/// How often a document is looked at, if another writer replaces it between a look and the write.
const LOOKS_MAX: usize = 3;

/// A stored document and the number and term of its last change, or the absence of all of them.
#[derive(Deserialize)]
struct Stored {
    #[serde(rename = "_seq_no")]
    sequence: Option<u64>,
    #[serde(rename = "_primary_term")]
    term: Option<u64>,
    #[serde(flatten)]
    got: Got<Shown>,
}

#[derive(Deserialize)]
struct Shown {
    /// A number, unless it was edited too.
    #[serde(default)]
    version: Value,
}

#[derive(Deserialize)]
struct StoredMany {
    #[serde(default)]
    docs: Vec<Stored>,
}

impl ElasticIndex {
    /// Writes those of these documents, which met a conflict, that are stale only for Elasticsearch. Returns what
    /// became of each.
    pub(super) async fn write_over_edited(
        &self,
        generation: Generation,
        conflicts: &[&Balance],
        over: Over,
    ) -> Result<Vec<Fate>, Failure> {
        let mut fates = vec![Fate::Conflict; conflicts.len()];
        let mut open: Vec<usize> = (0..conflicts.len()).collect();
        for _ in 0..LOOKS_MAX {
            let asked: Vec<&Balance> = open.iter().map(|&at| conflicts[at]).collect();
            let stored = self.stored(generation, &asked).await?;
            let mut lines = Lines::default();
            let mut sent = Vec::new();
            for ((&at, balance), stored) in open.iter().zip(asked).zip(stored) {
                if self.add_line(&mut lines, generation, balance, stored, over)? {
                    sent.push(at);
                }
            }
            if sent.is_empty() {
                break;
            }
            let written = self.bulk(&self.bulks.documents, &self.names.open(generation), lines).await?;
            for (&at, fate) in sent.iter().zip(written) {
                fates[at] = fate;
            }
            open = sent.into_iter().filter(|&at| fates[at] == Fate::Conflict).collect();
        }
        Ok(fates)
    }

    /// Adds the line that writes a document over the stored one, unless that write is stale. Returns whether it has.
    fn add_line(
        &self,
        lines: &mut Lines,
        generation: Generation,
        balance: &Balance,
        stored: Stored,
        over: Over,
    ) -> Result<bool, Failure> {
        let Stored { sequence, term, got } = stored;
        // An answer leaves out a source that is empty.
        let version = got.found()?.map_or(Version::EMPTY, |shown| version_in(&shown.version));
        match sequence.zip(term) {
            None => lines.index(balance.id, balance.version.get(), over, &Document::from(balance)),
            Some((sequence, term)) if over.replaces(version, balance.version) => {
                counter!(DOCUMENTS_EDITED.name).increment(1);
                if let Some(left_out) = self.edited.due() {
                    warn!(account = %balance.id, %generation, left_out, "replacing a document edited by hand");
                }
                lines.index_over(balance.id, sequence, term, &Document::from(balance));
            }
            Some(_) => return Ok(false),
        }
        Ok(true)
    }

    async fn stored(&self, generation: Generation, balances: &[&Balance]) -> Result<Vec<Stored>, Failure> {
        if balances.is_empty() {
            return Ok(Vec::new());
        }
        let index = self.names.documents(generation);
        let question = |balance: &&Balance| json!({ "_index": index, "_id": balance.id, "_source": ["version"] });
        let docs: Vec<Value> = balances.iter().map(question).collect();
        let parts = ["docs.found", "docs._seq_no", "docs._primary_term", "docs._source.version", "docs.error.type"];
        let asked = self.client.mget(MgetParts::None).filter_path(&parts).body(json!({ "docs": docs }));
        let StoredMany { docs } = answer(asked.send().await).await?;
        if docs.len() != balances.len() {
            return Err(Failure::Unreadable(format!("{} documents for {} questions", docs.len(), balances.len())));
        }
        Ok(docs)
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::super::fake::Fake;
    use super::super::logged::Log;
    use super::super::tests::{GENERATION, all, documents, show};
    use super::*;
    use crate::index::{Applied, BalanceIndex};

    #[tokio::test]
    async fn an_edited_document_is_replaced_with_each_change_and_does_not_fill_the_log() {
        let (log, _guard) = Log::up_to(Level::WARN);
        // Elasticsearch takes each write for an old one, unless it names the change that it replaces.
        let fake = Fake::start(|asked| {
            if asked.is_look() {
                return show(asked, 1);
            }
            let status = if asked.body.contains("if_seq_no") { 200 } else { 409 };
            all(asked.ids().iter().map(|_| json!({ "status": status })))
        })
        .await;
        let index = fake.index();
        for _ in 0..3 {
            assert_eq!(index.apply(GENERATION, &documents(2)).await.unwrap(), Applied { written: 2, stale: 0 });
        }
        let log = log.text();
        assert_eq!(log.matches("edited by hand").count(), 1, "{log}");
    }
}
