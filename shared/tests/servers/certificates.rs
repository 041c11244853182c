//! A certificate authority of one test, and a server certificate for loopback that it signed; made by `openssl`.

use std::path::{Path, PathBuf};
use std::process::Command;

use shared::config::TlsAuthorities;
use tempfile::TempDir;

pub(crate) struct Certificates {
    folder: TempDir,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for a test");
        let made = Self { folder };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        made.openssl(&format!("req -x509 {key} -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"));
        made.openssl(&format!("req {key} -subj /CN=server -keyout server.key -out server.csr"));
        std::fs::write(made.path("extensions"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
            .expect("a file");
        made.openssl(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out server.pem",
        );
        let both = ["server.pem", "server.key"].map(|name| std::fs::read(made.path(name)).expect("a file")).concat();
        std::fs::write(made.path("both.pem"), both).expect("a file");
        made
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As the setting reads it.
    pub(crate) fn authorities(&self) -> TlsAuthorities {
        self.path("ca.pem").to_str().expect("a path in UTF-8").parse().expect("a certificate")
    }

    fn openssl(&self, arguments: &str) {
        run("openssl", arguments, self.folder.path());
    }
}

fn run(program: &str, arguments: &str, folder: &Path) {
    let output = Command::new(program).args(arguments.split_whitespace()).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed for tests of TLS: {error}"));
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
