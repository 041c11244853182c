use balance_service::http::BalanceApi;
use balance_service::rebuild::Rebuilds;
use balance_service::{BalanceConfig, Nudge, Visibility, project};
use shared::backends::Backends;
use shared::clock::Clock;
use shared::http::{Limits, serve};
use shared::id::Ids;
use shared::telemetry::MetricsReader;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves queries and projects until `shutdown`; the projection ends behind the last query.
pub(super) async fn run<B: Backends>(
    config: BalanceConfig,
    backends: B,
    clock: Clock,
    ids: Ids,
    listener: TcpListener,
    metrics: MetricsReader,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (nudge, visibility) = (Nudge::default(), Visibility::default());
    let api = BalanceApi {
        backends: backends.clone(),
        rebuilds: Rebuilds::new(backends.clone(), config.partitions, clock.clone(), ids.clone(), nudge.clone()),
        visibility: visibility.clone(),
        clock: clock.clone(),
        shutdown: shutdown.clone(),
    };
    let last_query_answered = CancellationToken::new();
    let serving = async {
        let served =
            serve("balance-service", api.router(Some(metrics)), listener, Limits::default(), shutdown.clone()).await;
        last_query_answered.cancel();
        served
    };
    let projecting = async {
        let ended = project(config, backends, clock, ids, nudge, visibility, last_query_answered.clone()).await;
        shutdown.cancel();
        ended
    };
    let (served, projected) = tokio::join!(serving, projecting);
    projected?;
    Ok(served?)
}
