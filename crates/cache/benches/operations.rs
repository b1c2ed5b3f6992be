//! Nanoseconds an operation.
fn main() {}
