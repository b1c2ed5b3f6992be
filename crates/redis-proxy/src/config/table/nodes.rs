//! Settings of nodes that may be elsewhere tomorrow.

use super::{DAY, SECOND, Section, row};
use crate::config::redis_url::{REDIS_PORT, SENTINEL_PORT};
use crate::config::value::SettingKind;

/// They stand behind those of Redis.
pub(super) const SECTION: Section = Section {
    title: "Redis that moves",
    settings: &[
        row(
            "REDIS_SENTINELS",
            SettingKind::Addresses { default_port: SENTINEL_PORT },
            "",
            "The sentinels that say where Redis is; goes with REDIS_MASTER_NAME.",
        ),
        row("REDIS_MASTER_NAME", SettingKind::Text, "", "What the sentinels call the primary."),
        row(
            "REDIS_SENTINEL_USERNAME",
            SettingKind::Text,
            "",
            "The sentinels' ACL user; without it their `default` user.",
        ),
        row(
            "REDIS_SENTINEL_PASSWORD",
            SettingKind::Password,
            "",
            "The sentinels' password; without it no AUTH is sent to them.",
        ),
        row(
            "REDIS_SENTINEL_PASSWORD_FILE",
            SettingKind::File,
            "",
            "A file that holds REDIS_SENTINEL_PASSWORD.",
        ),
        row(
            "REDIS_SENTINEL_TLS",
            SettingKind::Switch { auto: false },
            "",
            "Talk TLS to the sentinels. Any other REDIS_SENTINEL_TLS_ setting switches it on as well.",
        ),
        row(
            "REDIS_SENTINEL_TLS_CA",
            SettingKind::File,
            "",
            "PEM file of the authorities to trust for them instead of the system's.",
        ),
        row(
            "REDIS_SENTINEL_TLS_CERT",
            SettingKind::File,
            "",
            "PEM file of the client's certificate chain for them.",
        ),
        row(
            "REDIS_SENTINEL_TLS_KEY",
            SettingKind::File,
            "",
            "PEM file of the client's private key for them.",
        ),
        row(
            "REDIS_SENTINEL_TLS_SERVER_NAME",
            SettingKind::Text,
            "",
            "The name that their certificates must carry, where it is not the host.",
        ),
        row(
            "REDIS_CLUSTER",
            SettingKind::Addresses { default_port: REDIS_PORT },
            "",
            "Nodes of a Redis Cluster, one of which suffices: they tell of the others.",
        ),
        row(
            "REDIS_ADDRESS_MAP",
            SettingKind::AddressMap,
            "",
            "Where nodes are reached, where that is not the address that sentinels, a cluster or Redis itself tell: \
             `10.0.0.1:6379=db.example:7001,...`.",
        ),
        row(
            "REDIS_WITNESSES",
            SettingKind::OneOf(&["auto", "off"]),
            "auto",
            "Whether replicas are asked if they have become the primary, which is known sooner so: `auto`, where there are \
             replicas and a promise rests on it.",
        ),
        row(
            "REDIS_REAUTH",
            SettingKind::Time { min: SECOND, max: DAY, word: Some("off") },
            "off",
            "How often connections that are open log in again, with the password of that moment, as the user of \
             REDIS_USERNAME; for passwords that end.",
        ),
    ],
};
