use redis::{ErrorKind, RedisError};

use crate::error::BackendError;

/// What a server answers instead of running a script: it is starting, busy, a replica, or denies access.
const REFUSED: [&str; 6] = ["LOADING", "READONLY", "MASTERDOWN", "BUSY", "NOAUTH", "NOPERM"];

/// What it answers to a wrong password, if the connection is to use version 3 of its protocol.
const WRONG_PASSWORD: &str = "WRONGPASS";

/// A server of a cluster that does not have the keys of the leases. The driver asks no other one.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0}: the bank uses no Redis Cluster; let BANK_LEASE_URL name one master behind a stable address, as Sentinel or a \
     managed service keep it"
)]
struct Clustered(RedisError);

/// Whether a call that failed took effect: only a refusal is known to have had none.
pub(super) fn of(operation: &'static str, error: RedisError) -> BackendError {
    if error.is_cluster_error() {
        return BackendError::not_done(operation, Clustered(error));
    }
    let refused = error.code().is_some_and(|code| REFUSED.contains(&code));
    if refused || is_password_refused(&error) || error.is_connection_refusal() {
        BackendError::not_done(operation, error)
    } else {
        BackendError::unknown(operation, error)
    }
}

/// Whether the server refused the password when the driver connected, so that the call was not sent.
fn is_password_refused(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed || error.code() == Some(WRONG_PASSWORD)
}

#[cfg(test)]
mod tests {
    use redis::ServerErrorKind;

    use super::*;
    use crate::error::Effect;

    #[test]
    fn a_call_over_a_connection_whose_password_was_refused_had_no_effect() {
        let told_by_driver = RedisError::from((ErrorKind::AuthenticationFailed, "refused"));
        let told_by_server = redis::make_extension_error(WRONG_PASSWORD.to_owned(), None);
        for refusal in [told_by_driver, told_by_server] {
            assert!(is_password_refused(&refusal), "{refusal}");
            assert_eq!(of("renew", refusal).effect, Effect::None);
        }
    }

    #[test]
    fn a_server_of_a_cluster_without_the_keys_is_refused_with_what_to_use_instead() {
        for kind in [ServerErrorKind::Moved, ServerErrorKind::Ask, ServerErrorKind::ClusterDown] {
            let failure = of("acquire", RedisError::from((ErrorKind::Server(kind), "not here")));
            assert_eq!(failure.effect, Effect::None);
            assert!(failure.to_string().contains("BANK_LEASE_URL name one master"), "{failure}");
        }
    }
}
