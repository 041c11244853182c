//! The forwarder as a process of its own.

fn main() {}
