use std::time::Duration;

/// What one client may take of a server (law H3).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the first wait for a request to the end of its header; so also how long an idle connection is kept.
    pub header: Duration,
    /// From the end of the header to the end of the body.
    pub body: Duration,
    /// From the end of the header to the start of the answer. A handler that waits on purpose asks for more with
    /// [`TimeAllowance`](super::TimeAllowance).
    pub request: Duration,
    /// How long a client may take nothing of its answer.
    pub stall: Duration,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Connections at a time; further ones wait in the kernel's queue.
    pub connections: usize,
    /// How long requests that were begun may take to end once shutdown was asked for.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            // Shorter than `request`, so that a slow client is told that it was slow, and not that we were.
            body: Duration::from_secs(5),
            request: Duration::from_secs(10),
            stall: Duration::from_secs(10),
            // Far above any command; the store takes events up to the same size.
            body_bytes: 64 * 1024,
            // Each costs some kilobytes and a file descriptor.
            connections: 4_096,
            drain: Duration::from_secs(10),
        }
    }
}
