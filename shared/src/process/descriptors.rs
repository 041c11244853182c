//! How many files and sockets a process may have open, and how many of them are left to its clients.
//!
//! A shell usually allows 1,024, fewer than the connections that a service takes ([`Limits::connections`]). A process
//! that has used all of them up can neither reach its servers again nor open a file, whichever of its services the
//! connections belong to. So a process raises its limit as far as it may, and its services take only as many
//! connections as leave the rest of it enough.

use rlimit::increase_nofile_limit;
use tracing::warn;

use crate::http::Limits;

/// What a process needs beside its clients' connections: files, and connections to servers, 32 of them to MongoDB.
const RESERVED: usize = 256;

/// How many services of a process have clients: both, when the whole bank is one process.
const SERVICES_MAX: usize = 2;

/// How many connections a service takes, however few descriptors there are.
const CONNECTIONS_MIN: usize = 16;

/// Raises the limit as far as is useful and allowed, and returns what each service of this process may use.
pub(super) fn limits() -> Limits {
    let limits = Limits::default();
    let wanted = limits.connections * SERVICES_MAX + RESERVED;
    let allowed = open_up_to(wanted);
    let connections = connections_each(allowed, limits.connections);
    if connections < limits.connections {
        warn!(
            files = allowed,
            connections,
            "this process may have few files open, so each of its services takes few connections at once; raise the \
             limit to {wanted} (ulimit -n, or LimitNOFILE of systemd)"
        );
    }
    Limits { connections, ..limits }
}

/// Raises the limit to this many, or as far as is allowed; returns how many files the process may have open now.
fn open_up_to(files: usize) -> usize {
    // Where the limit cannot be known, there is none to keep to.
    increase_nofile_limit(files as u64).map_or(files, |allowed| usize::try_from(allowed).unwrap_or(usize::MAX))
}

/// How many connections each service may hold where a process may have `allowed` files open.
fn connections_each(allowed: usize, most: usize) -> usize {
    (allowed.saturating_sub(RESERVED) / SERVICES_MAX).clamp(CONNECTIONS_MIN, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_the_rest_of_the_process_enough() {
        for (allowed, connections) in [(100_000, 4_096), (8_448, 4_096), (1_024, 384), (400, 72), (256, 16), (0, 16)] {
            assert_eq!(connections_each(allowed, 4_096), connections, "of {allowed}");
        }
    }
}
