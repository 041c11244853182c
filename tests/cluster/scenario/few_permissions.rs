//! A bank whose users may do on the servers what docs/OPERATIONS.md lists, and nothing else: whatever it does,
//! nothing is refused. A service whose user may do less says which server does not let it do what.

use std::sync::Arc;

use async_nats::ConnectOptions;
use async_nats::jetstream;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::emptied_log::purge;
use crate::cluster::{Cluster, Plan};
use crate::customers::desks::Desks;
use crate::customers::{AGAIN_AFTER, PATIENCE, get};
use crate::guarded::Guarded;
use crate::jobs::{Jobs, Request};
use crate::permissions::{ADMIN, PASSWORD, User};
use crate::server::Server;
use crate::service::Kind;
use crate::tally::{Count, Tally};

/// How often the customer acts before the services are restarted: more than a hundred events for each account, which an
/// account service that starts reads, and notes a snapshot of.
const ACTS: u64 = 60;

/// How often the customer acts between two troubles.
const ACTS_BETWEEN: u64 = 5;

/// What the log of a service holds if a server refused something.
const REFUSED: [&str; 5] = [
    "Permissions Violation",
    "not authorized on",
    "no permissions to run",
    "can't run this command",
    "security_exception",
];

pub(super) async fn play(name: &'static str, tally: Arc<Tally>) {
    let plan = Plan::new(name, Arc::clone(&tally));
    let servers = Guarded::start(plan.namespace()).await;
    let mut cluster = on(&servers, plan).start().await;
    let mut customer = Customer::open(&cluster).await;
    customer.act(ACTS).await;
    rebuild_and_roll_back(&cluster, &mut customer).await;
    for server in [Server::Nats, Server::Redis] {
        servers.restart(server).await;
        tally.count(Count::ServerKills);
        customer.act(ACTS_BETWEEN).await;
    }
    Box::pin(purge_log(&cluster, &servers)).await;
    tally.count(Count::Troubles);
    customer.act(ACTS_BETWEEN).await;
    assert_nothing_refused(&cluster, &servers).await;
    for server in [Server::Nats, Server::Redis] {
        servers.empty(server).await;
        tally.count(Count::ServerKills);
        customer.act(ACTS_BETWEEN).await;
    }
    for number in 0..cluster.services.len() {
        cluster.stop_one(number).await;
        cluster.services[number].start();
        cluster.services[number].wait_ready().await;
    }
    customer.act(ACTS_BETWEEN).await;
    Box::pin(wait_snapshot(&cluster, &servers)).await;
    verify(&cluster).await;
    assert_nothing_refused(&cluster, &servers).await;
    assert_told(&cluster, &servers).await;
    cluster.stop().await;
}

/// The bank on these servers.
fn on(servers: &Guarded, plan: Plan) -> Plan {
    Server::ALL.into_iter().fold(plan, |plan, server| plan.with(server.setting(), servers.url(server, User::Bank)))
}

/// Who has two accounts, and always knows at which version they are: each act adds the same number of events to both.
struct Customer {
    desks: Desks,
    views: Vec<String>,
    accounts: Vec<String>,
    version: u64,
    /// How many commands were sent: each has a key of its own.
    sent: usize,
}

impl Customer {
    async fn open(cluster: &Cluster) -> Self {
        let (desks, views) = (cluster.desks(), cluster.views());
        let mut customer = Self { desks, views, accounts: Vec::new(), version: 1, sent: 0 };
        for owner in ["Paulo", "Maria"] {
            let opened = customer.send("/accounts", &json!({ "owner": owner, "money": 100 })).await;
            customer.accounts.push(opened.as_str().expect("an account has an id").to_owned());
        }
        customer
    }

