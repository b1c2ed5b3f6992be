//! Which of several sentinels is to be believed.
//!
//! Each configuration of a primary has an epoch, which only grows: a failover is agreed on for a new one, and whoever hears of it
//! takes it over (<https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/#configuration-epochs>). The sentinel
//! that leads a failover names the new primary under the new epoch as soon as that has been promoted, seconds before the others.

use std::time::Duration;

use tokio::time::Instant;
use upstream::Address;

/// So long most sentinels must have been at an older epoch before it is gone by: those that did not lead a failover hear of it some
/// seconds later, and while the one that did is away they are the most.
const BELIEVED_AFTER: Duration = Duration::from_secs(30);

/// What one sentinel says of the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opinion {
    /// Where it is, as we reach it.
    pub(super) primary: Address,
    /// The epoch of its configuration.
    pub(super) epoch: u64,
}

/// The opinion that is to be gone by, of those that sentinels have at this moment; `known` of them there are, also such as do not
/// answer. `adopted` is the one that was gone by so far. None if none is better than that.
pub(super) fn agreed<'a>(
    opinions: impl Iterator<Item = &'a Opinion> + Clone,
    known: usize,
    adopted: Option<&Opinion>,
) -> Option<&'a Opinion> {
    let votes = |opinion: &Opinion| opinions.clone().filter(|other| *other == opinion).count();
    let is_adopted = |opinion: &Opinion| adopted.is_some_and(|adopted| adopted.primary == opinion.primary);
    let best = opinions.clone().max_by_key(|opinion| (opinion.epoch, votes(opinion), is_adopted(opinion)))?;
    // Sentinels that were set up anew begin with an epoch of 0; one that was cut off for long has an old one.
    let is_older = adopted.is_some_and(|adopted| best.epoch < adopted.epoch);
    (!is_older || votes(best) * 2 > known).then_some(best)
}

/// An opinion of an older epoch than the one that is gone by, and since when it is the best one there is.
#[derive(Default)]
pub(super) struct Older(Option<(Opinion, Instant)>);

impl Older {
    /// Whether the `best` opinion is to be gone by: at once, or when it has been that for long.
    pub(super) fn is_over(&mut self, best: &Opinion, adopted: Option<&Opinion>, now: Instant) -> bool {
        if adopted.is_none_or(|adopted| best.epoch >= adopted.epoch) {
            self.0 = None;
            return true;
        }
        match &self.0 {
            Some((opinion, since)) if opinion == best => now - *since >= BELIEVED_AFTER,
            _ => {
                self.0 = Some((best.clone(), now));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_epoch_is_believed_after_half_a_minute_and_not_if_it_comes_and_goes() {
        let (mut older, start, adopted) = (Older::default(), Instant::now(), opinion(2, 5));
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(
            older.is_over(&opinion(1, 1), None, start)
                && older.is_over(&opinion(3, 5), Some(&adopted), start)
        );
        assert!(!older.is_over(&opinion(1, 4), Some(&adopted), start));
        assert!(!older.is_over(&opinion(1, 4), Some(&adopted), after(29)));
        assert!(older.is_over(&opinion(2, 5), Some(&adopted), after(29)), "it was heard of again");
        assert!(!older.is_over(&opinion(1, 4), Some(&adopted), after(30)));
        assert!(!older.is_over(&opinion(1, 3), Some(&adopted), after(59)), "another one");
        assert!(!older.is_over(&opinion(1, 3), Some(&adopted), after(88)));
        assert!(older.is_over(&opinion(1, 3), Some(&adopted), after(89)));
    }

    fn opinion(port: u16, epoch: u64) -> Opinion {
        Opinion { primary: Address::Tcp { host: "h".into(), port }, epoch }
    }

    fn agreed_port(opinions: &[Opinion], known: usize, adopted: Option<Opinion>) -> Option<u16> {
        match agreed(opinions.iter(), known, adopted.as_ref())?.primary {
            Address::Tcp { port, .. } => Some(port),
            Address::Unix(_) => None,
        }
    }

    #[test]
    fn the_latest_epoch_is_believed_whoever_has_it() {
        assert_eq!(agreed_port(&[], 3, None), None);
        assert_eq!(
            agreed_port(&[opinion(1, 0), opinion(1, 0), opinion(2, 1)], 3, Some(opinion(1, 0))),
            Some(2)
        );
        assert_eq!(agreed_port(&[opinion(2, 1), opinion(1, 0)], 3, Some(opinion(2, 1))), Some(2));
    }

    #[test]
    fn of_one_epoch_the_most_are_believed_and_then_what_was_believed_before() {
        assert_eq!(
            agreed_port(&[opinion(1, 4), opinion(2, 4), opinion(2, 4)], 3, Some(opinion(1, 4))),
            Some(2)
        );
        for opinions in [[opinion(1, 4), opinion(2, 4)], [opinion(2, 4), opinion(1, 4)]] {
            assert_eq!(agreed_port(&opinions, 3, Some(opinion(1, 4))), Some(1));
            assert_eq!(agreed_port(&opinions, 3, Some(opinion(2, 4))), Some(2));
        }
    }

    #[test]
    fn an_older_epoch_takes_more_than_half_of_all_that_are_known() {
        let adopted = || Some(opinion(2, 5));
        assert_eq!(agreed_port(&[opinion(1, 4)], 3, adopted()), None);
        assert_eq!(agreed_port(&[opinion(1, 0), opinion(1, 0)], 4, adopted()), None);
        assert_eq!(agreed_port(&[opinion(1, 0), opinion(1, 0)], 3, adopted()), Some(1));
        assert_eq!(agreed_port(&[opinion(1, 0), opinion(3, 0)], 3, adopted()), None);
    }
}
