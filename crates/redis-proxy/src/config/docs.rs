//! `docs/configuration.md` and `.env.example`, made from the table; the tests keep them so.
//!
//! After a change of the table: `UPDATE_DOCS=1 cargo test -p redis-proxy config`.

use std::fmt::Write;
use std::path::Path;

use super::table::{self, Setting};
use super::value::SettingKind;
use crate::live::LiveSettings;
use crate::reload::{CREDENTIALS, PASSWORD};

const INTRODUCTION: &str = "\
# Configuration

<!-- Made from the table in crates/redis-proxy/src/config/table.rs. Change that, then run
     UPDATE_DOCS=1 cargo test -p redis-proxy config -->

Every setting has one name and three places, the first of which wins:

1. a flag: `CAPACITY` is `--capacity 5000`;
2. an environment variable: `CAPACITY=5000` (an empty one, `CAPACITY=`, is as if it were not set);
3. the file of `--config settings.toml`: `capacity = 5000` at top level, numbers and texts alike.

`redis-proxy --check-config` checks all of it, the files that are named included, and ends; `--print-config` prints every
setting with the place it comes from, secrets masked. A setting that is not accepted ends the program with code 2
and one line that names it, its value and what is accepted. So does a flag or a key of the file that does not exist.

- **Times** are `500ms`, `5s`, `1m30s`, `1h`, `7d`; a bare number is seconds, and may have a fraction: `0.5`.
- **Sizes** are bytes, or `64KiB`, `1MiB`, `2GiB`; `k`, `kB`, `MB` count in thousands: `64k` is 64000.
- **Switches** are `on` or `off`; `true`, `yes`, `1` and `false`, `no`, `0` mean the same. A flag alone is `on`.
- **SIGHUP**: whether another value is taken over while the program runs. docs/operations.md has how, and why not.
";

const RULES: &str = "
## Which Redis

The address is given in parts (`REDIS_HOST`, `REDIS_PORT`, `REDIS_USERNAME`, `REDIS_PASSWORD`, `REDIS_DB`) or as one
`REDIS_URL`; a URL and a part together end the program, and the line names both.

- URLs: `redis://host`, `redis://:password@host:6379/2`, `redis://user:password@[::1]:6379?db=2`, `rediss://host` with
  TLS, `unix:///run/redis.sock?db=2`, `unix://:password@/run/redis.sock`. User and password are percent-encoded: `@` is `%40`,
  `/` is `%2F`, `#` is `%23`.
- TLS: `rediss://`; or, with parts, `REDIS_TLS=on` or any of `REDIS_TLS_CA`, `_CERT`, `_KEY`, `_SERVER_NAME`. These go with
  `rediss://` too, and not with `redis://` or `unix://`. `REDIS_TLS_CERT` and `REDIS_TLS_KEY` go together.
- A user without a password is an error, since no AUTH could be sent for it, unless a command prints one.
- `WITH_REDIS=on`, or `--with-redis`, starts a Redis of our own: an address, a login or TLS beside it is an error that names both.
  `auto`, which `make run` uses, starts one only where none of these is set.

### Sentinels

Where Redis stands behind Sentinel, `REDIS_SENTINELS=h1:26379,h2` and `REDIS_MASTER_NAME=mymaster` take the place of host and port, or
in one `REDIS_URL=redis+sentinel://user:password@h1:26379,h2/mymaster/0`; `rediss+sentinel://` is TLS to Redis. One or two
sentinels suffice: they tell of the others.

- `REDIS_USERNAME`, `REDIS_PASSWORD`, `REDIS_DB`, `REDIS_TLS` and all `REDIS_TLS_` settings are Redis' own, and so are user, password
  and database of the URL. What sentinels want to know is in `REDIS_SENTINEL_USERNAME`, `REDIS_SENTINEL_PASSWORD` and
  `REDIS_SENTINEL_TLS`; none of it is taken from Redis' own. Without sentinels these are an error.
- `REDIS_SENTINELS` with `REDIS_URL`, `REDIS_HOST`, `REDIS_PORT` or `WITH_REDIS=on` ends the program, and the line names both.
  `REDIS_MASTER_NAME` and `REDIS_SENTINELS` go together.
- `REDIS_ADDRESS_MAP=10.0.0.1:6379=db.example:7001` says where a node is reached that announces itself as `10.0.0.1:6379`: behind a NAT, or
  from outside of a container network.

### Cluster

Where Redis is a cluster, `REDIS_CLUSTER=h1:6379,h2` takes the place of host and port, or in one
`REDIS_URL=redis+cluster://user:password@h1:6379,h2/0`; `rediss+cluster://` is TLS to all nodes. One or two nodes suffice: they tell
of the others. User, password, database and TLS are the same at all of them.

- `REDIS_CLUSTER` with `REDIS_URL`, `REDIS_HOST`, `REDIS_PORT`, `REDIS_SENTINELS`, `REDIS_MASTER_NAME` or `WITH_REDIS=on` ends the
  program, and the line names both.
