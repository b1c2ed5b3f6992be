//! What operators ask a running program from a shell: `redis-proxy get`, `purge`, `stats`, `health` and `top`.
//!
//! Like any other client it knows of the program its ports alone, by [`ServerUrl`]: HTTP/1.1 over TCP, TLS or a unix socket. Tokens come from
//! whoever calls, never from the command line, which everybody on a machine can read. What a server says is not trusted: it is
//! shown with its control characters escaped, and what is kept of it has a limit.
//!
//! Scripts go by the exit code, [`CliError::exit_code`].

mod client;
mod command;
mod error;
mod figures;
mod insight;
mod printable;
mod server_url;
mod tls;
mod token;
mod top;

use std::io::Write;

use hyper::{Method, StatusCode};
use tokio::runtime::Builder;

use client::{Inquiry, ServerClient};
pub use command::{CliOptions, PurgeTarget, Subcommand, commands};
pub use error::CliError;
use insight::ProgramState;
pub use server_url::ServerUrl;
pub use token::BearerToken;

/// The longest answer that is kept in memory; a value is not, it is handed on as it comes.
const MOST_ANSWER_BYTES: usize = 16 << 20;

/// Does what `options` ask for and writes what comes of it to `out`. Takes as long as the server answers, and a silence of
/// [`CliOptions::timeout`] at most.
///
/// # Errors
/// [`CliError`], by what a script can do about it. That nobody reads `out` any more is none.
pub fn run(options: &CliOptions, out: &mut dyn Write) -> Result<(), CliError> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(CliError::Output)?;
    let client = ServerClient::new(options)?;
    match runtime.block_on(perform(&options.subcommand, client, out)) {
        // Whoever reads has seen enough, as `head` has.
        Err(CliError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        ended => ended,
    }
}

async fn perform(subcommand: &Subcommand, client: ServerClient, out: &mut dyn Write) -> Result<(), CliError> {
    match subcommand {
        Subcommand::Get { key } => get(&client, key, out).await,
        Subcommand::Purge(target) => {
            let request = Inquiry { method: Method::POST, target: "/purge", body: target.form() };
            let answer = client.ask(request).await?.text(MOST_ANSWER_BYTES).await?;
            write(out, own_lines(&answer, "purged")?.as_bytes())
        }
        Subcommand::Health => {
            let answer = client.ask(Inquiry::get("/readyz")).await;
            let answer = answer.map_err(CliError::when_not_ready)?.text(MOST_ANSWER_BYTES).await?;
            write(out, own_lines(&answer, "ready")?.as_bytes())
        }
        Subcommand::Top => top::show(client).await,
        Subcommand::Stats { json } => {
            let answer = client.ask(Inquiry::get(INSIGHT)).await?.text(MOST_ANSWER_BYTES).await?;
            let state = ProgramState::parse(&answer).map_err(CliError::Unreachable)?;
            let text = match json {
                true => answer.trim_end().to_owned() + "\n",
                false => figures::table(&state),
            };
            write(out, text.as_bytes())
        }
    }
}

/// Where the admin port tells of everything that is counted.
const INSIGHT: &str = "/insight.json";

/// The value as it is: no line end behind it, whatever is in it.
async fn get(client: &ServerClient, key: &[u8], out: &mut dyn Write) -> Result<(), CliError> {
    let target = server_url::target_of(key);
    let answer = client.answer(Inquiry::get(&target)).await?;
    let is_missing = answer.status == StatusCode::NOT_FOUND;
    if (is_missing || answer.status.is_success()) && !answer.is_about_key {
        let status = answer.status.as_u16();
        let why = format!("the answer is {status} without our Cache-Status: is this the data port?");
        return Err(CliError::Unreachable(why));
    }
    if is_missing {
        return Err(CliError::Negative(format!("no such key: {}", printable::line(key))));
    }
    let mut answer = answer.of_success().await?;
    while let Some(part) = answer.part().await? {
        out.write_all(&part).map_err(CliError::Output)?;
    }
    out.flush().map_err(CliError::Output)
}

/// The lines of an answer of the admin port, which begins with this word, whatever follows.
fn own_lines(answer: &str, word: &str) -> Result<String, CliError> {
    match answer.starts_with(word) {
        true => Ok(printable::lines(answer)),
        false => Err(CliError::Unreachable(format!("the answer is not `{word}`: is this the admin port?"))),
    }
}

fn write(out: &mut dyn Write, bytes: &[u8]) -> Result<(), CliError> {
    out.write_all(bytes).and_then(|()| out.flush()).map_err(CliError::Output)
}
