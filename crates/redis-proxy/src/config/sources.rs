//! Where each value comes from: flags over the environment over the file over the default.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::PASSWORD_COMMAND;
use super::error::{ConfigError, quoted};
use super::file::{self, Line};
use super::flags::Flags;
use super::given::{Given, Origin};
use super::password_command::PasswordCommand;
use super::read::{PipePolicy, read};
use super::redis_url;
use super::table::{self, Setting};
use super::value::{SettingKind, Value};

/// A value of every setting of the table that has one.
pub(super) struct Values {
    slots: Vec<(&'static Setting, Option<Given>)>,
    /// Ports of ours that the environment seems to set and does not, see [`is_injected`].
    pub(super) injected: Vec<&'static str>,
    /// What is in the file of [`TOKENS`].
    pub(super) tokens: Option<Given>,
}

/// The settings that can be read from a file of their own, and the setting that names the file.
const SECRETS: [(&str, &str); 5] = [
    ("REDIS_PASSWORD", "REDIS_PASSWORD_FILE"),
    ("REDIS_URL", "REDIS_URL_FILE"),
    ("REDIS_SENTINEL_PASSWORD", "REDIS_SENTINEL_PASSWORD_FILE"),
    ("READ_TOKEN", "READ_TOKEN_FILE"),
    ("ADMIN_TOKEN", "ADMIN_TOKEN_FILE"),
];

/// The setting of a file with many secrets, of which none has a setting of its own.
pub(crate) const TOKENS: &str = "READ_TOKENS_FILE";

/// The largest file of a secret.
pub(crate) const SECRET_BYTES: u64 = 64 << 10;

impl Values {
    /// Reads every setting of the table.
    ///
    /// # Errors
    /// A value that its setting does not accept, or a file that cannot be read.
    pub(super) fn collect(
        flags: &Flags,
        env: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Values, ConfigError> {
        let path = flags.config();
        for (name, instead) in table::GONE {
            let in_env = || env(name).filter(|text| !text.is_empty()).map(|_| Origin::Environment);
            if let Some(origin) = flags.get(name).map(|_| Origin::Flag).or_else(in_env) {
                return Err(ConfigError::gone(name, &origin.to_string(), instead));
            }
        }
        let lines = path.map_or(Ok(Vec::new()), |path| file::read(Path::new(path)))?;
        let path = path.unwrap_or_default().to_string_lossy();
        let injected =
            table::all().filter(|setting| env(setting.name).is_some_and(|text| is_injected(setting, &text)));
        let mut values = Values {
            slots: Vec::new(),
            injected: injected.map(|setting| setting.name).collect(),
            tokens: None,
        };
        for setting in table::all() {
            let given = match raw(setting, flags, env, &lines, &path) {
                Some((text, origin)) => Some(given(setting, &text, origin)?),
                None => None,
            };
            values.slots.push((setting, given));
        }
        values.read_secrets()?;
        Ok(values)
    }

    /// Every setting with what was given for it, in the order of the table.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static Setting, Option<&Given>)> {
        self.slots.iter().map(|(setting, given)| (*setting, given.as_ref()))
    }

    /// What the operator gave for a setting; `None` where only the default holds.
    pub(super) fn given(&self, name: &str) -> Option<&Given> {
        self.slot(name).1.as_ref()
    }

    /// The value of a setting that has a default.
    pub(super) fn value(&self, name: &str) -> Value {
        let (setting, given) = self.slot(name);
        match given {
            Some(given) => given.value.clone(),
            // A test loads every default.
            None => setting.accepts.parse(setting.default).expect("the default is accepted"),
        }
    }

