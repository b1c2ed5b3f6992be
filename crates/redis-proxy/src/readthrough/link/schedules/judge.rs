//! Whether what the readers saw was allowed: the contract of `docs/coherence.md`, over a model's exact knowledge of when
//! a key had which value.

use super::redis::KeyReign;

/// One answered read.
#[derive(Clone, Debug)]
pub(in crate::readthrough) struct ObservedRead {
    pub(in crate::readthrough) key: &'static str,
    pub(in crate::readthrough) start_ns: u64,
    pub(in crate::readthrough) end_ns: u64,
    pub(in crate::readthrough) value: Option<u64>,
    /// How old it may be.
    pub(in crate::readthrough) bound_ns: u64,
    pub(in crate::readthrough) how: ReadHow,
    /// Whether it may have been answered by a primary of before, of which nobody knew that it is none any more: only the value is
    /// judged then.
    pub(in crate::readthrough) of_old: bool,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::readthrough) enum ReadHow {
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

impl ReadHow {
    pub(in crate::readthrough) const ALL: [ReadHow; 5] =
        [ReadHow::Hit, ReadHow::Proven, ReadHow::Joined, ReadHow::Fetched, ReadHow::Past];
}

/// A write that went through the proxy: who reads afterwards sees it.
#[derive(Clone, Debug)]
pub(in crate::readthrough) struct OwnWrite {
    pub(in crate::readthrough) key: &'static str,
    pub(in crate::readthrough) applied_ns: u64,
    pub(in crate::readthrough) answered_ns: u64,
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
fn spans(reigns: &[KeyReign]) -> Vec<Span> {
    let mut spans = Vec::new();
    for reign in reigns {
        let KeyReign { from_ns, to_ns, value, deadline_ns } = *reign;
        spans.push(Span { from_ns, to_ns: to_ns.min(deadline_ns), value, deadline_ns });
        if deadline_ns < to_ns {
            spans.push(Span { from_ns: deadline_ns, to_ns, value: None, deadline_ns: u64::MAX });
        }
    }
    spans
}

/// Judges the reads of one key by one reader, in their order. `words` is what a node said of it that had lost its slot and did not know yet:
/// whoever reads then may be told that, and that alone is judged.
///
/// # Panics
/// With the rule that was broken.
pub(in crate::readthrough) fn judge(
    reads: &[ObservedRead],
    own: &[OwnWrite],
    reigns: &[KeyReign],
    words: &[KeyReign],
) {
    let spans = spans(reigns);
    // The earliest span that the last read can have seen.
    let mut seen = 0;
    for read in reads {
        let oldest_ns = read.start_ns.saturating_sub(read.bound_ns);
        let of_value = |span: &&Span| span.value == read.value;
        let in_time = |span: &Span| span.from_ns <= read.end_ns && span.to_ns > oldest_ns;
        let told = || format!("{read:?}\nof {spans:#?}\nwith {words:?}\namong {reads:#?}");
        let is_word = |word: &KeyReign| {
            word.value == read.value && word.from_ns <= read.end_ns && word.to_ns > oldest_ns
        };
        if words.iter().any(is_word) {
            continue;
        }
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
