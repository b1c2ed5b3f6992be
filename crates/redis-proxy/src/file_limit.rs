//! The limit of open files, raised as far as we may, and what it allows.

use cache::Partition;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::config::{Mode, Settings};
use crate::error::Error;
use crate::lanes::KEPT_PINS;
use crate::listener::MOST_REFUSALS;
use crate::live::FileLimits;
use crate::places::MOST_FAREWELLS;

/// Files that are neither clients nor waiting nor a worker's: logs, listeners, admin connections and their kin, and the connections
/// to sentinels and witnesses.
const OTHERS: usize = 160;
/// A worker's epoll and its wakers (four), its connection to Redis, and a fresh attempt beside a silent one.
const FILES_A_WORKER: usize = 6;
/// A link's connection and a fresh attempt, and the connections of its canary and of large replies; beside them the epoll and the
/// wakers of its thread, which those of other readers share.
const FILES_A_LINK: usize = 10;
/// A worker's connection for the misses of one reader in mode `ttl`, and a fresh attempt beside a silent one.
const FILES_A_READER: usize = 2;
/// Primaries of a cluster for which files are set aside, with a slot watch each: the connections to further ones take of those for clients.
const PRIMARIES: usize = 16;
/// Clients at a time at the least.
const LEAST_CLIENTS: usize = 2;

/// What the limit of open files allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FilesAllow {
    /// Users and databases of Redis clients that may be cached for.
    pub(crate) readers: usize,
    /// What is left for all that a reload changes.
    pub(crate) room: FileRoom,
}

/// The files for clients and for the connections that are opened for them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileRoom {
    limit: usize,
    /// Taken by nothing that could be fewer, whatever else changes.
    fixed: usize,
    workers: usize,
    /// Whether there are connections that pass commands through.
    has_links: bool,
}

impl FileRoom {
    /// What is asked for, lowered to what there are files for, with a warning each.
    pub(crate) fn fit(&self, asked: FileLimits) -> FileLimits {
        let FileRoom { limit, fixed, workers, has_links } = *self;
        let (mut allowed, mut links) = (asked, 0);
        if has_links {
            (allowed.max_pinned, allowed.max_lanes) = fit_links(limit, asked.max_pinned, asked.max_lanes);
            links = allowed.max_pinned + allowed.max_lanes + workers * KEPT_PINS;
        }
        let left = limit.saturating_sub(links + fixed);
        (allowed.max_clients, allowed.max_waiting) =
            fit_clients(left, workers, asked.max_clients, asked.max_waiting);
        allowed
    }
}

/// Raises the limit and lowers what `settings` ask for to what it allows, with a warning each.
///
/// # Errors
/// The program would serve nobody: the limit is to be raised.
pub(crate) fn fit(settings: &mut Settings) -> Result<FilesAllow, Error> {
    let (limit, needed) = (raise(), needed(settings));
    if limit < needed {
        return Err(Error::Files { limit, needed });
    }
    let (readers, of_readers) = readers(limit, settings);
    let fixed = of_readers + of_further_nodes(settings);
    let room = FileRoom { limit, fixed, workers: settings.workers, has_links: settings.resp.is_some() };
    let allowed = room.fit(FileLimits::of(settings));
    (settings.max_pinned, settings.max_lanes) = (allowed.max_pinned, allowed.max_lanes);
    (settings.max_clients, settings.max_waiting) = (allowed.max_clients, allowed.max_waiting);
    Ok(FilesAllow { readers, room })
}

/// How many nodes there are connections to.
fn nodes(settings: &Settings) -> usize {
    if settings.redis.cluster.is_some() { PRIMARIES } else { 1 }
}

/// What the first reader takes for all nodes but one.
fn of_further_nodes(settings: &Settings) -> usize {
    let of_one = match settings.coherence.mode {
        Mode::Ttl => settings.workers * FILES_A_READER,
        Mode::Tracking | Mode::Strict => settings.coherence.links * FILES_A_LINK,
    };
    (nodes(settings) - 1) * of_one
}

/// Raises the soft limit to the hard one and returns it; `usize::MAX` where there is none.
fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            warn!(%error, "the limit of open files could not be raised");
            limit.current
        }
    };
    now.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// The files without which the program would listen and serve nobody. Short of more it only serves fewer at a time.
