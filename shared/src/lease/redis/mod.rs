//! Leases in Redis, for a bank of several processes.
//!
//! A lease is a key that expires by itself: its value is the *grant*, the epoch and the holder. While the key exists,
//! nobody is granted the lease (law E1). Every step is one script, so nothing comes between its check and its write,
//! and renewing and releasing compare the grant first (law E3).
//!
//! The last epoch of each lease is kept in a key that does not expire (law E2). Redis may lose it: a server without
//! persistence forgets everything when it stops. Two things keep epochs growing then. `above` is what the caller read
//! where checkpoints are kept; and the server's clock, in microseconds, is a lower bound for every epoch, for holders
//! that were granted a lease and have not saved a checkpoint yet. Only a server that forgets *and* whose clock is set
//! back grants an epoch twice, and then never one in a checkpoint. A flushed Redis also forgets the holders, so two may
//! believe they hold a lease until the first one fails to renew; that is a zombie like any other.
//!
//! The server is one master. A cluster would keep all keys of a namespace together, since they have the same hash tag,
//! but one of its servers alone would answer, and the driver as it is built here does not look for that one. A sorted
//! set holds the names of the leases, so that listing looks at those and not at all keys of the server.

mod connection;
mod durability;
mod failure;

use std::time::Duration;

use connection::Connection;
use redis::{Script, ScriptInvocation};

use super::{Held, Holder, Lease, LeaseName, LeaseStore, RenewError};
use crate::config::{Namespace, TlsAuthorities};
use crate::coordinate::Epoch;
use crate::error::{BackendError, Effect};

/// The leases of a bank in Redis. Clones share one connection, which is replaced when it ends or falls silent.
#[derive(Clone)]
pub struct RedisLeases {
    connection: Connection,
    names: Names,
    scripts: Scripts,
}

impl std::fmt::Debug for RedisLeases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisLeases").finish_non_exhaustive()
    }
}

impl RedisLeases {
    /// Opens the leases of a namespace. For `rediss://`, `authorities` replace the certificate authorities of the
    /// system.
    ///
    /// # Errors
    /// When the URL is not a Redis URL, or the server does not answer.
    pub async fn open(
        url: &str,
        namespace: &Namespace,
        authorities: Option<&TlsAuthorities>,
    ) -> Result<Self, BackendError> {
        let connection = Connection::open(url, authorities).await?;
        Ok(Self { connection, names: Names::of(namespace), scripts: Scripts::new() })
    }

    async fn call<T: redis::FromRedisValue>(
        &self,
        operation: &'static str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, BackendError> {
        let asked = self.connection.ask(move |mut manager| async move { script.invoke_async(&mut manager).await });
        match asked.await {
            Ok(answer) => answer.map_err(|error| failure::of(operation, error)),
            Err(elapsed) => Err(BackendError::unknown(operation, elapsed)),
        }
    }
}

impl LeaseStore for RedisLeases {
    async fn acquire(
        &self,
        name: &LeaseName,
        holder: &Holder,
        ttl: Duration,
        above: Epoch,
    ) -> Result<Option<Lease>, BackendError> {
        let mut script = self.scripts.acquire.key(self.names.lease(name));
        script.key(self.names.epoch(name)).key(&self.names.all);
        script.arg(&*name.0).arg(&*holder.0).arg(millis(ttl)).arg(above.get());
        let epoch: Option<u64> = self.call("acquire", &script).await?;
        Ok(epoch.map(|epoch| Lease::granted(name.clone(), holder.clone(), Epoch::new(epoch))))
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<(), RenewError> {
        let mut script = self.scripts.renew.key(self.names.lease(lease.name()));
        script.arg(grant(lease)).arg(millis(ttl));
        if self.call("renew", &script).await? { Ok(()) } else { Err(RenewError::Lost) }
    }

    async fn release(&self, lease: Lease) -> Result<(), BackendError> {
        let mut script = self.scripts.release.key(self.names.lease(lease.name()));
        script.key(&self.names.all).arg(grant(&lease)).arg(&*lease.name().0);
        self.call("release", &script).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Held>, BackendError> {
        let mut script = self.scripts.list.key(&self.names.all);
        // No text in UTF-8 holds the byte 255, so every name with the prefix sorts before it.
        let end = [b"(", prefix.as_bytes(), b"\xff"].concat();
        script.arg(&self.names.leases).arg(format!("[{prefix}")).arg(end);
        let held: Result<Vec<(String, String)>, BackendError> = self.call("list", &script).await;
        // A read, whatever its outcome.
        let held = held.map_err(|failure| BackendError { effect: Effect::None, ..failure })?;
        held.into_iter().map(|(name, grant)| held_by(name, &grant)).collect()
    }
}

/// What the key of a lease holds: the epoch and the holder, whose name may contain spaces.
fn grant(lease: &Lease) -> String {
    format!("{} {}", lease.epoch().get(), lease.holder().0)
}

fn held_by(name: String, grant: &str) -> Result<Held, BackendError> {
    match grant.split_once(' ') {
        Some((_, holder)) => Ok(Held { name: LeaseName(name.into()), holder: Holder(holder.into()) }),
        None => Err(BackendError::broken("list", format!("the key of the lease {name} holds something else"))),
    }
}

/// Redis counts in whole milliseconds, and refuses zero.
fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// The keys of a namespace.
#[derive(Clone, Debug)]
struct Names {
    leases: String,
    epochs: String,
    all: String,
}

impl Names {
    fn of(namespace: &Namespace) -> Self {
        Self {
            leases: format!("{{{namespace}}}:lease:"),
            epochs: format!("{{{namespace}}}:epoch:"),
            all: format!("{{{namespace}}}:leases"),
        }
    }

    fn lease(&self, name: &LeaseName) -> String {
        format!("{}{name}", self.leases)
    }

    fn epoch(&self, name: &LeaseName) -> String {
        format!("{}{name}", self.epochs)
    }
}

/// The scripts that Redis runs; it caches them by digest, and is sent a text again when it has forgotten it.
#[derive(Clone, Debug)]
struct Scripts {
    acquire: Script,
    renew: Script,
    release: Script,
    list: Script,
}

impl Scripts {
    fn new() -> Self {
        Self {
            acquire: Script::new(include_str!("acquire.lua")),
            renew: Script::new(include_str!("renew.lua")),
            release: Script::new(include_str!("release.lua")),
            list: Script::new(include_str!("list.lua")),
        }
    }
}
