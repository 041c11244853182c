use shared::clock::Clock;
use shared::http::{Edge, RunError, serve};
use shared::id::Ids;
use shared::money::Currency;
use shared::process::Process;
use shared::store::Store;
use shared::supervise::Supervisor;
use tokio_util::sync::CancellationToken;

use crate::command::{Settings, Teller};
use crate::http::router;

/// The configuration of an account service.
#[derive(Clone)]
pub struct AccountServiceConfig {
    /// The currency of an account that is opened without one.
    pub default_currency: Currency,
    /// How commands are carried out.
    pub teller: Settings,
}

impl AccountServiceConfig {
    /// Built from the settings of a process.
    #[must_use]
    pub fn of<B>(process: &Process<B>) -> Self {
        Self { default_currency: process.settings.services.currency, teller: Settings::default() }
    }
}

/// Serves until `shutdown`, and then until the requests in flight are answered or their time is up.
///
/// # Errors
/// When the listener fails, or a task fails that must not.
pub async fn run<S: Store>(
    config: AccountServiceConfig,
    store: S,
    clock: Clock,
    ids: Ids,
    edge: Edge,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    // The tellers stop after the last customer: requests in flight still need them.
    let last_customer_left = CancellationToken::new();
    let mut supervisor = Supervisor::new(last_customer_left.clone());
    let teller = Teller::start(config.teller, store.clone(), clock, ids, &mut supervisor, &last_customer_left);
    let router = router(teller, store, config.default_currency, edge.metrics);
    let served = serve("account-service", router, edge.listener, edge.limits, shutdown).await;
    last_customer_left.cancel();
    supervisor.wait().await?;
    served.map_err(RunError::Listen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bank;
    use shared::http::Limits;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn a_service_answers_over_a_socket_and_goes_when_it_is_told_to() {
        let store = Bank::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let edge = Edge { listener, limits: Limits::default(), metrics: None };
        let config = AccountServiceConfig { default_currency: "EUR".parse().unwrap(), teller: Settings::default() };
        let clock = Clock::system();
        let service = run(config, store.store.clone(), clock.clone(), Ids::new(clock), edge, shutdown.clone());
        let customer = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let body = r#"{"owner":"Paulo","money":50}"#;
            let length = body.len();
            let head = "POST /create HTTP/1.1\r\nHost: bank\r\nContent-Type: application/json\r\nConnection: close";
            let request = format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            shutdown.cancel();
            answer
        };
        let (ended, answer) = tokio::join!(service, customer);
        ended.unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
        assert_eq!(store.events().await, 1);
    }
}
