//! TLS and credentials: servers that insist on both are reached with both, and not if one is missing; and no secret
//! appears in an error or in a line of a log.

use std::fmt::Debug;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mongodb::bson::doc;
use mongodb::options::{ClientOptions, Tls, TlsOptions};
use shared::clock::Clock;
use shared::config::{Namespace, TlsAuthorities};
use shared::id::Ids;
use shared::lease::{LeaseStore, RedisLeases};
use shared::log::{NatsLog, NatsOpenError, NatsOptions, PartitionLog};
use shared::partition::{Partition, PartitionMap};
use shared::store::{EventStore, MongoStore};

use crate::certificates::Certificates;
use crate::listener::Listener;
use crate::own::{Own, Program, mongod, until, words};

/// A password that is written differently in a URL, and how.
const PASSWORD: &str = "s3cret/p@ss:word";
const PASSWORD_IN_URL: &str = "s3cret%2Fp%40ss%3Aword";

/// A part of it that is the same in both.
const CANARY: &str = "s3cret";

fn namespace() -> Namespace {
    "bank".parse().expect("a name")
}

fn assert_silent_about_secrets(listener: &Listener, told: &[String]) {
    let logged = listener.heard();
    for text in told.iter().map(String::as_str).chain(logged.lines()) {
        assert!(!text.contains(CANARY), "{text}");
    }
}

/// What an operator would see of a refusal, in every form; the outcome must be one.
fn told<T, E: std::error::Error + Debug>(outcome: Result<T, E>) -> String {
    let Err(refusal) = outcome else { panic!("it was not refused") };
    format!("{refusal} {refusal:?}")
}

#[tokio::test]
async fn redis_is_reached_by_tls_and_password_and_with_neither_missing() {
    let listener = Listener::new(tracing::Level::TRACE);
    let certificates = Certificates::new();
    let own = Own::start(Program::Redis, |folder, port| {
        let path = |name| certificates.path(name).display().to_string();
        words(&format!(
            "--port 0 --tls-port {port} --bind 127.0.0.1 --dir {} --tls-cert-file {} --tls-key-file {} --tls-ca-cert-file \
             {} --tls-auth-clients no --requirepass {PASSWORD}",
            folder.display(),
            path("server.pem"),
            path("server.key"),
            path("ca.pem"),
        ))
    });
    let own = own.await;
    let trusted = certificates.authorities();
    let open = async |user: &str, trusted: Option<&TlsAuthorities>| {
        RedisLeases::open(&format!("rediss://{user}127.0.0.1:{}", own.port()), &namespace(), trusted).await
    };
    let right = format!("default:{PASSWORD_IN_URL}@");
    let leases = open(&right, Some(&trusted)).await.unwrap();
    assert_eq!(leases.list("").await.unwrap(), []);

    let unknown_authority = open(&right, None).await;
    let wrong_password = open(&format!("default:{CANARY}@"), Some(&trusted)).await;
    let no_password = match open("", Some(&trusted)).await {
        Ok(leases) => told(leases.list("").await),
        refused => told(refused),
    };
    let plain = RedisLeases::open(&format!("redis://{right}{}", own.address()), &namespace(), None).await;
    let all = [told(unknown_authority), told(wrong_password), no_password, told(plain), format!("{leases:?}")];
    assert_silent_about_secrets(&listener, &all);
}

async fn nats(certificates: &Certificates, authorization: &str) -> Own {
    Own::start(Program::Nats, |folder, port| {
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\" }}\nauthorization {{ {authorization} }}\ntls {{ \
             cert_file: \"{}\", key_file: \"{}\" }}\n",
            folder.display(),
            certificates.path("server.pem").display(),
            certificates.path("server.key").display(),
        );
        std::fs::write(folder.join("nats.conf"), text).expect("a file");
        words("--config nats.conf")
    })
    .await
}

async fn nats_log(url: &str, authorities: Option<&TlsAuthorities>) -> Result<NatsLog, NatsOpenError> {
    let options = NatsOptions { url, authorities, ..NatsOptions::default() };
    NatsLog::open(options, &namespace(), PartitionMap::new(1).unwrap(), Ids::new(Clock::system())).await
}

#[tokio::test]
async fn nats_is_reached_by_tls_and_user_or_token_and_with_neither_missing() {
    let listener = Listener::new(tracing::Level::TRACE);
    let certificates = Certificates::new();
    let trusted = certificates.authorities();
    let own = nats(&certificates, &format!("user: ann, password: \"{PASSWORD}\"")).await;
    let url = |user: &str| format!("tls://{user}127.0.0.1:{}", own.port());
    let right = url(&format!("ann:{PASSWORD_IN_URL}@"));
    let log = nats_log(&right, Some(&trusted)).await.unwrap();
    log.extent(Partition::new(1)).await.unwrap();

    let mut all = vec![
        told(nats_log(&right, None).await),
        told(nats_log(&url(&format!("ann:{CANARY}@")), Some(&trusted)).await),
        told(nats_log(&url(""), Some(&trusted)).await),
        told(nats_log(&format!("tls://ann:{CANARY}@:bad:port"), Some(&trusted)).await),
        format!("{log:?}"),
    ];

    let own = nats(&certificates, &format!("token: \"{PASSWORD}\"")).await;
    let url = |token: &str| format!("tls://{token}127.0.0.1:{}", own.port());
    let log = nats_log(&url(&format!("{PASSWORD_IN_URL}@")), Some(&trusted)).await.unwrap();
    log.extent(Partition::new(1)).await.unwrap();
    all.push(told(nats_log(&url(&format!("{CANARY}@")), Some(&trusted)).await));
    assert_silent_about_secrets(&listener, &all);
}

