//! Why what was asked for is not done, by what a script can do about it.

use std::fmt;
use std::io;

use hyper::StatusCode;

/// What was asked for is not done. Displays as one line without secrets or control characters.
#[derive(Debug)]
pub enum CliError {
    /// The program has answered, and the answer is no: there is no such key, it is not ready.
    Negative(String),
    /// What was asked for cannot be asked: an option or a file that it names. Asking again does not help.
    Usage(String),
    /// Nobody answers there, or not in a way that is understood, or cannot at present. Asking again later may help.
    Unreachable(String),
    /// The program does not answer this to us: no token, not a good one, another name. Asking again does not help.
    Refused(String),
    /// The same of an answer whose status says so.
    Status(StatusCode, String),
    /// A signal came, of this number.
    Signalled(u8),
    /// The system's: what came cannot be written, or there is no runtime.
    Output(io::Error),
}

impl CliError {
    /// The code that a script goes by.
    pub fn exit_code(&self) -> u8 {
        match self {
            CliError::Negative(_) => 1,
            CliError::Usage(_) => 2,
            CliError::Unreachable(_) => 3,
            CliError::Refused(_) => 4,
            CliError::Status(status, _) if status.is_client_error() => 4,
            CliError::Status(..) => 3,
            // As shells have it.
            CliError::Signalled(number) => 128 + number,
            // EX_IOERR of sysexits.h.
            CliError::Output(_) => 74,
        }
    }

    /// The status of the answer, if one came.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            CliError::Status(status, _) => Some(*status),
            _ => None,
        }
    }

    /// The same where a 503 is `/readyz`'s answer and not a failure to answer; that of anybody else is one.
    pub(crate) fn when_not_ready(self) -> CliError {
        match self {
            CliError::Status(StatusCode::SERVICE_UNAVAILABLE, words) if words.starts_with("not ready") => {
                CliError::Negative(words)
            }
            other => other,
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CliError::Negative(text)
            | CliError::Usage(text)
            | CliError::Unreachable(text)
            | CliError::Refused(text) => f.write_str(text),
            CliError::Status(status, words) if words.is_empty() => {
                write!(f, "the answer is {}", status.as_u16())
            }
            CliError::Status(status, words) => write!(f, "the answer is {}: {words}", status.as_u16()),
            CliError::Signalled(number) => write!(f, "ended by signal {number}"),
            CliError::Output(error) => write!(f, "standard output: {error}"),
        }
    }
}

impl std::error::Error for CliError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_says_what_a_script_can_do() {
        let of = |status: u16| CliError::Status(StatusCode::from_u16(status).unwrap(), String::new());
        for (error, code) in [
            (of(401), 4),
            (of(403), 4),
            (of(421), 4),
            (of(414), 4),
            (of(301), 3),
            (of(502), 3),
            (of(503), 3),
            (CliError::Status(StatusCode::SERVICE_UNAVAILABLE, "not ready: away".into()).when_not_ready(), 1),
            (of(503).when_not_ready(), 3),
            (of(502).when_not_ready(), 3),
        ] {
            assert_eq!(error.exit_code(), code, "{error:?}");
        }
    }
}
