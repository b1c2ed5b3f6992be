//! TLS to Redis, and to its sentinels: one switch and four parts each.

use std::path::PathBuf;

use upstream::Tls;

use super::error::{ConfigError, quoted};
use super::given::Given;
use super::sources::{self, Values};
use super::value::Value;

/// The names of the settings for one of them.
pub(super) struct TlsNames {
    pub(super) switch: &'static str,
    ca: &'static str,
    cert: &'static str,
    key: &'static str,
    server_name: &'static str,
}

/// To Redis.
pub(super) const REDIS: TlsNames = TlsNames {
    switch: "REDIS_TLS",
    ca: "REDIS_TLS_CA",
    cert: "REDIS_TLS_CERT",
    key: "REDIS_TLS_KEY",
    server_name: "REDIS_TLS_SERVER_NAME",
};

/// To sentinels.
pub(super) const SENTINEL: TlsNames = TlsNames {
    switch: "REDIS_SENTINEL_TLS",
    ca: "REDIS_SENTINEL_TLS_CA",
    cert: "REDIS_SENTINEL_TLS_CERT",
    key: "REDIS_SENTINEL_TLS_KEY",
    server_name: "REDIS_SENTINEL_TLS_SERVER_NAME",
};

impl TlsNames {
    /// All but the switch.
    pub(super) fn parts(&self) -> [&'static str; 4] {
        [self.ca, self.cert, self.key, self.server_name]
    }

    /// Whether TLS is wanted: any part switches it on as well.
    ///
    /// # Errors
    /// The switch is off and a part is given.
    pub(super) fn is_wanted(&self, values: &Values) -> Result<bool, ConfigError> {
        let part = self.parts().iter().find_map(|name| values.given(name));
        match (values.given(self.switch), part) {
            (Some(off), Some(part)) if is_off(off) => {
                Err(ConfigError::conflict(off, part, "leave one of them out"))
            }
            (Some(switch), _) => Ok(!is_off(switch)),
            (None, part) => Ok(part.is_some()),
        }
    }

    /// The files and the name.
    pub(super) fn tls(&self, values: &Values) -> Tls {
        let path = |name| values.given_text(name).map(PathBuf::from);
        Tls {
            ca: path(self.ca),
            cert: path(self.cert),
            key: path(self.key),
            server_name: values.given_text(self.server_name).map(String::from),
        }
    }

    /// Certificate and key go together, and every file can be read.
    pub(super) fn check(&self, values: &Values) -> Result<(), ConfigError> {
        for (one, other) in [(self.cert, self.key), (self.key, self.cert)] {
            if let (Some(given), None) = (values.given(one), values.given(other)) {
                return Err(ConfigError::other(format!("{one} ({}) is set without {other}", given.origin)));
            }
        }
        for name in [self.ca, self.cert, self.key] {
            let (Some(given), Some(path)) = (values.given(name), values.given_text(name)) else { continue };
            sources::check_file(path).map_err(|why| {
                let origin = &given.origin;
                ConfigError::other(format!(
                    "{name}={} ({origin}): expected a file that can be read: {why}",
                    quoted(path)
                ))
            })?;
        }
        Ok(())
    }
}

/// Whether a switch that is given says `off`.
pub(super) fn is_off(switch: &Given) -> bool {
    matches!(&switch.value, Value::Text(text) if text == "off")
}