/// NATS does not answer a call that a user may not make, so the failure of the call alone says only that it timed out.
#[tokio::test]
async fn what_a_user_of_nats_may_not_do_is_told_in_the_log() {
    let listener = Listener::new(tracing::Level::WARN);
    let certificates = Certificates::new();
    let may = "permissions: { publish: \"$JS.API.INFO\", subscribe: \"_INBOX.>\" }";
    let own = nats(&certificates, &format!("users: [{{ user: ann, password: \"{PASSWORD}\", {may} }}]")).await;
    let url = format!("tls://ann:{PASSWORD_IN_URL}@127.0.0.1:{}", own.port());
    let refused = told(nats_log(&url, Some(&certificates.authorities())).await);
    let heard = listener.heard();
    let named = ["Permissions Violation", "$JS.API.STREAM.INFO.balance-1"];
    assert!(named.iter().all(|name| heard.contains(name)), "{refused}\n{heard}");
}

#[tokio::test]
async fn a_file_of_credentials_that_is_missing_or_none_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none.creds");
    std::fs::write(&none, CANARY).unwrap();
    for file in [folder.path().join("missing.creds"), none] {
        let options = NatsOptions { url: "nats://127.0.0.1:1", credentials: Some(&file), ..NatsOptions::default() };
        let one = PartitionMap::new(1).unwrap();
        let refusal = told(NatsLog::open(options, &namespace(), one, Ids::new(Clock::system())).await);
        assert!(refusal.contains("cannot read the NATS credentials") && !refusal.contains(CANARY), "{refusal}");
    }
}

#[tokio::test]
async fn mongodb_is_reached_by_tls_and_password_and_with_neither_missing() {
    let listener = Listener::new(tracing::Level::TRACE);
    let certificates = Certificates::new();
    let own = Own::start(Program::Mongo, |folder: &Path, port| {
        let key = folder.join("members.key");
        std::fs::write(&key, "members of the set know this").expect("a file");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("a file of our own");
        let tls = format!(
            "--replSet rs0 --keyFile {} --tlsMode requireTLS --tlsCertificateKeyFile {} --tlsCAFile {} \
             --tlsAllowConnectionsWithoutCertificates",
            key.display(),
            certificates.path("both.pem").display(),
            certificates.path("ca.pem").display(),
        );
        [mongod(folder, port), words(&tls)].concat()
    });
    let own = own.await;
    make_first_user(&own, &certificates).await;

    let trusted = certificates.authorities();
    let open = async |user: &str, trusted: Option<&TlsAuthorities>| {
        let url = format!("mongodb://{user}{}/?directConnection=true&tls=true", own.address());
        MongoStore::open(&url, "bank", trusted).await
    };
    let right = format!("ann:{PASSWORD_IN_URL}@");
    let store = open(&right, Some(&trusted)).await.unwrap();
    store.head().await.unwrap();
    let plain = format!("mongodb://{right}{}/?directConnection=true", own.address());
    let (wrong, malformed) = (format!("ann:{CANARY}@"), format!("ann:{CANARY}@@"));
    // In parallel, since each waits for a server that it could use.
    let refused = futures::join!(
        async { told(open(&right, None).await) },
        async { told(open(&wrong, Some(&trusted)).await) },
        async { told(open("", Some(&trusted)).await) },
        async { told(MongoStore::open(&plain, "bank", Some(&trusted)).await) },
        async { told(open(&malformed, Some(&trusted)).await) },
    );
    let all = [refused.0, refused.1, refused.2, refused.3, refused.4, format!("{store:?}")];
    assert_silent_about_secrets(&listener, &all);
}

/// The server lets the first user be created from its own machine.
async fn make_first_user(own: &Own, certificates: &Certificates) {
    let url = format!("mongodb://{}/?directConnection=true", own.address());
    let mut options = ClientOptions::parse(url).await.unwrap();
    options.tls = Some(Tls::Enabled(TlsOptions::builder().ca_file_path(certificates.path("ca.pem")).build()));
    let admin = mongodb::Client::with_options(options).unwrap().database("admin");
    let members = vec![doc! { "_id": 0, "host": own.address() }];
    admin.run_command(doc! { "replSetInitiate": { "_id": "rs0", "members": members } }).await.unwrap();
    let user = doc! { "createUser": "ann", "pwd": PASSWORD, "roles": ["root"] };
    until("the first user is made", async || admin.run_command(user.clone()).await.ok()).await;
}
