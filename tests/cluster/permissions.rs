//! The permissions that docs/OPERATIONS.md lists, as each server takes them.
//!
//! They are read from that page, so that what is tested is what an operator copies. There the names are those of the
//! namespace `bank`; here they become those of another one, as the page says.

use std::fs;

use mongodb::bson::Document;

use crate::cluster::PARTITIONS;
use crate::root;
use crate::server::Server;

/// Where the permissions are listed.
const PAGE: &str = "docs/OPERATIONS.md";

/// The password of every user.
pub(crate) const PASSWORD: &str = "let-me-in";

/// Who may do everything in MongoDB and NATS.
pub(crate) const ADMIN: &str = "admin";

/// A user whom every server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// May do what the page lists, and nothing else.
    Bank,
    /// May do one thing less on each server.
    Lacking,
}

impl User {
    pub(crate) const ALL: [Self; 2] = [Self::Bank, Self::Lacking];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bank => "bank",
            Self::Lacking => "lacking",
        }
    }
}

/// How the list for a server begins.
const fn beginning(server: Server) -> &'static str {
    match server {
        Server::Mongo => "db.getSiblingDB(\"admin\").runCommand(",
        Server::Nats => "permissions: {",
        Server::Redis => "redis-cli ACL SETUSER bank ",
        Server::Elastic => "PUT _security/role/bank\n",
    }
}

/// What [`User::Lacking`] lacks, as the list has it.
const fn lacked(server: Server) -> &'static str {
    match server {
        Server::Mongo => ", \"createIndex\"",
        Server::Nats => "\"$JS.API.STREAM.INFO.balance-N\", ",
        Server::Redis => " +evalsha",
        Server::Elastic => ", \"manage\"",
    }
}

/// The list for a server, without what this user lacks.
fn listed(server: Server, user: User) -> String {
    let page = fs::read_to_string(root().join(PAGE)).expect("the page can be read");
    let list = block(&page, beginning(server));
    match user {
        User::Bank => list.to_owned(),
        User::Lacking => {
            assert_eq!(list.matches(lacked(server)).count(), 1, "{} in {list}", lacked(server));
            list.replace(lacked(server), "")
        }
    }
}

/// The block of code that begins so.
fn block<'a>(page: &'a str, beginning: &str) -> &'a str {
    let blocks = page.split("\n```").skip(1).step_by(2);
    let mut blocks = blocks.filter_map(|block| block.split_once('\n').map(|(_, code)| code));
    let found = blocks.find(|code| code.starts_with(beginning));
    found.unwrap_or_else(|| panic!("{PAGE} has no block of code that begins with {beginning}"))
}

/// The command that makes the role of a user in MongoDB.
pub(crate) fn role_in_mongo(user: User, namespace: &str) -> Document {
    let list = listed(Server::Mongo, user).replace("\"bank\"", &format!("\"{namespace}\""));
    let argument = list.trim_end().strip_prefix(beginning(Server::Mongo)).and_then(|rest| rest.strip_suffix(')'));
    let mut role: Document = serde_json::from_str(argument.expect("one call")).expect("its argument is JSON");
    role.insert("createRole", user.name());
    role
}

/// The part of a configuration of NATS that names its users.
pub(crate) fn users_of_nats(namespace: &str) -> String {
    let of = |user: User| {
        let list = listed(Server::Nats, user).replace("\"balance.", &format!("\"{namespace}.balance."));
        let lines: Vec<String> = list.lines().flat_map(|line| for_each_partition(line, namespace)).collect();
        format!("{{ user: \"{}\", password: \"{PASSWORD}\", {} }}", user.name(), lines.join("\n"))
    };
    let users = User::ALL.map(of).join("\n");
    format!("authorization {{ users: [\n{users}\n{{ user: \"{ADMIN}\", password: \"{PASSWORD}\" }}\n] }}\n")
}

/// A line with an N stands for one line for each partition.
fn for_each_partition(line: &str, namespace: &str) -> Vec<String> {
    let times = if line.contains("balance-N") { PARTITIONS } else { 1 };
    (1..=times).map(|number| line.replace("balance-N", &format!("{namespace}-balance-{number}"))).collect()
}

/// The file of the users of Redis.
pub(crate) fn users_of_redis(namespace: &str) -> String {
    let of = |user: User| {
        let list = listed(Server::Redis, user).replace("bank}", &format!("{namespace}}}"));
        // Without what the shell takes away.
        let list = list.replace("PASSWORD", PASSWORD).replace(['\'', '\\'], "");
        let rules = list.strip_prefix(beginning(Server::Redis)).expect("the list begins so");
        format!("user {} {}\n", user.name(), in_one_line(rules))
    };
    User::ALL.map(of).concat()
}

/// The file of the roles of Elasticsearch, of which each user has one of its own name.
pub(crate) fn roles_of_elastic(namespace: &str) -> String {
    let of = |user: User| {
        let list = listed(Server::Elastic, user).replace("\"balance", &format!("\"{namespace}-balance"));
        let role = list.strip_prefix(beginning(Server::Elastic)).expect("the list begins so");
        format!("{}: {}\n", user.name(), in_one_line(role))
    };
    User::ALL.map(of).concat()
}

fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
