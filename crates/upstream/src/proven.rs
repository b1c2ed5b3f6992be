//! Passwords that clients have proven for one user, for connections that act as that user.

use sync::Mutex;

use crate::endpoint::Secret;

/// So many are remembered: those proven last.
const MOST: usize = 8;

/// The passwords of one user, the one proven last first; of a user that needs none, `None`.
#[derive(Debug, Default)]
pub struct Proven(Mutex<Vec<(u64, Option<Secret>)>>);

impl Proven {
    /// A client has proven `password` at that time.
    pub fn add(&self, password: Option<Secret>, at_ns: u64) {
        let mut proven = self.0.lock();
        let before = proven.iter().position(|(_, known)| *known == password).map(|at| proven.remove(at).0);
        let at_ns = before.map_or(at_ns, |before| before.max(at_ns));
        let place = proven.iter().position(|(older, _)| *older <= at_ns).unwrap_or(proven.len());
        proven.insert(place, (at_ns, password));
        proven.truncate(MOST);
    }

    /// The one to log in with.
    pub(crate) fn first(&self) -> Option<Secret> {
        self.0.lock().first().and_then(|(_, password)| password.clone())
    }

    /// The one proven before `refused`, which Redis has turned down; no more if there is none.
    pub(crate) fn next(&self, refused: Option<&Secret>) -> Option<Option<Secret>> {
        let proven = self.0.lock();
        let at = proven.iter().position(|(_, known)| known.as_ref() == refused)?;
        proven.get(at + 1).map(|(_, password)| password.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Option<Secret> {
        Some(Secret::new(text))
    }

    #[test]
    fn the_one_proven_last_is_first_and_the_others_follow() {
        let proven = Proven::default();
        assert_eq!(proven.first(), None);
        proven.add(secret("one"), 1);
        proven.add(None, 2);
        proven.add(secret("three"), 3);
        // A session that began earlier.
        proven.add(secret("one"), 1);
        assert_eq!(proven.first(), secret("three"));
        assert_eq!(proven.next(secret("three").as_ref()), Some(None));
        assert_eq!(proven.next(None), Some(secret("one")));
        assert_eq!(proven.next(secret("one").as_ref()), None);
        proven.add(secret("one"), 4);
        assert_eq!(proven.first(), secret("one"));
        (5..99).for_each(|at| proven.add(secret(&at.to_string()), at));
        assert_eq!((proven.first(), proven.0.lock().len()), (secret("98"), MOST));
    }
}