fn needed(settings: &Settings) -> usize {
    let Settings { workers, max_pinned, max_lanes, .. } = *settings;
    // Those of Redis clients start with their first read.
    let has_links = settings.coherence.mode != Mode::Ttl || settings.resp.is_some();
    let links = if has_links { settings.coherence.links } else { 0 };
    let fixed = OTHERS + workers * FILES_A_WORKER + links * FILES_A_LINK + LEAST_CLIENTS;
    match &settings.resp {
        None => fixed,
        Some(_) => {
            let fixed = fixed + workers * KEPT_PINS;
            // Beside a quarter for connections that pass commands through, as `fit_links` has it.
            (fixed * 4).div_ceil(3).min(fixed + max_pinned + max_lanes)
        }
    }
}

/// MAX_PINNED and MAX_LANES as `files` allow them, lowered with a warning: a quarter of the files at most.
fn fit_links(files: usize, max_pinned: usize, max_lanes: usize) -> (usize, usize) {
    let room = files / 4;
    if max_pinned.saturating_add(max_lanes) <= room {
        return (max_pinned, max_lanes);
    }
    let lanes = max_lanes.min(room / 2).max(1);
    let pinned = max_pinned.min(room - room / 2);
    warn!(
        max_pinned = pinned,
        max_lanes = lanes,
        files,
        "MAX_PINNED and MAX_LANES lowered to the limit of open files"
    );
    (pinned, lanes)
}

/// How many users and databases of Redis clients may be cached for, and the files that those beyond the first take: an eighth
/// of `files` at most.
fn readers(files: usize, settings: &Settings) -> (usize, usize) {
    let of_one = match settings.resp_coherence.filter(|_| settings.resp.is_some()) {
        None => return (1, 0),
        Some(Mode::Ttl) => settings.workers * FILES_A_READER,
        Some(_) => settings.coherence.links * FILES_A_LINK,
    };
    readers_of(files, nodes(settings) * of_one)
}

fn readers_of(files: usize, of_one: usize) -> (usize, usize) {
    let others = (files / 8 / of_one.max(1)).min(Partition::COUNT - 1);
    (1 + others, others * of_one)
}

/// The files that are left for clients, those who wait among them.
fn room_for_clients(files: usize, workers: usize) -> usize {
    files.saturating_sub(OTHERS + MOST_REFUSALS + MOST_FAREWELLS + workers * FILES_A_WORKER).max(2)
}

/// MAX_CLIENTS and MAX_WAITING as `files` allow them, lowered with a warning.
fn fit_clients(files: usize, workers: usize, max_clients: usize, max_waiting: usize) -> (usize, usize) {
    let room = room_for_clients(files, workers);
    if max_clients.saturating_add(max_waiting) <= room {
        return (max_clients, max_waiting);
    }
    let waiting = max_waiting.min(room / 8);
    let clients = max_clients.min(room - waiting);
    if clients < max_clients {
        warn!(
            asked = max_clients,
            max_clients = clients,
            files,
            "MAX_CLIENTS lowered to the limit of open files"
        );
    }
    if waiting < max_waiting {
        warn!(
            asked = max_waiting,
            max_waiting = waiting,
            files,
            "MAX_WAITING lowered to the limit of open files"
        );
    }
    (clients, waiting)
}

#[cfg(test)]
mod tests {
    use super::{fit_clients, fit_links, readers_of};

    #[test]
    fn readers_beside_the_first_take_an_eighth_of_the_files_at_most() {
        assert_eq!(readers_of(20_000, 10), (64, 630));
        assert_eq!(readers_of(1_024, 10), (13, 120));
        assert_eq!(readers_of(50, 10), (1, 0));
        assert_eq!(readers_of(usize::MAX, 4), (64, 252));
    }

    #[test]
    fn connections_to_redis_leave_most_files_to_clients() {
        assert_eq!(fit_links(20_000, 1_000, 200), (1_000, 200));
        assert_eq!(fit_links(1_024, 1_000, 200), (128, 128));
        assert_eq!(fit_links(0, 1_000, 200), (0, 1));
    }

    #[test]
    fn clients_and_waiting_fit_the_files() {
        assert_eq!(fit_clients(20_000, 2, 10_000, 1_024), (10_000, 1_024));
        assert_eq!(fit_clients(usize::MAX, 2, 10_000, 1_024), (10_000, 1_024));
        let (clients, waiting) = fit_clients(1_024, 2, 10_000, 1_024);
        assert!(clients + waiting <= 1_024 - 396, "{clients} + {waiting}");
        assert!(clients >= 500 && waiting >= 64);
        let (clients, _) = fit_clients(0, 64, 10, 10);
        assert!(clients >= 1);
    }
}
