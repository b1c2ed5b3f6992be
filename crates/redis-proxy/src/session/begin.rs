//! What a read begins with: each of its keys is asked for.

use std::hash::BuildHasher;

use command::Read;
use resp::{Arguments, Protocol};

use super::answers::accepts;
use super::client_state::ClientState;
use super::parts::{Part, fetches, keys, question};
use super::pending::{Begun, State};
use super::reading::Reading;
use crate::readthrough::{Accepts, Question, ReadOptions, ReadOutcome, ReadThrough};

impl Reading {
    /// Asks for all keys of a read. What others have brought answers it only once its user is known to have a right to it.
    pub(super) fn begin(
        &mut self,
        reader: &ReadThrough,
        read: Read,
        arguments: Arguments<'_>,
        client: &ClientState,
        arrived_ns: u64,
        now_ns: u64,
    ) -> Begun {
        let may = self.may(read, client, now_ns);
        let asking = if may { None } else { Some(self.rights(client).asking(now_ns)) };
        let (parts, state) = match read {
            Read::Mget if self.rights(client).is_get_refused(now_ns) => (Vec::new(), State::ToLane),
            // It is made of GETs, never of what it has brought itself. One of a single key may as well go as it is.
            Read::Mget if !may => {
                let is_made = arguments.len() > 2 && keys(read, arguments).all(|key| reader.fetches(key));
                (Vec::new(), if is_made { State::ToProve } else { State::ToLane })
            }
            _ if !may && self.is_told(reader, read, arguments, client, now_ns) => {
                (Vec::new(), State::ToProve)
            }
            _ => {
                let accepts = if may { accepts(read) } else { Accepts::Nothing };
                let protocol = client.key.protocol;
                let asked = |key: &[u8]| self.asked(key, arrived_ns, now_ns);
                let parts = self.parts(reader, read, arguments, protocol, accepts, asked);
                parts.map_or((Vec::new(), State::ToLane), |parts| (parts, State::Asked))
            }
        };
        Begun { parts, state, asking }
    }

    /// What is known of each key of a read, or will be; `None` if not even that.
    fn parts(
        &self,
        reader: &ReadThrough,
        read: Read,
        arguments: Arguments<'_>,
        protocol: Protocol,
        accepts: Accepts,
        asked: impl Fn(&[u8]) -> ReadOptions,
    ) -> Option<Vec<Part>> {
        let mut parts = Vec::new();
        let mut words = self.sessions.words.borrow_mut();
        let mut waits = false;
        let mut seen = 0;
        for (at, key) in keys(read, arguments).enumerate() {
            if at == seen && read == Read::Mget && reader.is_worth_looking_ahead() {
                seen += reader.look_ahead(keys(read, arguments).skip(at));
            }
            if waits {
                let hash = self.sessions.hasher.hash_one(key);
                let is_same = |(at, part): (usize, &Part)| {
                    matches!(part, Part::Waiting(_, other) if *other == hash)
                        && arguments.get(at + 1) == Some(key)
                };
                if let Some(first) = parts.iter().enumerate().position(is_same) {
                    parts.push(Part::As(first));
                    continue;
                }
            }
            let question = match read {
                Read::Mget => Question::value(key),
                _ => question(read, arguments, protocol, accepts, &mut words),
            };
            let found = match fetches(read, reader) {
                true => reader.ask_or_pass(question, asked(key)),
                false => reader.held(question, asked(key)).map(ReadOutcome::Hit),
            };
            parts.push(match found? {
                ReadOutcome::Hit(entry) => Part::Here(entry),
                ReadOutcome::Wait(waiting) => {
                    waits = true;
                    Part::Waiting(Box::new(waiting), self.sessions.hasher.hash_one(key))
                }
            });
        }
        Some(parts)
    }
}
