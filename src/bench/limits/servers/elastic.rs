//! Elasticsearch: bulks of documents with external versions, of new documents and of existing ones.

use std::fmt::Write;

use anyhow::ensure;
use elasticsearch::Elasticsearch;
use elasticsearch::http::Method;
use elasticsearch::http::headers::{CONTENT_TYPE, HeaderMap, HeaderValue};
use elasticsearch::indices::{IndicesCreateParts, IndicesDeleteParts};
use serde_json::json;
use shared::clock::Clock;
use shared::config::{BackendSettings, ServerUrl};
use shared::id::{AccountId, Ids};
use shared::index::{ElasticOptions, elastic_client};
use shared::partition::Slot;
use tokio::time::{Duration, Instant};

use super::super::super::report::Report;
use super::{CALL_MAX, Run, removed_behind, together, within};

/// How many documents a bulk has, and how many bulks are in flight at once.
const DOCUMENTS_PER_BULK: usize = 5_000;
const BULKS_AT_ONCE: usize = 2;

/// How long it is loaded before anything is timed: a new JVM is slow until it has compiled the code that the load runs.
const WARM_UP: Duration = Duration::from_secs(5);

pub(super) async fn measure(
    url: &ServerUrl,
    backends: &BackendSettings,
    run: &Run,
    report: &mut Report,
) -> anyhow::Result<()> {
    let options = ElasticOptions { authorities: backends.tls_ca.clone(), call_max: CALL_MAX };
    let client = elastic_client(url.as_str(), &options)?;
    let removing = async {
        let index = [run.name.as_str()];
        let answer = within(client.indices().delete(IndicesDeleteParts::Index(&index)).send()).await?;
        answer.error_for_status_code()?;
        Ok(())
    };
    removed_behind(limits(&client, run, report), removing).await
}

async fn limits(client: &Elasticsearch, run: &Run, report: &mut Report) -> anyhow::Result<()> {
    let indices = client.indices();
    let created = indices.create(IndicesCreateParts::Index(&run.name)).body(layout()).send();
    within(created).await?.error_for_status_code()?;
    let writers = |is_new, time| (0..BULKS_AT_ONCE).map(move |_| Writer::new(client, run).write(is_new, time));
    together(writers(true, WARM_UP)).await?;
    report.figures.insert("elasticsearch_new_per_second", together(writers(true, run.duration)).await?);
    report.figures.insert("elasticsearch_updates_per_second", together(writers(false, run.duration)).await?);
    Ok(())
}

/// The settings and fields of the bank's index.
fn layout() -> serde_json::Value {
    json!({
        "settings": { "number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "1s", "translog.durability": "request" },
        "mappings": { "dynamic": "strict", "properties": {
            "id": { "type": "keyword" },
            "slot": { "type": "short" },
            "event_id": { "type": "keyword" },
            "owner": { "type": "keyword", "fields": { "keyword": { "type": "keyword" } } },
            "status": { "type": "keyword" },
            "currency": { "type": "keyword" },
            "balance": { "type": "long" },
            "version": { "type": "long" },
            "opened_at": { "type": "date", "format": "strict_date_optional_time" },
            "updated_at": { "type": "date", "format": "strict_date_optional_time" },
        } },
    })
}

/// Writes bulks, one after the other, to accounts of its own.
struct Writer {
    client: Elasticsearch,
    path: String,
    clock: Clock,
    ids: Ids,
    accounts: Vec<AccountId>,
}

impl Writer {
    fn new(client: &Elasticsearch, run: &Run) -> Self {
        let path = format!("/{}/_bulk", run.name);
        let mut writer =
            Self { client: client.clone(), path, clock: run.clock.clone(), ids: run.ids.clone(), accounts: Vec::new() };
        writer.choose_accounts();
        writer
    }

    fn choose_accounts(&mut self) {
        self.accounts = (0..DOCUMENTS_PER_BULK).map(|_| self.ids.account()).collect();
    }

    async fn write(mut self, is_new: bool, duration: Duration) -> anyhow::Result<u64> {
        let (began, mut written, mut version) = (Instant::now(), 0, 1);
        while began.elapsed() < duration {
            self.send(self.bulk(version)).await?;
            written += DOCUMENTS_PER_BULK as u64;
            if is_new {
                self.choose_accounts();
            } else {
                version += 1;
            }
        }
        Ok(written)
    }

    fn bulk(&self, version: u64) -> String {
        let mut lines = String::new();
        let (now, event) = (self.clock.now(), self.ids.event());
        for account in &self.accounts {
            let slot = Slot::of(account).get();
            write!(
                lines,
                r#"{{"index":{{"_id":"{account}","version":{version},"version_type":"external"}}}}
{{"id":"{account}","slot":{slot},"event_id":"{event}","owner":"bench {account}","status":"OPEN","currency":"EUR","balance":{version},"version":{version},"opened_at":"{now}","updated_at":"{now}"}}
"#
            )
            .expect("a string takes everything");
        }
        lines
    }

    async fn send(&self, lines: String) -> anyhow::Result<()> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        let parts = [("filter_path", "errors")];
        let answer =
            within(self.client.send(Method::Post, &self.path, headers, Some(&parts), Some(lines), None)).await?;
        let answer: serde_json::Value = within(answer.error_for_status_code()?.json()).await?;
        ensure!(answer["errors"] == false, "a document of a bulk was refused");
        Ok(())
    }
}
