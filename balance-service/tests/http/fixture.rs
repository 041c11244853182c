//! A balance service over an embedded bank in a folder of its own, without workers: the tests write the index.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use balance_service::http::BalanceApi;
use balance_service::rebuild::Rebuilds;
use balance_service::verify::{PATIENCE_MIN, Turn, Verifier};
use balance_service::{Nudge, Visibility};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::Value;
use shared::backends::{Backends, Ports};
use shared::clock::{Clock, Timestamp};
use shared::coordinate::Version;
use shared::event::EncodedEvents;
use shared::http::{Limits, guarded};
use shared::id::{AccountId, CommitId, EventId, Ids};
use shared::index::{AccountStatus, Balance, BalanceIndex, EmbeddedIndex, Generation, Parked, Projected};
use shared::lease::EmbeddedLeases;
use shared::log::EmbeddedLog;
use shared::money::Money;
use shared::owner::Owner;
use shared::partition::PartitionMap;
use shared::sqlite::DataFolder;
use shared::store::{Commit, EmbeddedStore, EventStore, StreamWrite};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::rough::{Fault, RoughIndex};

const PARTITIONS: u16 = 2;

/// The patience from which on a check is noted whatever it finds.
pub(crate) const PATIENCE_NOTED: Duration = PATIENCE_MIN.saturating_add(Duration::from_millis(1));

pub(crate) struct Bank {
    pub(crate) store: EmbeddedStore,
    pub(crate) index: EmbeddedIndex,
    pub(crate) shutdown: CancellationToken,
    pub(crate) visibility: Visibility,
    pub(crate) router: Router,
    _folder: TempDir,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    /// The values of one member of every entry of a list.
    pub(crate) fn each(&self, member: &str) -> Vec<Value> {
        self.json().as_array().unwrap().iter().map(|entry| entry[member].clone()).collect()
    }

    /// The path behind `rel="next"`.
    pub(crate) fn next(&self) -> Option<String> {
        let link = self.headers.get("link")?.to_str().unwrap();
        Some(link.strip_prefix('<')?.split_once(">; rel=\"next\"")?.0.to_owned())
    }
}

impl Bank {
    /// A bank without a view.
    pub(crate) async fn empty() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(temporary.path()).unwrap();
        let (clock, partitions) = (Clock::system(), PartitionMap::new(PARTITIONS).unwrap());
        let ids = Ids::new(clock.clone());
        let backends = Ports {
            store: EmbeddedStore::open(&folder).unwrap(),
            log: EmbeddedLog::open(&folder, partitions, clock, ids).await.unwrap(),
            leases: EmbeddedLeases::open(&folder).unwrap(),
            index: EmbeddedIndex::open(&folder).unwrap(),
        };
        let (shutdown, visibility) = (CancellationToken::new(), Visibility::default());
        let router = router(backends.clone(), shutdown.clone(), visibility.clone());
        Self { store: backends.store, index: backends.index, shutdown, visibility, router, _folder: temporary }
    }

    /// The same bank, asked through a service that has other backends.
    pub(crate) fn with_backends(self, backends: impl Backends) -> Self {
        let router = router(backends, self.shutdown.clone(), self.visibility.clone());
        Self { router, ..self }
    }

    /// The same bank, asked through a service whose index has a fault.
    pub(crate) fn with_fault(self, fault: Fault) -> Self {
        RoughIndex::of(self, Some(fault)).0
    }

    /// A bank whose active generation holds these documents.
    pub(crate) async fn with(balances: Vec<Balance>) -> (Self, Generation) {
        let bank = Self::empty().await;
        let generation = bank.index.create().await.unwrap();
        bank.write(generation, balances).await;
        bank.index.promote(generation, None).await.unwrap();
        (bank, generation)
    }

    pub(crate) async fn write(&self, generation: Generation, balances: Vec<Balance>) {
        self.index.apply(generation, &Projected { balances, ..Projected::default() }).await.unwrap();
    }

    pub(crate) async fn park(&self, generation: Generation, parked: Vec<Parked>) {
        self.index.apply(generation, &Projected { parked, ..Projected::default() }).await.unwrap();
    }

    /// The first commit of an account.
    pub(crate) async fn commit(&self, number: u8, events: EncodedEvents) {
        self.commit_after(0, number, events).await;
    }

    /// A commit of an account that is at this version.
    pub(crate) async fn commit_after(&self, version: u8, number: u8, events: EncodedEvents) {
        let writes = vec![StreamWrite { stream: account(number), expected: Version::new(version.into()), events }];
        let mut id = [number; 16];
        id[0] = version;
        let id = CommitId::from_bytes(id);
        let commit = Commit { id, time: Timestamp::EPOCH, key: None, receipt: Bytes::new(), writes };
        self.store.append(vec![commit]).await.remove(0).unwrap();
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[]).await
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: head.status, headers: head.headers, text }
    }
}

/// The routes of a service on these backends.
fn router(backends: impl Backends, shutdown: CancellationToken, visibility: Visibility) -> Router {
    let (clock, partitions) = (Clock::system(), PartitionMap::new(PARTITIONS).unwrap());
    let (ids, nudge, checks) = (Ids::new(clock.clone()), Nudge::default(), Turn::default());
    let api = BalanceApi {
        verifier: Verifier::of_service(backends.clone(), partitions, PATIENCE_NOTED, clock.clone(), checks),
        rebuilds: Rebuilds::new(backends.clone(), partitions, clock.clone(), ids, nudge),
        backends,
        visibility,
        clock,
        shutdown,
    };
    guarded(api.router(None), "balance", Limits::default())
}

pub(crate) fn account(number: u8) -> AccountId {
    AccountId::from_bytes([number; 16])
}

pub(crate) fn balance(number: u8, owner: &str, money: i64, version: u64) -> Balance {
    Balance {
        id: account(number),
        event_id: EventId::from_number(version.into()),
        owner: Owner::new(owner).unwrap(),
        status: AccountStatus::Open,
        currency: "EUR".parse().unwrap(),
        balance: Money::new(money).unwrap(),
        version: Version::new(version),
        opened_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
    }
}

pub(crate) fn parked(number: u8, at: u64) -> Parked {
    Parked {
        account: account(number),
        at: Version::new(at),
        reason: "its event has an unknown schema".to_owned(),
        since: Timestamp::EPOCH,
    }
}
