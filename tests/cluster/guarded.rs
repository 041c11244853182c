//! Servers that know who asks, beside those of the other scenarios, which ask nobody.
//!
//! `./scripts/servers` starts them in a folder of their own, with the users of [`permissions`](crate::permissions).

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use mongodb::Client;
use mongodb::bson::{Document, doc};
use tokio::process::Command;
use tokio::time::timeout;

use crate::customers::PATIENCE;
use crate::customers::program::without_settings;
use crate::permissions::{ADMIN, PASSWORD, User, role_in_mongo, roles_of_elastic, users_of_nats, users_of_redis};
use crate::root;
use crate::server::Server;

/// One server of each kind. Dropping them stops them.
pub(crate) struct Guarded {
    folder: PathBuf,
    /// How much of the log of MongoDB is from before there were users.
    begun: usize,
}

impl Guarded {
    /// Starts them empty, with users for a bank of this namespace.
    pub(crate) async fn start(namespace: &str) -> Self {
        let mut guarded = Self { folder: root().join("target/servers-guarded"), begun: 0 };
        // A run that was killed may have left them.
        guarded.order("down", &Server::ALL).await;
        if let Err(failure) = fs::remove_dir_all(&guarded.folder) {
            assert_eq!(failure.kind(), std::io::ErrorKind::NotFound, "servers of an earlier run: {failure}");
        }
        guarded.write_users(namespace);
        guarded.order("up", &Server::ALL).await;
        guarded.make_users_of_mongo(namespace).await;
        guarded.begun = guarded.log(Server::Mongo).len();
        guarded
    }

    fn users(&self) -> PathBuf {
        self.folder.join("users")
    }

    fn write_users(&self, namespace: &str) {
        fs::create_dir_all(self.users().join("elastic")).expect("a folder can be made");
        let files = [
            ("nats.conf", users_of_nats(namespace)),
            ("redis.acl", users_of_redis(namespace)),
            ("elastic/roles.yml", roles_of_elastic(namespace)),
            ("elastic/users", User::ALL.map(|user| format!("{}:{PASSWORD}\n", user.name())).concat()),
            ("elastic/users_roles", User::ALL.map(|user| format!("{0}:{0}\n", user.name())).concat()),
        ];
        for (name, text) in files {
            fs::write(self.users().join(name), text).expect("a file can be written");
        }
    }

    /// MongoDB lets its first user be made from its own machine.
    async fn make_users_of_mongo(&self, namespace: &str) {
        let first = doc! { "createUser": ADMIN, "pwd": PASSWORD, "roles": ["root"] };
        let url = self.url_of(Server::Mongo, "");
        Box::pin(carry_out(&url, first)).await;
        let url = self.url_of_admin(Server::Mongo);
        for user in User::ALL {
            Box::pin(carry_out(&url, role_in_mongo(user, namespace))).await;
            let made = doc! { "createUser": user.name(), "pwd": PASSWORD, "roles": [user.name()] };
            Box::pin(carry_out(&url, made)).await;
        }
    }

    /// The URL of a server for a user.
    pub(crate) fn url(&self, server: Server, user: User) -> String {
        self.url_of(server, &format!("{}:{PASSWORD}@", user.name()))
    }

    /// The URL of MongoDB or NATS for the user who may do everything.
    pub(crate) fn url_of_admin(&self, server: Server) -> String {
        self.url_of(server, &format!("{ADMIN}:{PASSWORD}@"))
    }

    fn url_of(&self, server: Server, user: &str) -> String {
        let file = self.folder.join(server.name()).join("port");
        let port = fs::read_to_string(file).expect("a server has a port");
        let (scheme, parameters) = match server {
            Server::Mongo => ("mongodb", "/?replicaSet=rs0"),
            Server::Nats => ("nats", ""),
            Server::Redis => ("redis", ""),
            Server::Elastic => ("http", ""),
        };
        format!("{scheme}://{user}127.0.0.1:{}{parameters}", port.trim())
    }

    /// `kill -9`, and a start on the same data.
    pub(crate) async fn restart(&self, server: Server) {
        self.order("kill", &[server]).await;
        self.order("up", &[server]).await;
    }

    /// `kill -9`, and a start without data.
    pub(crate) async fn empty(&self, server: Server) {
        self.order("wipe", &[server]).await;
        self.order("up", &[server]).await;
    }

    /// What the servers say that they have refused; NATS and Redis, since they were started last. Elasticsearch does
    /// not tell.
    pub(crate) async fn refusals(&self) -> Vec<String> {
        let mongo = self.log(Server::Mongo).split_off(self.begun);
        let mongo = mongo.lines().filter(|line| line.contains("authorization failed")).map(str::to_owned);
        let nats = self.log(Server::Nats);
        let nats = nats.lines().filter(|line| line.contains("Violation")).map(str::to_owned);
        mongo.chain(nats).chain(self.refusals_of_redis().await).collect()
    }

    async fn refusals_of_redis(&self) -> Vec<String> {
        let client = redis::Client::open(self.url_of(Server::Redis, "")).expect("a URL of Redis");
        let mut connection = client.get_multiplexed_async_connection().await.expect("Redis answers");
        let listed: redis::RedisResult<Vec<redis::Value>> =
            redis::cmd("ACL").arg("LOG").query_async(&mut connection).await;
        let refused = listed.expect("Redis lists what it refused").into_iter().map(|refused| format!("{refused:?}"));
        // The driver does without.
        refused.filter(|refused| !refused.contains("client|setinfo")).collect()
    }

    fn log(&self, server: Server) -> String {
        let log = fs::read(self.folder.join(server.name()).join("log")).expect("a server has a log");
        String::from_utf8_lossy(&log).into_owned()
    }

    async fn order(&self, command: &str, servers: &[Server]) {
        let mut order = self.script(command);
        order.args(servers.iter().map(|server| server.name()));
        let ended = timeout(PATIENCE, order.output()).await.expect("the order is carried out in time");
        let output = ended.expect("the script runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "scripts/servers {command}: {said}");
    }

    fn script(&self, command: &str) -> Command {
        let mut script = without_settings(root().join("scripts/servers"));
        script.env("BANK_SERVERS", &self.folder).env("BANK_SERVERS_USERS", self.users());
        script.env("BANK_TEST_SERVERS", "native").arg(command).kill_on_drop(true);
        script
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let mut script = self.script("down");
        let stopped = script.as_std_mut().stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !stopped.is_ok_and(|status| status.success()) {
            println!("servers in {} may still run", self.folder.display());
        }
    }
}

/// Has MongoDB carry out a command.
async fn carry_out(url: &str, command: Document) {
    let client = Client::with_uri_str(url).await.expect("a URL of MongoDB");
    client.database("admin").run_command(command).await.expect("MongoDB carries out the command");
}
