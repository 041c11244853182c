use std::env;

use shared::clock::Clock;
use shared::config::Namespace;
use shared::id::Ids;

/// A server the tests need.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Server {
    Mongo,
    Nats,
    Redis,
    Elastic,
}

impl Server {
    /// Where it listens. A test without its server fails: a skipped one would prove nothing and look green.
    pub(crate) fn url(self) -> String {
        let variable = self.variable();
        #[expect(clippy::disallowed_methods, reason = "a test is told where servers are by its environment alone")]
        env::var(variable).unwrap_or_else(|_| {
            panic!("{variable} is not set: run ./scripts/servers up, then eval \"$(./scripts/servers env)\"")
        })
    }

    /// `host:port`, for a proxy in front of it.
    pub(crate) fn address(self) -> String {
        let url = self.url();
        let behind = url.split_once("://").expect("a URL").1;
        let authority = behind.split(['/', '?']).next().expect("a part at least");
        authority.rsplit('@').next().expect("a part at least").to_owned()
    }

    const fn variable(self) -> &'static str {
        match self {
            Self::Mongo => "BANK_TEST_MONGO_URL",
            Self::Nats => "BANK_TEST_NATS_URL",
            Self::Redis => "BANK_TEST_REDIS_URL",
            Self::Elastic => "BANK_TEST_ELASTIC_URL",
        }
    }
}

pub(crate) fn ids() -> Ids {
    Ids::new(Clock::system())
}

/// A namespace of one test.
pub(crate) fn fresh() -> Namespace {
    let id = ids().commit().uuid().simple().to_string();
    format!("t{}", &id[1..]).parse().expect("a letter and hexadecimal digits")
}
