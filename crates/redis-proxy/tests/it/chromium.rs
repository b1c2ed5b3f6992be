//! A headless Chromium that a test drives: its pages are opened, asked and photographed
//! (<https://chromedevtools.github.io/devtools-protocol/>), by a pipe and not by a port.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::not_run;

/// It takes its time on a machine that does other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Chromium with these arguments and nothing of a user's, not started.
pub(crate) fn chromium(profile: &Path, arguments: &[&str]) -> Command {
    let mut chromium = Command::new("chromium");
    prepare(&mut chromium, profile).args(arguments);
    chromium
}

fn prepare<'a>(command: &'a mut Command, profile: &Path) -> &'a mut Command {
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .env("HOME", profile)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
}

/// Whether there is one; a test without is told of as not run.
pub(crate) fn is_installed() -> bool {
    let found = Command::new("chromium").arg("--version").output().is_ok_and(|told| told.status.success());
    if !found {
        not_run("chromium is not installed");
    }
    found
}

/// One that runs, with one page. Killed when dropped.
pub(crate) struct Browser {
    child: Child,
    requests: ChildStdin,
    messages: Receiver<Value>,
    /// What has come unasked: exceptions of scripts, and what the page was not allowed.
    pub(crate) complaints: VecDeque<Value>,
    last_id: u64,
    session: Option<String>,
    _profile: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.call("Browser.close", json!({}));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Browser {
    pub(crate) fn start() -> Browser {
        let profile = tempfile::tempdir().expect("a folder");
        // It is spoken to by its descriptors 3 and 4.
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec chromium \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null", "sh"]);
        let shell = prepare(&mut shell, profile.path()).args(["--remote-debugging-pipe", "about:blank"]);
        let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("chromium");
        let (requests, answers) = (child.stdin.take(), child.stdout.take());
        let (tell, messages) = channel();
        thread::spawn(move || {
            let mut answers = BufReader::new(answers.expect("a pipe"));
            let mut message = Vec::new();
            while answers.read_until(0, &mut message).is_ok_and(|read| read > 0) {
                message.pop();
                let Ok(parsed) = serde_json::from_slice(&message) else { return };
                if tell.send(parsed).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let mut browser = Browser {
            child,
            requests: requests.expect("a pipe"),
            messages,
            complaints: VecDeque::new(),
            last_id: 0,
            session: None,
            _profile: profile,
        };
        let target = browser.ask("Target.createTarget", json!({ "url": "about:blank" }));
        let attached =
            browser.ask("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.ask(&format!("{domain}.enable"), json!({}));
        }
        // As if it were the window in front.
        browser.ask("Emulation.setFocusEmulationEnabled", json!({ "enabled": true }));
        browser
    }

    /// Calls a method of the protocol. None if there is no answer.
    fn call(&mut self, method: &str, parameters: Value) -> Option<Value> {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.requests.write_all(format!("{message}\0").as_bytes()).ok()?;
        let until = Instant::now() + PATIENCE;
        loop {
            let message = self.messages.recv_timeout(until.saturating_duration_since(Instant::now())).ok()?;
            if message["id"] == self.last_id {
                return Some(message);
            }
            if ["Runtime.exceptionThrown", "Log.entryAdded"].iter().any(|kind| message["method"] == *kind) {
                self.complaints.push_back(message["params"].clone());
            }
        }
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, method: &str, parameters: Value) -> Value {
        let answer = self.call(method, parameters).unwrap_or_else(|| panic!("no answer to {method}"));
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    #[track_caller]
    pub(crate) fn open(&mut self, url: &str) {
        let opened = self.ask("Page.navigate", json!({ "url": url }));
        assert!(opened.get("errorText").is_none(), "{url}: {opened}");
        self.wait_for("document.readyState === 'complete'");
    }

    /// The value of an expression in the page.
    #[track_caller]
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.ask("Runtime.evaluate", asked);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, expression: &str) {
        let until = Instant::now() + PATIENCE;
        while self.value(&format!("!!({expression})")) != true {
            if Instant::now() > until {
                let text = self.value("document.body.innerText");
                panic!("waited in vain for {expression}; the page:\n{}", text.as_str().unwrap_or_default());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Shows the page in so many pixels, in light or dark.
    pub(crate) fn show_as(&mut self, width: u32, height: u32, scheme: &str) {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.ask("Emulation.setDeviceMetricsOverride", metrics);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.ask("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// A PNG of what is seen.
    pub(crate) fn photograph(&mut self) -> Vec<u8> {
        let taken = self.ask("Page.captureScreenshot", json!({ "format": "png" }));
        STANDARD.decode(taken["data"].as_str().expect("a picture")).expect("base64")
    }

    /// Presses a key, as `Tab`, `Enter` or a letter.
    pub(crate) fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            " " => (32, " "),
            letter => (u32::from(letter.as_bytes()[0].to_ascii_uppercase()), letter),
        };
        let down = if text.is_empty() { "rawKeyDown" } else { "keyDown" };
        for kind in [down, "keyUp"] {
            let mut event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" {
                event["text"] = text.into();
            }
            self.ask("Input.dispatchKeyEvent", event);
        }
    }

    /// Writes text as if by keys.
    pub(crate) fn write(&mut self, text: &str) {
        self.ask("Input.insertText", json!({ "text": text }));
    }
}
