//! Heads that two parsers could read differently, and those that all read alike.
