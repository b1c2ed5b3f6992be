//! What Redis says on a client's own connection, and what follows from it.

use super::pin::{Learned, PinLost};
use super::reply::simple;
use super::ways::Ways;
use crate::clock::now_ns;

impl Ways {
    /// Takes bytes of the pin, up to the end of a reply that tells something: what the client is to see goes to the output. How
    /// many that were, and what they tell. There is a pin.
    ///
    /// # Errors
    /// It is unknown where the next reply starts: the pin is lost.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<(usize, Learned), PinLost> {
        let Some(pinned) = self.pin.pinned.as_mut() else {
            return Ok((bytes.len(), Learned::Nothing));
        };
        let muted = self.out.mailbox.is_muted();
        let received = pinned.receive(bytes, muted, &mut self.out.output.bytes).map_err(|_| PinLost)?;
        self.out.pin_owes(pinned.waiting());
        if let Some(subscriptions) = pinned.state.subscriptions() {
            self.client.note(|details| details.subscriptions = subscriptions);
        }
        Ok(received)
    }

    /// What follows from a reply for the client, but for what waits for it.
    pub(super) fn learn(&mut self, learned: Learned) {
        match learned {
            Learned::Nothing | Learned::Granted(_) | Learned::Begun(_) | Learned::SentOn(..) => {}
            Learned::Selected(db) => self.selected(db),
            Learned::CarriedOut(later) => later.carry_out(self),
            Learned::Tracks(redirect) => self.client.note(|details| details.redirect = redirect),
            Learned::Pause(pause) => self.sessions.registry.pauses.granted(pause, now_ns()),
            Learned::Feed(feed) => self.feed(feed),
            // What else its connection says is not for the client that it has become.
            Learned::Reset => {
                self.become_new();
                self.say(&simple("RESET"));
            }
        }
    }

    /// Lets go of a pin on which nothing is left, and that nothing `is_busy` with. Whether that makes room for requests.
    pub(super) fn let_go(&mut self, is_busy: bool) -> bool {
        let is_wanted = self.client.entry.is_pin_wanted();
        let Some(pinned) = self.pin.pinned.as_mut() else {
            return false;
        };
        if is_wanted {
            pinned.set_aside();
        }
        if self.out.is_ending() && pinned.waiting() == 0 && !pinned.is_tunnel() {
            // Redis is to know before the client does.
            self.unpin(false);
            return false;
        }
        let is_free = pinned.is_free() && !is_busy && !is_wanted && self.client.entry.give_up_pin();
        if is_free {
            self.unpin(true);
        }
        is_free
    }
}
