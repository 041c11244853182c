//! Elasticsearch behind TLS.

use shared::index::{BalanceIndex, ElasticOptions};

use super::{Scratch, document, projected};
use crate::server::Server;
use crate::tls::Tls;

#[tokio::test]
async fn a_server_is_trusted_by_an_authority_of_ones_own_and_by_no_other() {
    let server = Server::Elastic.url();
    let tls = Tls::in_front_of(server.trim_start_matches("http://").trim_end_matches('/').to_owned()).await;
    let scratch = Scratch::new();
    let authorities = tls.authority().to_str().unwrap().parse().unwrap();
    let trusting = ElasticOptions { authorities: Some(authorities), ..ElasticOptions::default() };
    let index = scratch.index_at(&format!("https://localhost:{}", tls.port()), &trusting);
    index.check().await.unwrap();
    let generation = index.create().await.unwrap();
    index.apply(generation, &projected(vec![document(1, 1)])).await.unwrap();
    index.promote(generation, None).await.unwrap();
    assert_eq!(index.get(document(1, 1).id).await.unwrap(), Some(document(1, 1)));

    for (url, options) in [
        // Its authority is not trusted, or its certificate is for another name.
        (format!("https://user:secret@localhost:{}", tls.port()), ElasticOptions::default()),
        (format!("https://user:secret@127.0.0.1:{}", tls.port()), trusting),
    ] {
        let failure = scratch.index_at(&url, &options).generations().await.unwrap_err();
        let said = format!("{failure} {failure:?}");
        assert!(said.contains("certificate") && !said.contains("secret"), "{said}");
    }
}