    /// A count, a size or a port; `None` is `off`.
    pub(super) fn optional_number(&self, name: &str) -> Option<u64> {
        match self.value(name) {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    /// A count or a size; `off` is 0.
    pub(super) fn number(&self, name: &str) -> usize {
        // The ranges of the table end far below 2^64; on a 32-bit machine the largest holds instead.
        usize::try_from(self.optional_number(name).unwrap_or(0)).unwrap_or(usize::MAX)
    }

    /// A span of time; `off` is zero.
    pub(super) fn time(&self, name: &str) -> Duration {
        match self.value(name) {
            Value::Time(time) => time,
            _ => Duration::ZERO,
        }
    }

    /// A text, path, choice or secret that has a default.
    pub(super) fn text(&self, name: &str) -> String {
        match self.value(name) {
            Value::Text(text) => text,
            _ => String::new(),
        }
    }

    /// A text, path or secret that may be missing.
    pub(super) fn given_text(&self, name: &str) -> Option<&str> {
        self.given(name)?.text()
    }

    /// The file of a secret, if it can be read more than once.
    pub(super) fn secret_file(&self, name: &str) -> Option<SecretFile> {
        let file = self.given(name)?;
        let Value::Text(path) = &file.value else { return None };
        let is_file = std::fs::metadata(path).is_ok_and(|data| data.is_file());
        is_file.then(|| SecretFile { name: file.name, file: file.clone() })
    }

    /// The program that prints Redis' password, and the setting that names it.
    pub(super) fn password_command(&self) -> Option<(&Given, PasswordCommand)> {
        let given = self.given(PASSWORD_COMMAND)?;
        let Value::Text(text) = &given.value else { return None };
        Some((given, PasswordCommand::parse(text)?))
    }

    /// Runs that program, if there is one, and puts what it prints in its place. Blocks for seconds at most. Says whether there is one.
    ///
    /// # Errors
    /// It gives no password.
    pub(super) fn ask_password(&mut self) -> Result<bool, ConfigError> {
        let Some((given, command)) = self.password_command() else { return Ok(false) };
        let (name, origin) = (given.name, given.origin.clone());
        let password = command.run().map_err(|why| ConfigError::other(format!("{name} ({origin}) {why}")))?;
        self.put("REDIS_PASSWORD", Given { name, value: Value::Text(password), origin });
        Ok(true)
    }

    fn put(&mut self, name: &str, secret: Given) {
        for (setting, given) in &mut self.slots {
            if setting.name == name {
                *given = Some(secret.clone());
            }
        }
    }

    fn slot(&self, name: &str) -> &(&'static Setting, Option<Given>) {
        let slot = self.slots.iter().find(|(setting, _)| setting.name == name);
        slot.expect("a setting of the table; every name is looked up by the test of the defaults")
    }

    /// Puts the secrets that are in files in their places.
    fn read_secrets(&mut self) -> Result<(), ConfigError> {
        for (name, file_name) in SECRETS {
            let Some(file) = self.given(file_name) else { continue };
            if let Some(secret) = self.given(name) {
                return Err(ConfigError::conflict(secret, file, "give the secret in one of them"));
            }
            let secret = read_secret(file, PipePolicy::WaitedFor)?;
            self.put(name, secret);
        }
        if let Some(file) = self.given(TOKENS) {
            if let Some(secret) = self.given("READ_TOKEN") {
                return Err(ConfigError::conflict(secret, file, "give the tokens in one of them"));
            }
            self.tokens = Some(read_secret(file, PipePolicy::WaitedFor)?);
        }
        if let (Some(secret), Some(command)) = (self.given("REDIS_PASSWORD"), self.given(PASSWORD_COMMAND)) {
            return Err(ConfigError::conflict(secret, command, "give the secret in one of them"));
        }
        Ok(())
    }
}

/// A secret as the environment alone has it: by its setting, or in the file that the setting of that file names.
///
/// # Errors
/// Both are set, or the file cannot be read.
pub(super) fn secret(
    name: &str,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<String>, ConfigError> {
    let find = |name: &str| {
        let setting = table::all().find(|setting| setting.name == name)?;
        let text = env(setting.name).filter(|text| !text.is_empty())?;
        Some(given(setting, &text, Origin::Environment))
    };
    let file_name = SECRETS.iter().find(|(secret, _)| *secret == name).map(|(_, file)| *file);
    let secret = match (find(name).transpose()?, file_name.and_then(find).transpose()?) {
        (Some(secret), Some(file)) => {
            return Err(ConfigError::conflict(&secret, &file, "give the secret in one of them"));
        }
        (None, Some(file)) => Some(read_secret(&file, PipePolicy::WaitedFor)?),
        (secret, None) => secret,
    };
    Ok(secret.and_then(|secret| secret.text().map(str::to_owned)))
}

/// A file that holds a secret, to be read again.
pub(super) struct SecretFile {
    pub(super) name: &'static str,
    file: Given,
}

impl SecretFile {
    pub(super) fn path(&self) -> PathBuf {
        match &self.file.value {
            Value::Text(path) => path.into(),
            _ => PathBuf::new(),
        }
    }

    /// # Errors
    /// As at the start, and where it has become a pipe: that would hold up an attempt to connect.
    pub(super) fn read(&self) -> Result<String, ConfigError> {
        match read_secret(&self.file, PipePolicy::Refused)?.value {
            Value::Text(text) => Ok(text),
            _ => Ok(String::new()),
        }
    }
}

/// The text of a setting before it is understood, from the first source that has it.
fn raw(
    setting: &Setting,
    flags: &Flags,
    env: &dyn Fn(&str) -> Option<OsString>,
    lines: &[Line],
    path: &str,
) -> Option<(OsString, Origin)> {
    if let Some(text) = flags.get(setting.name) {
        return Some((text.to_owned(), Origin::Flag));
    }
    // `FOO=` in a compose file or a shell is meant as "not set".
    if let Some(text) = env(setting.name).filter(|text| !text.is_empty() && !is_injected(setting, text)) {
        return Some((text, Origin::Environment));
    }
    let line = lines.iter().find(|line| line.name == setting.name)?;
    Some((OsString::from(&line.text), Origin::File { path: path.to_owned(), line: line.number }))
}

/// Whether a variable with the name of a port to listen on is Kubernetes' word of a service: beside one named `admin` every
/// pod has `ADMIN_PORT=tcp://10.0.0.1:80`. It is nobody's choice.
fn is_injected(setting: &Setting, text: &OsStr) -> bool {
    let port = matches!(setting.accepts, SettingKind::Port) && setting.name.contains('_');
    port && text.to_str().is_some_and(redis_url::is_service_address)
}

fn given(setting: &'static Setting, text: &OsStr, origin: Origin) -> Result<Given, ConfigError> {
    let accepts = &setting.accepts;
    let shown = accepts.masked(&text.to_string_lossy());
    match text.to_str().and_then(|text| accepts.parse(text)) {
        Some(value) => Ok(Given { name: setting.name, value, origin }),
        None => Err(ConfigError::bad_value(setting.name, &shown, &origin, &accepts.expected())),
    }
}

/// The secret in the file that `file` names, without the line end that editors put there.
fn read_secret(file: &Given, pipe: PipePolicy) -> Result<Given, ConfigError> {
    let Value::Text(path) = &file.value else { return Ok(file.clone()) };
    let error =
        |why: &str| ConfigError::other(format!("{}={} ({}): {why}", file.name, quoted(path), file.origin));
    let bytes = read(Path::new(path), SECRET_BYTES, pipe).map_err(|why| error(&why))?;
    let text = secret_of(bytes).map_err(error)?;
    Ok(Given { name: file.name, value: Value::Text(text), origin: file.origin.clone() })
}

/// The secret of a file that holds these bytes.
pub(crate) fn secret_of(bytes: Vec<u8>) -> Result<String, &'static str> {
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() { Err("it is empty") } else { Ok(text.to_owned()) }
}

/// Whether the file at `path` can be read, again and again; the error is for people.
pub(super) fn check_file(path: &str) -> Result<(), String> {
    let data = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if data.is_dir() {
        return Err("it is a directory".into());
    }
    // A pipe is read once, and would hold up whoever opens it.
    if !data.is_file() {
        return Err("it is no regular file, and it is read at each attempt to connect".into());
    }
    std::fs::File::open(path).map(drop).map_err(|error| error.to_string())
}
