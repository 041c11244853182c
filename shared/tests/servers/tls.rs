//! TLS in front of a server that has none: a client that trusts its authority reaches the server through it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// Listens on loopback with a certificate for `localhost`; ends when dropped.
pub(crate) struct Tls {
    address: SocketAddr,
    folder: TempDir,
    task: AbortHandle,
}

impl Tls {
    /// Passes everything on to the server at this `host:port`.
    #[expect(clippy::disallowed_methods, reason = "ends with its owner")]
    pub(crate) async fn in_front_of(server: String) -> Self {
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let folder = tempfile::tempdir().unwrap();
        let pem = authority.self_signed(&authority_key).unwrap().pem();
        std::fs::write(folder.path().join("ca.pem"), pem).unwrap();

        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(authority, authority_key);
        let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(pass(acceptor.clone(), client, server.clone()));
            }
        });
        Self { address, folder, task: task.abort_handle() }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The certificate of the authority.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection's whole life; a client without trust ends it at once.
async fn pass(acceptor: TlsAcceptor, client: TcpStream, server: String) {
    let Ok(mut client) = acceptor.accept(client).await else { return };
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    // Either side may end it as it likes.
    drop(copy_bidirectional(&mut client, &mut server).await);
}
