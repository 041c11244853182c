//! Which service of the bank answers at a URL, so that two URLs given in each other's place are told; and what a
//! service says when it refuses.
//!
//! Its name is asked for before the first real request: by then a benchmark would have measured for nothing, and the
//! refusal of a command, or of a comparison, by the wrong service is about a path and not about the URL.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::exit::{CodedFailure, Exit};

/// How long the answer may take: whoever takes longer is left to the first real request.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// How long a description may be, several times that of a service of the bank.
const DESCRIPTION_BYTES_MAX: usize = 1024 * 1024;

/// A service of the bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Account,
    Balance,
    Forwarder,
}

/// The part of `/openapi.json` that is read.
#[derive(Deserialize)]
struct Description {
    info: Info,
}

#[derive(Deserialize)]
struct Info {
    title: String,
}

/// What a service says when it refuses, or gives up.
#[derive(Deserialize)]
pub(crate) struct Refusal {
    /// For people.
    #[serde(default)]
    pub(crate) detail: String,
}

impl Refusal {
    /// What an answer says that is no success: all of its text, if that is not the bank's.
    pub(crate) async fn of(answer: reqwest::Response) -> Self {
        let text = answer.text().await.unwrap_or_default();
        serde_json::from_str(&text).unwrap_or(Self { detail: text })
    }
}

impl Service {
    const ALL: [Self; 3] = [Self::Account, Self::Balance, Self::Forwarder];

    /// Its title in `/openapi.json`.
    const fn title(self) -> &'static str {
        match self {
            Self::Account => "Account service",
            Self::Balance => "Balance service",
            Self::Forwarder => "Forwarder",
        }
    }

    /// Refuses the URL of another service, which comes from the option `flag`. Whatever else may be wrong with it, the
    /// first real request tells better.
    pub(crate) async fn refuse_other(self, url: &str, flag: &str) -> Result<(), CodedFailure> {
        match at(url).await {
            Some(found) if found != self => {
                Err(CodedFailure::new(Exit::Usage, format_args!("{url} is the {found}; {flag} wants the {self}")))
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title().to_lowercase())
    }
}

/// The service that answers at a URL, if it is one of the bank.
async fn at(url: &str) -> Option<Service> {
    let http = reqwest::Client::builder().no_proxy().timeout(ANSWER_TIME_MAX).build().ok()?;
    let mut answer = http.get(format!("{url}/openapi.json")).send().await.ok()?;
    let mut text = Vec::new();
    while let Some(piece) = answer.chunk().await.ok()? {
        text.extend_from_slice(&piece);
        if text.len() > DESCRIPTION_BYTES_MAX {
            return None;
        }
    }
    let Description { info } = serde_json::from_slice(&text).ok()?;
    Service::ALL.into_iter().find(|service| service.title() == info.title)
}
