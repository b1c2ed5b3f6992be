//! Whether what the readers saw was allowed: the contract of `docs/coherence.md`, over a model's exact knowledge of when
//! a key had which value.

use super::redis::Reign;

/// One answered read.
#[derive(Clone, Debug)]
pub(super) struct ObservedRead {
    pub(super) key: &'static str,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    pub(super) value: Option<u64>,
    /// How old it may be.
    pub(super) bound_ns: u64,
    pub(super) how: How,
    /// Whether it may have been answered by a primary of before, of which nobody knew that it is none any more: only the value is
    /// judged then.
    pub(super) of_old: bool,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Memory.
    Hit,
    /// Memory, after a wait for its proof.
    Proven,
    /// Somebody else's fetch.
    Joined,
    Fetched,
    /// Redis itself, with no cache in between.
    Past,
}

impl How {
    pub(super) const ALL: [How; 5] = [How::Hit, How::Proven, How::Joined, How::Fetched, How::Past];
}

/// A write that went through the proxy: who reads afterwards sees it.
#[derive(Clone, Debug)]
pub(super) struct OwnWrite {
    pub(super) key: &'static str,
    pub(super) applied_ns: u64,
    pub(super) answered_ns: u64,
}

/// What was true of a key in `[from_ns, to_ns)`.
#[derive(Debug)]
struct Span {
    from_ns: u64,
    to_ns: u64,
    value: Option<u64>,
    deadline_ns: u64,
}

/// Reigns with their deadlines made ends.
fn spans(reigns: &[Reign]) -> Vec<Span> {
    let mut spans = Vec::new();
    for reign in reigns {
        let Reign { from_ns, to_ns, value, deadline_ns } = *reign;
        spans.push(Span { from_ns, to_ns: to_ns.min(deadline_ns), value, deadline_ns });
        if deadline_ns < to_ns {
            spans.push(Span { from_ns: deadline_ns, to_ns, value: None, deadline_ns: u64::MAX });
        }
    }
    spans
}

/// Judges the reads of one key by one reader, in their order.
///
/// # Panics
/// With the rule that was broken.
pub(super) fn judge(reads: &[ObservedRead], own: &[OwnWrite], reigns: &[Reign]) {
    let spans = spans(reigns);
    // The earliest span that the last read can have seen.
    let mut seen = 0;
    for read in reads {
        let oldest_ns = read.start_ns.saturating_sub(read.bound_ns);
        let of_value = |span: &&Span| span.value == read.value;
        let in_time = |span: &Span| span.from_ns <= read.end_ns && span.to_ns > oldest_ns;
        let told = || format!("{read:?}\nof {spans:#?}\namong {reads:#?}");
        let once_was = spans.iter().any(|span| of_value(&span));
        assert!(once_was || read.of_old && read.value.is_none(), "C0: a value that never was: {}", told());
        if read.of_old {
            continue;
        }
        let late = spans.iter().filter(of_value).all(|span| span.deadline_ns <= read.start_ns);
        assert!(read.value.is_none() || !late, "C5: after its deadline: {}", told());
        let fits = spans.iter().enumerate().filter(|(_, span)| of_value(span) && in_time(span));
        let fits: Vec<usize> = fits.map(|(at, _)| at).collect();
        assert!(!fits.is_empty(), "C1: older than {} ns allow: {}", read.bound_ns, told());
        let next = fits.iter().find(|at| **at >= seen);
        assert!(next.is_some(), "C4: older than a read before on its connection: {}", told());
        seen = next.copied().unwrap_or(seen);
        for write in own.iter().filter(|write| write.key == read.key && write.answered_ns <= read.start_ns) {
            let after = fits.iter().any(|at| spans[*at].to_ns > write.applied_ns);
            assert!(after, "C3: older than {write:?}: {}", told());
        }
    }
}
