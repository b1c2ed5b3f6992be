//! `--print-config`: every setting as it is and where it comes from.

use std::fmt::Write;

use super::error::quoted;
use super::sources::Values;
use super::{PASSWORD_COMMAND, Settings};

/// Every setting with its value and where that comes from, secrets masked.
pub(super) fn values(values: &Values, settings: &Settings) -> String {
    let mut rows: Vec<(String, String)> = Vec::new();
    for (setting, given) in values.iter() {
        let name = setting.name;
        rows.push(match given {
            Some(given) => {
                let text = setting.accepts.show(&given.value);
                let origin = match given.name == name {
                    true => given.origin.to_string(),
                    false if given.name == PASSWORD_COMMAND => {
                        format!("printed by {}, {}", given.name, given.origin)
                    }
                    false => format!("the file of {}, {}", given.name, given.origin),
                };
                (format!("{name} = {}", literal(&text)), origin)
            }
            None if setting.default.is_empty() => (format!("# {name}"), "not set".into()),
            None => {
                let value = values.value(name);
                let origin = match values.injected.contains(&name) {
                    true => "default; the environment's is of a Kubernetes service",
                    false => "default",
                };
                (format!("{name} = {}", literal(&setting.accepts.show(&value))), origin.into())
            }
        });
    }
    let width =
        rows.iter().map(|(row, _)| row.chars().count()).filter(|width| *width < 60).max().unwrap_or(0);
    let mut text = String::new();
    for (row, origin) in rows {
        let _ = writeln!(text, "{row:width$}  # {origin}");
    }
    let _ = writeln!(text, "# So WORKERS is {}, and Redis is {}.", settings.workers, place(settings));
    text
}

fn place(settings: &Settings) -> String {
    if settings.with_redis {
        return "one of our own".into();
    }
    let redis = &settings.redis;
    let tls = if redis.tls.is_some() { "with TLS" } else { "without TLS" };
    let login = match (&redis.login.username, &redis.login.password) {
        (Some(user), Some(_)) => format!("as user {}", quoted(user)),
        (_, Some(_)) => "with a password".into(),
        _ => "without login".into(),
    };
    format!("{}, database {}, {tls}, {login}", settings.nodes.place(redis), redis.db)
}

/// A number as it is, anything else in quotes.
fn literal(text: &str) -> String {
    match text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        true => text.into(),
        false => format!("{text:?}"),
    }
}
