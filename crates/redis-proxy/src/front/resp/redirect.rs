//! CLIENT TRACKING with REDIRECT on its way to Redis: with its number of the client in the place of ours.

use bytes::BytesMut;
use resp::{Arguments, encode_command};

use super::connection::{Busy, Connection};
use crate::session::tracking::{NOBODY, Redirect, Target, Told, redirected};

impl Connection {
    /// CLIENT TRACKING ON, with the number of Redis in the place of ours.
    pub(super) fn redirect(&mut self, arguments: Arguments<'_>) -> Told {
        let Some((at, own)) = redirected(arguments) else {
            return Told::Plain;
        };
        let target = self.registry().get(own).map(|entry| match self.take_target() {
            Some(target) if target.entry().id == own => target,
            _ => Target::new(entry),
        });
        let upstream = target.as_ref().map(|target| target.entry().upstream_id());
        let redirect = match (target, upstream.flatten()) {
            (Some(target), None) => {
                self.wait_for(Busy::Redirect(target));
                return Told::Wait;
            }
            (Some(target), Some(upstream)) => Some((Redirect { own, upstream }, target)),
            (None, _) => None,
        };
        let theirs = redirect.as_ref().map_or(NOBODY, |(redirect, _)| redirect.upstream).to_string();
        let mut words: Vec<&[u8]> = arguments.iter().collect();
        words[at] = theirs.as_bytes();
        let mut bytes = BytesMut::new();
        encode_command(&mut bytes, &words);
        Told::Translated(bytes, redirect)
    }

    /// CLIENT TRACKING OFF with REDIRECT: Redis looks whether there is such a client, and does nothing with it. So it need
    /// not be named if there is. `None` if the request goes as it is.
    pub(super) fn redirect_off(&self, arguments: Arguments<'_>) -> Option<BytesMut> {
        let (at, own) = redirected(arguments)?;
        let mut words: Vec<&[u8]> = arguments.iter().collect();
        let nobody = NOBODY.to_string();
        match self.registry().get(own) {
            Some(_) => drop(words.drain(at - 1..=at)),
            None => words[at] = nobody.as_bytes(),
        }
        let mut bytes = BytesMut::new();
        encode_command(&mut bytes, &words);
        Some(bytes)
    }
}
