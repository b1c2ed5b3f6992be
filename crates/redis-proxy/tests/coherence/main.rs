//! The proof of the coherence contract: histories against a real Redis, under faults, and mutants that must be caught.
//!
//! `make test` runs each for seconds, `SOAK=1` (`make soak`) for minutes. A failure prints its seed: `SEED=42` repeats
//! it. `RECORD=path` appends a line a run: staleness, errors, seed.

mod fault;
mod outcome;
mod stand;

// Nobody reads what the mode does not allow.
mod cluster;
mod directed;
mod event;
mod moves;
mod pairs;
mod servers;
mod storm;
mod strict;
mod tracking;
mod ttl;

// And it would be noticed.
mod mutants;
