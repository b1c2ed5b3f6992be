//! Settings of who may ask.

use super::{MILLION, Section, row};
use crate::config::value::SettingKind;

/// They stand behind those of the ports.
pub(super) const SECTION: Section = Section {
    title: "Access",
    settings: &[
        row(
            "ALLOWED_HOSTS",
            SettingKind::Hosts,
            "auto",
            "The names that the data port and the admin port may be called by; another `Host` is 421. `auto`: on a listener of the \
             loopback `localhost` and all IP addresses, so that no page can have its own name lead here; on others all names. `*`: all.",
        ),
        row(
            "MAX_CLIENTS_PER_PEER",
            SettingKind::Count { min: 1, max: MILLION, word: Some("off") },
            "off",
            "The most connections of one address to the data ports; the next ones are refused at once, as where MAX_CLIENTS is reached.",
        ),
        row(
            "READ_TOKEN",
            SettingKind::Password,
            "",
            "The token without which the data port answers 401: `Authorization: Bearer ...`. Without one nobody is asked for it.",
        ),
        row("READ_TOKEN_FILE", SettingKind::File, "", "A file that holds READ_TOKEN."),
        row(
            "READ_TOKENS_FILE",
            SettingKind::File,
            "",
            "A file with a token a line and what it is good for: `token [read|purge|read,purge]`, `read` if nothing else is said. `#` begins \
             a comment.",
        ),
        row(
            "ADMIN_TOKEN",
            SettingKind::Password,
            "",
            "The token without which the admin port answers nothing that names a key or changes anything. Without it that is done where \
             ADMIN_HOST is a loopback address.",
        ),
        row("ADMIN_TOKEN_FILE", SettingKind::File, "", "A file that holds ADMIN_TOKEN."),
        row(
            "CORS_ORIGINS",
            SettingKind::Origins,
            "none",
            "The origins whose pages may read answers of the data port (CORS): `https://a.example,https://b.example`, or `*`, all.",
        ),
    ],
};
