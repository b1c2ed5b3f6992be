//! MULTI on a pin: as of the commands sent, and as of the replies, which lag behind.

use super::later::{Executed, Later, Laters};

/// A client's transaction, and the keys that it watches for it.
#[derive(Default)]
pub(crate) struct Transaction {
    /// As of the commands sent: how many since MULTI, if Redis is to queue the next one.
    sent: Option<usize>,
    /// As of the replies.
    state: State,
    watching: bool,
}

#[derive(Default)]
enum State {
    #[default]
    None,
    /// Redis queues commands.
    Open(Queued),
    /// EXEC's reply has begun, and something follows from it.
    Executing(Executed),
}

/// What Redis has queued.
#[derive(Default)]
struct Queued {
    commands: usize,
    laters: Laters,
}

impl Transaction {
    /// MULTI is sent.
    pub(super) fn asks(&mut self) {
        self.sent = Some(0);
    }

    /// EXEC or DISCARD is sent.
    pub(super) fn asks_for_its_end(&mut self) {
        self.sent = None;
    }

    /// Any other command is sent.
    pub(super) fn sends(&mut self) {
        self.sent = self.sent.map(|sent| sent + 1);
    }

    /// Commands sent since MULTI, if Redis is to queue the next one.
    pub(crate) fn sent(&self) -> Option<usize> {
        self.sent
    }

    /// Whether MULTI is sent and Redis has not said yet whether it queues what comes.
    pub(super) fn is_asked(&self) -> bool {
        self.sent.is_some() && !self.is_open()
    }

    /// Whether Redis queues what it answers now.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.state, State::None)
    }

    /// Whether the client could do without the connection.
    pub(super) fn is_none(&self) -> bool {
        self.sent.is_none() && !self.is_open() && !self.watching
    }

    pub(super) fn watches(&mut self) {
        self.watching = true;
    }

    /// As far as replies have told.
    pub(super) fn is_watching(&self) -> bool {
        self.watching
    }

    pub(super) fn unwatches(&mut self) {
        self.watching = false;
    }

    /// Redis has answered MULTI.
    pub(super) fn opens(&mut self) {
        self.state = State::Open(Queued::default());
    }

    /// Redis has queued a command, from which this may follow.
    pub(super) fn queues(&mut self, later: Option<Later>) {
        if let State::Open(queued) = &mut self.state {
            queued.laters.extend(later.map(|later| (queued.commands, later)));
            queued.commands += 1;
        }
    }

    /// EXEC has succeeded, or has failed and ended it; or DISCARD has succeeded. Nothing is watched any more.
    pub(super) fn ends(&mut self) {
        (self.state, self.watching) = (State::None, false);
    }

    /// A reply to EXEC has begun, with `*`. Whether something follows from it, for which it is to be looked into.
    pub(super) fn executes(&mut self) -> bool {
        if let State::Open(queued) = &mut self.state
            && !queued.laters.is_empty()
        {
            self.state = State::Executing(Executed::new(std::mem::take(&mut queued.laters)));
        }
        self.is_executing()
    }

    pub(super) fn is_executing(&self) -> bool {
        matches!(self.state, State::Executing(_))
    }

    /// The reply to EXEC that is looked into.
    pub(super) fn executed(&mut self) -> Option<&mut Executed> {
        match &mut self.state {
            State::Executing(executed) => Some(executed),
            State::None | State::Open(_) => None,
        }
    }

    /// Whether what is queued may be the client's end.
    pub(super) fn may_kill(&self) -> bool {
        match &self.state {
            State::None => false,
            State::Open(queued) => queued.laters.iter().any(|(_, later)| later.may_kill()),
            State::Executing(executed) => executed.may_kill(),
        }
    }

    /// A reply is whole. If all is answered, what is queued is what Redis has said.
    pub(super) fn settles(&mut self, is_answered: bool) {
        if !is_answered {
            return;
        }
        self.sent = match &self.state {
            State::None => None,
            State::Open(queued) => Some(self.sent.unwrap_or(queued.commands)),
            State::Executing(_) => self.sent,
        };
    }
}
