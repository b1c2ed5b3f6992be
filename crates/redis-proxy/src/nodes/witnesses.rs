//! What witnesses have said of themselves so far, and whether one of them is a primary in the place of ours.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::info;
use upstream::Address;

use super::seen::REPLICA;
use super::witness::Word;

/// At most: whoever lists more of them is not to take all connections.
pub(super) const MOST_WITNESSES: usize = 8;
/// One that nobody lists any more, or that does not answer, is no witness after this long.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// From one line on a silent witness to the next.
const CALM: Duration = Duration::from_secs(5);

/// All that are asked.
#[derive(Default)]
pub(super) struct Witnesses {
    /// By where they are reached.
    asked: BTreeMap<Address, Witness>,
    /// The primary of before, until it says that it is a replica: that it takes itself for a primary is no news.
    former: Option<Address>,
}

struct Witness {
    task: AbortHandle,
    listed_at: Instant,
    word: Option<Word>,
    heard_at: Instant,
    /// When the operator was told that it does not answer.
    told_at: Option<Instant>,
    /// It said that it is a primary, and has taken nothing back; the id of its run, where it tells.
    claim: Option<Option<String>>,
}

impl Witness {
    /// Whether it claims to be the primary whose run has this id: it is that one, by another address.
    fn is_run(&self, run_id: Option<&str>) -> bool {
        run_id.is_some() && self.claim.as_ref().is_some_and(|claimed| claimed.as_deref() == run_id)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Witnesses {
    /// Somebody lists the node at `address`; `ask` begins to ask one that is new. Whether it is a witness: there may be too many.
    pub(super) fn list(
        &mut self,
        address: Address,
        now: Instant,
        ask: impl FnOnce(Address) -> AbortHandle,
    ) -> bool {
        if let Some(witness) = self.asked.get_mut(&address) {
            witness.listed_at = now;
            return true;
        }
        if self.asked.len() >= MOST_WITNESSES {
            return false;
        }
        let task = ask(address.clone());
        let witness = Witness { task, listed_at: now, word: None, heard_at: now, told_at: None, claim: None };
        self.asked.insert(address, witness);
        true
    }

    /// What the witness at `address` says of itself. Whether that is news.
    pub(super) fn says(&mut self, address: &Address, word: Word, now: Instant) -> bool {
        let Some(witness) = self.asked.get_mut(address) else { return false };
        match &word {
            Word::Replica => witness.claim = None,
            Word::Primary(run_id) => witness.claim = Some(run_id.clone()),
            Word::Silent(_) => {}
        }
        if !matches!(word, Word::Silent(_)) {
            witness.heard_at = now;
        }
        if witness.word.as_ref() == Some(&word) {
            return false;
        }
        if let Word::Silent(why) = &word
            && witness.told_at.is_none_or(|told| now - told > CALM)
        {
            witness.told_at = Some(now);
            info!(node = %address, why, "a witness does not answer");
        }
        if word == Word::Replica && self.former.as_ref() == Some(address) {
            self.former = None;
        }
        witness.word = Some(word);
        true
    }

    /// The primary is at `to` and was at `before`: it is no witness of itself.
    pub(super) fn primary_moved(&mut self, to: &Address, before: Option<Address>) {
        self.former = before;
        self.asked.remove(to);
    }

    /// Those that nobody lists, and claims of those that are gone, are worth nothing after a while. `here` is where the primary is, and
    /// `run_id` that of its run.
    pub(super) fn forget(&mut self, here: Option<&Address>, run_id: Option<&str>, now: Instant) {
        for witness in self.asked.values_mut() {
            if now - witness.heard_at > FORGOTTEN {
                witness.claim = None;
            }
        }
        self.asked.retain(|address, witness| {
            let claims = witness.claim.is_some() && !witness.is_run(run_id);
            (claims || now - witness.listed_at < FORGOTTEN) && Some(address) != here
        });
    }

    /// One that says it is a primary and is not ours, which is `here` and whose run has this id.
    pub(super) fn another_primary(&self, here: Option<&Address>, run_id: Option<&str>) -> Option<&Address> {
        let is_another = |(address, witness): &(&Address, &Witness)| {
            let is_ours = Some(*address) == here || witness.is_run(run_id);
            mutant::witnessed(witness.claim.is_some()) && !is_ours && self.former.as_ref() != Some(*address)
        };
        self.asked.iter().find(is_another).map(|(address, _)| address)
    }

    /// Each with what it said last, for those who report.
    pub(super) fn states(&self) -> Vec<(String, String)> {
        let said = |address: &Address, witness: &Witness| match &witness.word {
            None => "it has not answered yet".to_owned(),
            Some(Word::Replica) => REPLICA.to_owned(),
            Some(Word::Primary(_)) if self.former.as_ref() == Some(address) => "former primary".to_owned(),
            Some(Word::Primary(_)) => "primary".to_owned(),
            Some(Word::Silent(why)) => why.clone(),
        };
        self.asked.iter().map(|(address, witness)| (address.to_string(), said(address, witness))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Address {
        Address::Tcp { host: "h".into(), port }
    }

    fn listed(witnesses: &mut Witnesses, port: u16, now: Instant) -> bool {
        witnesses.list(at(port), now, |_| tokio::spawn(std::future::pending::<()>()).abort_handle())
    }

    fn primary(run_id: &str) -> Word {
        Word::Primary(Some(run_id.to_owned()))
    }

    #[tokio::test]
    async fn a_claim_stands_until_it_is_taken_back() {
        let (mut witnesses, now) = (Witnesses::default(), Instant::now());
        assert!(listed(&mut witnesses, 1, now) && listed(&mut witnesses, 2, now));
        assert!(!witnesses.says(&at(3), primary("c"), now), "it is not asked");
        assert!(witnesses.says(&at(1), Word::Replica, now) && !witnesses.says(&at(1), Word::Replica, now));
        assert_eq!(witnesses.another_primary(Some(&at(9)), Some("z")), None);
        assert!(witnesses.says(&at(2), primary("b"), now));
        assert!(witnesses.says(&at(2), Word::Silent("gone".into()), now));
        assert_eq!(witnesses.another_primary(Some(&at(9)), Some("z")), Some(&at(2)));
        assert!(witnesses.says(&at(2), Word::Replica, now));
        assert_eq!(witnesses.another_primary(Some(&at(9)), Some("z")), None);
    }

    #[tokio::test]
    async fn our_own_primary_and_the_one_before_it_are_no_others() {
        let (mut witnesses, now) = (Witnesses::default(), Instant::now());
        assert!(listed(&mut witnesses, 1, now) && witnesses.says(&at(1), primary("a"), now));
        assert_eq!(witnesses.another_primary(Some(&at(1)), None), None, "by its address");
        assert_eq!(witnesses.another_primary(Some(&at(9)), Some("a")), None, "by its run");
        assert_eq!(witnesses.another_primary(Some(&at(9)), None), Some(&at(1)));
        // One that does not tell its run may be any.
        assert!(witnesses.says(&at(1), Word::Primary(None), now));
        assert_eq!(witnesses.another_primary(Some(&at(9)), None), Some(&at(1)));
        witnesses.primary_moved(&at(9), Some(at(1)));
        assert_eq!(witnesses.another_primary(Some(&at(9)), None), None, "the one before");
        assert!(witnesses.says(&at(1), Word::Replica, now) && witnesses.says(&at(1), primary("a"), now));
        assert_eq!(
            witnesses.another_primary(Some(&at(9)), None),
            Some(&at(1)),
            "it has been a replica since"
        );
        witnesses.primary_moved(&at(1), None);
        assert!(witnesses.states().is_empty(), "it is no witness of itself");
    }

    #[tokio::test]
    async fn what_nobody_lists_is_forgotten_unless_it_claims_to_be_another_primary() {
        let (mut witnesses, start) = (Witnesses::default(), Instant::now());
        assert!((1..=4).all(|port| listed(&mut witnesses, port, start)));
        let now = start + FORGOTTEN;
        assert!(witnesses.says(&at(2), primary("b"), now) && witnesses.says(&at(3), primary("c"), now));
        assert!(listed(&mut witnesses, 4, now));
        witnesses.forget(None, Some("c"), now);
        let asked: Vec<_> = witnesses.states().into_iter().map(|(address, _)| address).collect();
        assert_eq!(asked, ["h:2", "h:4"], "our own primary by another address is none");
        // A claim of one that has said nothing since is worth nothing either.
        witnesses.forget(None, Some("c"), now + FORGOTTEN + CALM);
        assert!(witnesses.states().is_empty());
    }

    #[tokio::test]
    async fn there_are_eight_at_most() {
        let (mut witnesses, now) = (Witnesses::default(), Instant::now());
        assert!((1..=8).all(|port| listed(&mut witnesses, port, now)));
        assert!(!listed(&mut witnesses, 9, now) && listed(&mut witnesses, 8, now));
    }
}
