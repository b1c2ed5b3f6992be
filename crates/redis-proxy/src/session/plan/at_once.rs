//! The plan for a GET, which is nearly all that is asked: made once a table of commands, not once a request.

use command::{Commands, Read};
use resp::{RequestLimits, RequestParser};

use super::{Ahead, Call, Holding, LoginState, Plan, ReplyMode, Standing, plan};

/// Whether a GET is what it is in Redis by the commands at hand: then [`reads_at_once`] says what its plan is.
pub(crate) fn gets_are_reads(commands: &Commands, is_live: bool) -> bool {
    let request = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
    let mut parser = RequestParser::new(RequestLimits::REDIS);
    let _ = parser.parse(request);
    let call = Call::new(commands, is_live, parser.arguments(request));
    let (login, replies) = (LoginState::Done, ReplyMode::On);
    let standing = Standing { login, replies, ahead: Ahead::Nothing, holding: Holding::Nothing };
    plan(&call, standing) == Plan::Read(Read::Get)
}

/// Whether the plan for a read of a client that stands so is to read, as it is of nearly all.
#[inline]
pub(crate) fn reads_at_once(standing: Standing) -> bool {
    let Standing { login, replies, ahead: _, holding } = standing;
    login == LoginState::Done && replies == ReplyMode::On && holding == Holding::Nothing
}
