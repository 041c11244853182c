//! What a Redis server guarantees. None of it is needed for correctness: epochs are checked where checkpoints are kept.

use std::collections::BTreeMap;

use redis::Cmd;
use tracing::debug;

use super::RedisLeases;
use crate::durability::Weakness;

const SERVER: &str = "redis";

/// What it costs when Redis forgets its leases.
const FORGOTTEN: &str = "after a restart all leases are forgotten, so partitions have two workers for a while";

impl RedisLeases {
    /// Where the server's settings guarantee less than a bank should have. A managed Redis does not reveal all of them;
    /// those it does not are left out.
    pub async fn weaknesses(&self) -> Vec<Weakness> {
        let mut info = self.told(redis::cmd("INFO").arg("persistence")).await;
        info.extend(self.told(redis::cmd("INFO").arg("memory")).await);
        info.extend(self.told(redis::cmd("INFO").arg("cluster")).await);
        let config: BTreeMap<String, String> =
            self.ask(redis::cmd("CONFIG").arg("GET").arg("appendfsync")).await.unwrap_or_default();
        judge(&info, config.get("appendfsync").map(String::as_str))
    }

    /// What `INFO` answers, by name.
    async fn told(&self, info: &Cmd) -> BTreeMap<String, String> {
        let text: String = self.ask(info).await.unwrap_or_default();
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
    }

    async fn ask<T: redis::FromRedisValue>(&self, question: &Cmd) -> Option<T> {
        let asked = self.connection.ask(move |mut manager| async move { question.query_async(&mut manager).await });
        match asked.await {
            Ok(answer) => answer.inspect_err(|error| debug!(%error, "cannot read the configuration of redis")).ok(),
            Err(_) => None,
        }
    }
}

fn judge(info: &BTreeMap<String, String>, appendfsync: Option<&str>) -> Vec<Weakness> {
    let is = |name: &str, value: &str| info.get(name).is_some_and(|found| found == value);
    let mut weaknesses = Vec::new();
    if is("aof_enabled", "0") {
        weaknesses.push(Weakness {
            server: SERVER,
            setting: "appendonly",
            found: "no".to_owned(),
            wanted: "yes",
            risk: FORGOTTEN,
        });
    } else if appendfsync == Some("no") {
        weaknesses.push(Weakness {
            server: SERVER,
            setting: "appendfsync",
            found: "no".to_owned(),
            wanted: "everysec or always",
            risk: FORGOTTEN,
        });
    }
    let policy = info.get("maxmemory_policy").filter(|policy| *policy != "noeviction");
    if let Some(policy) = policy.filter(|_| !is("maxmemory", "0")) {
        weaknesses.push(Weakness {
            server: SERVER,
            setting: "maxmemory-policy",
            found: policy.clone(),
            wanted: "noeviction",
            risk: "a lease may be evicted while it is held, so a partition has two workers for a while",
        });
    }
    if is("cluster_enabled", "1") {
        weaknesses.push(Weakness {
            server: SERVER,
            setting: "cluster-enabled",
            found: "yes".to_owned(),
            wanted: "no, with one master behind a stable address",
            risk: "this server alone is asked for the leases: while another of the cluster has them, all work rests",
        });
    }
    weaknesses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(info: &[(&str, &str)], appendfsync: Option<&str>) -> Vec<&'static str> {
        let info = info.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        judge(&info, appendfsync).iter().map(|weakness| weakness.setting).collect()
    }

    #[test]
    fn what_makes_redis_forget_is_named_and_what_it_does_not_tell_is_not() {
        let sound = [("aof_enabled", "1"), ("maxmemory", "1000"), ("maxmemory_policy", "noeviction")];
        assert!(settings(&sound, Some("always")).is_empty());
        assert!(settings(&sound, Some("everysec")).is_empty());
        assert_eq!(settings(&sound, Some("no")), ["appendfsync"]);
        assert_eq!(settings(&[("aof_enabled", "0")], Some("no")), ["appendonly"]);
        assert_eq!(
            settings(&[("maxmemory", "1000"), ("maxmemory_policy", "volatile-lru")], None),
            ["maxmemory-policy"]
        );
        assert_eq!(settings(&[("cluster_enabled", "1")], None), ["cluster-enabled"]);
        assert!(settings(&[("cluster_enabled", "0")], None).is_empty());
        assert!(settings(&[("maxmemory", "0"), ("maxmemory_policy", "volatile-lru")], None).is_empty());
        assert!(settings(&[], None).is_empty());
    }
}
