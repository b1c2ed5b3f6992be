//! Who may ask, as the settings say it: which names the program is called by ([`AllowedHosts`]), which tokens it takes ([`ReadTokens`],
//! [`AdminToken`]), pages of which origins may read its answers ([`Origins`]). Values alone: the fronts and the admin port judge by them.

mod hosts;
mod origins;
mod tokens;

use std::path::PathBuf;

pub(crate) use self::hosts::AllowedHosts;
pub(crate) use self::origins::Origins;
pub(crate) use self::tokens::{AdminToken, ReadTokens, TokenRights, bearer};

use crate::config::{PipePolicy, SECRET_BYTES, read_file, secret_of};

/// Who may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AccessSettings {
    /// The names of `Host`.
    pub(crate) hosts: AllowedHosts,
    /// Connections of one address to the data ports, at most.
    pub(crate) clients_per_peer: Option<usize>,
    /// Of the data port; none: nobody is asked for one.
    pub(crate) read_tokens: Option<ReadTokens>,
    /// Of the admin port.
    pub(crate) admin_token: Option<AdminToken>,
    /// Whose pages may read answers of the data port.
    pub(crate) origins: Origins,
    /// The files that the tokens were read from.
    pub(crate) read_file: Option<TokenFile>,
    pub(crate) admin_file: Option<TokenFile>,
}

/// A file with a token, or with many, that is read again when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenFile {
    /// The setting that names it.
    name: &'static str,
    path: PathBuf,
}

impl TokenFile {
    /// None of what can be read but once.
    pub(crate) fn new(name: &'static str, path: &str) -> Option<TokenFile> {
        let is_file = std::fs::metadata(path).is_ok_and(|data| data.is_file());
        is_file.then(|| TokenFile { name, path: path.into() })
    }

    /// What `parse` makes of what is in it now. Blocks.
    fn read<T>(&self, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, String> {
        let bytes = read_file(&self.path, SECRET_BYTES, PipePolicy::Refused);
        let parsed = bytes.and_then(|bytes| parse(&secret_of(bytes)?));
        parsed.map_err(|why| format!("{}={:?}: {why}", self.name, self.path))
    }
}

impl AccessSettings {
    /// The files that are taken over when they change, by the settings that name them.
    pub(crate) fn files(&self) -> Vec<(&'static str, PathBuf)> {
        let files = [&self.read_file, &self.admin_file].into_iter().flatten();
        files.map(|file| (file.name, file.path.clone())).collect()
    }

    /// The same, with those files as they are now. Blocks.
    ///
    /// # Errors
    /// The operator's, in one line that names the setting and no secret.
    pub(crate) fn with_files_read_again(&self) -> Result<AccessSettings, String> {
        let mut new = self.clone();
        if let Some(file) = &self.read_file {
            new.read_tokens = Some(file.read(|text| ReadTokens::of(file.name, text))?);
        }
        if let Some(file) = &self.admin_file {
            new.admin_token = Some(file.read(AdminToken::new)?);
        }
        Ok(new)
    }

    /// Whether the same may ask on the admin port by `other`.
    pub(crate) fn is_same_for_admin(&self, other: &AccessSettings) -> bool {
        self.hosts == other.hosts && self.admin_token == other.admin_token
    }

    /// The settings whose files hold something else than in `before`.
    pub(crate) fn files_differing(&self, before: &AccessSettings) -> Vec<&'static str> {
        let read = self.read_file.as_ref().filter(|_| self.read_tokens != before.read_tokens);
        let admin = self.admin_file.as_ref().filter(|_| self.admin_token != before.admin_token);
        read.into_iter().chain(admin).map(|file| file.name).collect()
    }
}