- `REDIS_ADDRESS_MAP` goes with it as with sentinels.

### Secrets

`REDIS_PASSWORD`, `REDIS_SENTINEL_PASSWORD`, `READ_TOKEN`, `ADMIN_TOKEN` and `REDIS_URL` are never printed or logged; of a URL the part before the `@` is masked. Better
than in the environment they are in a file, named by the same name with `_FILE`: one line end at its end is not part of
the secret. The secret and its file together are an error. A flag is the worst place: everybody on the machine can read it.

`REDIS_PASSWORD_COMMAND=get-token --user cache` is a program that prints the password as its first line: one that asks a vault, or makes a
token that ends. It is split into words as a shell does it, with quotes and backslashes, and run without a shell, with the environment of
this program and nothing to read; what it writes to standard error is passed over. It has 5s, then it is killed with all that it has started; one
that fails, or prints more than 64KiB, gives no password. It is run at the start, where that is an error with code 2, and for each attempt to
connect, one run at a time; attempts within a second share one. While it runs for more than half of `REDIS_CONNECT_TIMEOUT`, or
fails, the last password is used, which is logged once. `--check-config` and `--print-config` run it, `--check-health` does not. With
`REDIS_PASSWORD`, its file, or a password in the URL it is an error; a user may stand in the URL alone then: `redis://user@host`. Of its
words none but the first is shown.

### Kubernetes

Beside a service named `redis`, Kubernetes sets `REDIS_PORT=tcp://10.0.0.1:6379` in every pod. Host and port are taken
from it; where `REDIS_HOST` is set, the port only. As it is nobody's choice it never conflicts: `REDIS_URL`, `REDIS_SENTINELS`, `REDIS_CLUSTER`
and `WITH_REDIS=on` win over it silently, `WITH_REDIS=auto` takes it for an address. Beside services named `admin` or `resp` it sets `ADMIN_PORT` and
`RESP_PORT` likewise, which are ports of ours: such a text is ignored there, with a line in the log.

## From the Flask ancestor

| there | here |
| --- | --- |
| `FLASK_RUN_HOST` | `HOST` |
| `FLASK_RUN_PORT` | `PORT` |
| `FLASK_DEBUG=1` | `LOG=debug`; there is no reloader and no debugger, and nothing a client sees changes |

The old names are not read.
";

fn documentation() -> String {
    let mut text = String::from(INTRODUCTION);
    for section in table::SECTIONS {
        let _ = writeln!(text, "\n## {}\n", section.title);
        text.push_str(
            "| setting | default | accepts | SIGHUP | what it is |\n| --- | --- | --- | --- | --- |\n",
        );
        for setting in section.settings {
            let _ = writeln!(text, "{}", table_row(setting));
        }
    }
    text.push_str(RULES);
    text
}

fn table_row(setting: &Setting) -> String {
    let default = match setting.default {
        "" => "not set".to_owned(),
        default => format!("`{default}`"),
    };
    let accepts = match setting.accepts {
        SettingKind::Url => "a URL, as below".to_owned(),
        SettingKind::Addresses { .. } | SettingKind::AddressMap => setting.accepts.unit().to_lowercase(),
        // What a time and a size look like is said once, above.
        SettingKind::Time { .. } | SettingKind::Bytes { .. } => without_example(&setting.accepts.expected()),
        _ => setting.accepts.expected(),
    };
    let reload = if is_taken_over(setting.name) { "yes" } else { "no" };
    format!("| `{}` | {default} | {accepts} | {reload} | {} |", setting.name, setting.doc)
}

/// Whether a reload takes it over: what is in its place, or what is in the file that it names.
fn is_taken_over(name: &str) -> bool {
    LiveSettings::NAMES.contains(&name) || CREDENTIALS.contains(&name) || name == PASSWORD
}

fn without_example(expected: &str) -> String {
    let end = expected.find(", such as").unwrap_or(expected.len());
    let word = expected.rfind(" or \"").filter(|_| expected.ends_with('"')).map_or("", |at| &expected[at..]);
    format!("{}{word}", &expected[..end])
}

fn env_example() -> String {
    let mut text = String::from(
        "# Settings for `make run`: copy to .env and take the # off what you change.\n\
         # KEY=VALUE lines, taken as they are, without a shell. The environment wins over this file.\n\
         # Made from the settings table; docs/configuration.md says what each one is.\n",
    );
    for section in table::SECTIONS {
        let _ = writeln!(text, "\n# {}", section.title);
        for setting in section.settings {
            let _ = writeln!(text, "#{}={}", setting.name, setting.default);
        }
    }
    text
}

/// Compares the file at `path` in the repository with `text`, or with UPDATE_DOCS=1 writes it.
fn keep(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return std::fs::write(&path, text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "{} is stale: UPDATE_DOCS=1 cargo test -p redis-proxy config", path.display());
}

#[test]
fn the_reference_page_is_that_of_the_table() {
    keep("docs/configuration.md", &documentation());
}

#[test]
fn the_env_example_is_that_of_the_table() {
    keep(".env.example", &env_example());
}
