//! The cache as this program uses it.

use cache::Cache;

use crate::failure::Failure;

/// Shared by all workers. Those who wait for a fill that failed get a [`Failure`].
pub(crate) type Store = Cache<Failure>;