    /// Deposits to both accounts and transfers between them, so often; then waits until every balance service shows it.
    async fn act(&mut self, times: u64) {
        for _ in 0..times {
            for account in self.accounts.clone() {
                self.send("/deposit", &json!({ "id": account, "money": 2 })).await;
            }
            let transfer = json!({ "from": self.accounts[0], "to": self.accounts[1], "money": 1 });
            self.send("/transfer", &transfer).await;
            self.version += 2;
        }
        for view in &self.views {
            for account in &self.accounts {
                get(&format!("{view}/balance/{account}?min_version={}&wait_ms=30000", self.version)).await;
            }
        }
    }

    async fn send(&mut self, path: &str, body: &Value) -> Value {
        self.sent += 1;
        let key = format!("few-permissions-{}", self.sent);
        let (status, answer) = self.desks.decide(path, &key, &body.to_string()).await;
        assert!(status.is_success(), "{path}: {status} {answer}");
        serde_json::from_str(&answer).expect("an answer is JSON")
    }
}

async fn rebuild_and_roll_back(cluster: &Cluster, customer: &mut Customer) {
    let jobs = Jobs::of(cluster);
    for request in [Request::Rebuild, Request::Rollback] {
        let job = jobs.begin(request).await;
        jobs.wait_switched(&job).await;
        customer.act(ACTS_BETWEEN).await;
    }
}

/// Every partition loses its records, and with them its incarnation.
async fn purge_log(cluster: &Cluster, servers: &Guarded) {
    // This client takes no user from a URL.
    let admin = ConnectOptions::with_user_and_password(ADMIN.to_owned(), PASSWORD.to_owned());
    let client = admin.connect(servers.url_of_admin(Server::Nats)).await.expect("NATS answers");
    purge(&jetstream::new(client), cluster).await;
}

/// Waits until an account service has noted a snapshot, and reads it as the bank may.
async fn wait_snapshot(cluster: &Cluster, servers: &Guarded) {
    let client = Client::with_uri_str(servers.url(Server::Mongo, User::Bank)).await.expect("a URL of MongoDB");
    let snapshots = client.database(cluster.namespace()).collection::<Document>("snapshots");
    let noted = timeout(PATIENCE, async {
        while snapshots.find_one(doc! {}).await.expect("snapshots may be read").is_none() {
            sleep(AGAIN_AFTER).await;
        }
    });
    noted.await.expect("a snapshot is noted in time");
}

/// `bank verify`, with the settings of the services.
async fn verify(cluster: &Cluster) {
    let mut verify = cluster.services[0].beside("bank");
    let ended = timeout(PATIENCE, verify.args(["verify", "--repair"]).output()).await;
    let output = ended.expect("the view is verified in time").expect("the program was built");
    assert!(output.status.success(), "{output:?}");
}

async fn assert_nothing_refused(cluster: &Cluster, servers: &Guarded) {
    for service in &cluster.services {
        for what in REFUSED {
            assert_eq!(service.count_said(what), 0, "{service} was refused something: {what}");
        }
    }
    assert_eq!(servers.refusals().await, [""; 0]);
}

/// Services whose users lack something name the server and what it refuses. Those that cannot open a backend end, and
/// the others are not ready.
async fn assert_told(cluster: &Cluster, servers: &Guarded) {
    let url = |server| servers.url(server, User::Lacking);
    for (kind, server, backend, refused) in [
        (Kind::Account, Server::Mongo, "event store: open failed", "to execute command { createIndexes: "),
        (Kind::Forwarder, Server::Nats, "partition log: open failed", "$JS.API.STREAM.INFO."),
    ] {
        let (code, said) = cluster.refusal(kind, server.setting(), &url(server)).await;
        assert!(code == Some(1) && said.contains(backend) && said.contains(refused), "{code:?} {said}");
    }
    for (server, refused, backend) in [
        (Server::Redis, "no permissions to run the 'evalsha' command", "leases"),
        (Server::Elastic, "security_exception: action [indices:admin/aliases/get] is unauthorized", "index"),
    ] {
        cluster.complaint(Kind::Balance, server.setting(), &url(server), refused, backend).await;
    }
}
