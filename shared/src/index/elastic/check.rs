//! Checks at the start that Elasticsearch promises what the bank needs. A weakness that endangers nothing causes a
//! warning; a release that is too old is refused; a server that does not answer may be up later, and one that does not
//! let its user look is used unchecked.

use std::collections::BTreeMap;

use elasticsearch::cluster::ClusterHealthParts;
use elasticsearch::http::Method;
use elasticsearch::http::headers::HeaderMap;
use elasticsearch::indices::IndicesGetSettingsParts;
use elasticsearch::params::ExpandWildcards;
use serde::Deserialize;
use tracing::{info, warn};

use super::answer::{Failure, answer};
use super::{ElasticIndex, ElasticOpenError};
use crate::error::BackendError;

/// The first version that has everything the bank uses.
const MAJOR_MIN: u32 = 8;

/// Whether a write is on disk when it is acknowledged.
const DURABILITY: &str = "index.translog.durability";

#[derive(Deserialize)]
struct Nodes {
    nodes: BTreeMap<String, Node>,
}

#[derive(Deserialize)]
struct Node {
    version: String,
}

#[derive(Deserialize)]
struct Health {
    status: String,
    number_of_data_nodes: u32,
}

/// The settings of an index that were asked for and are set.
#[derive(Deserialize)]
struct Settings {
    settings: BTreeMap<String, String>,
}

impl ElasticIndex {
    /// Checks the server, and logs what an operator should know.
    ///
    /// # Errors
    /// [`ElasticOpenError::TooOld`].
    pub async fn check(&self) -> Result<(), ElasticOpenError> {
        match self.oldest_version().await {
            Ok(Some(version)) if major(&version).is_some_and(|major| major < MAJOR_MIN) => {
                return Err(ElasticOpenError::TooOld { found: version.into(), needed: MAJOR_MIN });
            }
            Ok(version) => self.describe(&version.unwrap_or_default()).await,
            Err(failure @ Failure::Refused { status: 401 | 403, .. }) => {
                warn!(%failure, "elasticsearch refuses to be checked");
            }
            Err(failure) => warn!(%failure, "elasticsearch does not answer, the projection will lag"),
        }
        Ok(())
    }

    async fn oldest_version(&self) -> Result<Option<String>, Failure> {
        // The root, the usual endpoint for this, needs another privilege, and a module that not every server has.
        let (path, parts) = ("/_nodes/_all/http", [("filter_path", "nodes.*.version")]);
        let sent = self.client.send(Method::Get, path, HeaderMap::new(), Some(&parts), None::<()>, None).await;
        let found: Nodes = answer(sent).await?;
        Ok(found.nodes.into_values().map(|node| node.version).min_by_key(|version| major(version)))
    }

    async fn describe(&self, version: &str) {
        let parts = &["status", "number_of_data_nodes"];
        let health = self.client.cluster().health(ClusterHealthParts::None).filter_path(parts).send().await;
        match answer::<Health>(health).await {
            Ok(Health { status, number_of_data_nodes: nodes }) if status == "green" => {
                info!(version, nodes, "elasticsearch is available");
                if nodes == 1 {
                    info!("elasticsearch has one node: if its disk is lost, the projection is restored from the store");
                }
            }
            Ok(Health { status, number_of_data_nodes }) => {
                warn!(version, nodes = number_of_data_nodes, status, "elasticsearch lacks replicas, it is not green");
            }
            Err(failure) => warn!(version, %failure, "cannot read the health of elasticsearch"),
        }
        match self.lax_indices().await {
            Ok(lax) => lax.iter().for_each(|index| {
                warn!(index, "acknowledged writes may not be on disk: set index.translog.durability to request");
            }),
            Err(failure) => warn!(%failure, "cannot read the index settings of elasticsearch"),
        }
    }

    /// Indices of this bank whose acknowledged writes may be lost when a node dies.
    ///
    /// # Errors
    /// The server did not answer, or refused.
    pub async fn lax_indices(&self) -> Result<Vec<String>, BackendError> {
        self.find_lax().await.map_err(|failure| failure.of_read("check"))
    }

    async fn find_lax(&self) -> Result<Vec<String>, Failure> {
        let set = self.setting(&self.names.pattern(), DURABILITY).await?;
        let lax = set.into_iter().filter(|(index, set)| self.names.is_own(index) && set != "request");
        Ok(lax.map(|(index, _)| index).collect())
    }

    /// What these indices have set a setting to; those that have not set it are left out.
    pub(super) async fn setting(&self, indices: &str, name: &str) -> Result<BTreeMap<String, String>, Failure> {
        let (api, indices, names) = (self.client.indices(), [indices], [name]);
        let asked = api.get_settings(IndicesGetSettingsParts::IndexName(&indices, &names));
        let asked = asked.flat_settings(true).expand_wildcards(&[ExpandWildcards::All]).send().await;
        let found: BTreeMap<String, Settings> = answer(asked).await?;
        let set = found.into_iter().filter_map(|(index, mut found)| Some((index, found.settings.remove(name)?)));
        Ok(set.collect())
    }
}

fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tracing::Level;

    use super::super::fake::Fake;
    use super::super::logged::Log;

    #[tokio::test]
    async fn a_server_that_refuses_a_check_is_not_said_to_be_away() {
        let (log, _guard) = Log::up_to(Level::WARN);
        let refusal = json!({ "error": { "type": "security_exception", "reason": "ann is unknown" } }).to_string();
        let fake = Fake::start(move |_| (401, refusal.clone())).await;
        fake.index().check().await.unwrap();
        let log = log.text();
        assert!(log.contains("elasticsearch refuses to be checked") && log.contains("ann is unknown"), "{log}");
    }
}
