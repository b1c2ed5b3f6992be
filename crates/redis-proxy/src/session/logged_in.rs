//! What follows for a client once Redis has taken its credentials, or what it wants to speak.

use super::hello::hello_reply;
use super::login::{HelloOptions, Login, Stay};
use super::reply::{error, simple};
use super::ways::Ways;
use crate::lanes::HelloReply;

impl Login {
    /// Sends the credentials along the client's own connection. False if it has none.
    pub(super) fn ask(&self, ways: &mut Ways) -> bool {
        let words: &[&[u8]] = match (self.identity.login(), &self.hello) {
            (None, _) => return ways.pin.is_held(),
            (Some((Some(user), password)), Some(hello)) => {
                &[b"HELLO", hello.version(), b"AUTH", user, password]
            }
            (Some((Some(user), password)), None) => &[b"AUTH", user, password],
            (Some((None, password)), _) => &[b"AUTH", password],
        };
        ways.ask_grant(words)
    }

    /// Redis has taken them there.
    pub(super) fn taken(&self, stay: Stay, ways: &mut Ways) {
        if stay == Stay::Always {
            ways.pin.keep();
        }
        ways.client.log_in(self.identity.clone(), self.user.clone());
        match &self.hello {
            Some(hello) => hello.taken(ways),
            None => {
                ways.say(&simple("OK"));
                ways.key_changed();
            }
        }
    }
}

impl HelloOptions {
    /// Redis has taken the HELLO on the client's own connection.
    pub(super) fn taken(&self, ways: &mut Ways) {
        if let Some(facts) = ways.pin.pinned.as_ref().map(|pinned| pinned.stream.facts.clone()) {
            self.greet(&facts, ways);
        }
        ways.key_changed();
    }

    /// HELLO succeeds, if Redis says of itself what its reply must say.
    pub(super) fn greet(&self, facts: &HelloReply, ways: &mut Ways) {
        let pairs = match &facts.hello {
            Ok(pairs) => pairs,
            Err(text) => return ways.say(&error(text.clone())),
        };
        if let Some(name) = &self.name {
            ways.client.rename(name.clone());
        }
        if self.protocol != ways.client.key.protocol {
            ways.client.speak(self.protocol);
            ways.key_changed();
        }
        let (id, disguise) = (ways.client.entry.id, ways.sessions.disguise);
        ways.say(&hello_reply(pairs, self.protocol, id, disguise));
    }
}
