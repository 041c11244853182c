//! The bank.

fn main() {}
