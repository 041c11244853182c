use std::time::Duration;

/// How much of a server a client may use (law H3).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the start of the wait for a request to the end of its header; so also how long an idle connection is kept.
    pub header: Duration,
    /// From the end of the header to the end of the body.
    pub body: Duration,
    /// From the end of the header to the start of the answer. A handler that waits on purpose asks for more with
    /// [`TimeAllowance`](super::TimeAllowance).
    pub request: Duration,
    /// How long a client may read nothing of its answer.
    pub stall: Duration,
    /// Size of a body, in bytes.
    pub body_bytes: usize,
    /// Concurrent connections; further ones wait in the kernel's queue.
    pub connections: usize,
    /// How long requests in progress may take to end after shutdown was requested.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            // Shorter than `request`, so that a slow client learns that it was slow, and not the service.
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
