//! TLS on our own ports.

use super::{MILLION, Section, count, row};
use crate::config::value::SettingKind;
use crate::tls::PortName;

pub(super) const SECTION: Section = Section {
    title: "TLS",
    settings: &[
        row(
            "TLS_CERT",
            SettingKind::File,
            "",
            "PEM file of our certificate and those that lead to its authority. With it TLS_PORTS speak TLS, 1.2 or 1.3. The files of \
             these settings are looked at each second; when they have changed and fit, new connections go by them.",
        ),
        row("TLS_KEY", SettingKind::File, "", "PEM file of its private key."),
        row(
            "TLS_PORTS",
            SettingKind::Words(&PortName::WORDS),
            "",
            "The ports that speak TLS and nothing else: `http,resp` unless this says otherwise. A unix socket is always plain.",
        ),
        row(
            "TLS_CLIENT_CA",
            SettingKind::File,
            "",
            "PEM file of authorities. Whoever has no certificate of theirs is not let in to TLS_CLIENT_PORTS.",
        ),
        row(
            "TLS_CLIENT_PORTS",
            SettingKind::Words(&PortName::WORDS),
            "",
            "The ports whose clients must show one: TLS_PORTS but `admin` unless this says otherwise.",
        ),
        row(
            "TLS_HANDSHAKES",
            count(1, MILLION),
            "4",
            "Handshakes that a worker computes in one turn; the others wait, so that those who are connected do not.",
        ),
    ],
};
