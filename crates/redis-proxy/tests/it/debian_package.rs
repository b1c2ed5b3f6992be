//! The Debian package: what is in it, how far its service is shut in, and, in a Debian of its own, that it is installed, serves and leaves.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use testkit::{HttpClient, RedisServer, Signal, find_program, not_run, run_to_end, wait_until};

use crate::bare_program::{BareProgram, PATIENCE};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Whether all of these are installed; says so where one is not.
fn has(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|program| find_program(program).is_none()).collect();
    if !missing.is_empty() {
        assert!(std::env::var_os("CLIENTS_REQUIRED").is_none(), "not installed: {missing:?}");
        not_run(&format!("not installed: {missing:?}"));
    }
    missing.is_empty()
}

/// What a command prints that must succeed.
#[track_caller]
fn printed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The package of a program, below a folder for what is built.
#[track_caller]
fn package(program: &Path, target: &Path) -> PathBuf {
    let mut script = Command::new(repository().join("scripts/deb"));
    PathBuf::from(printed(script.arg(program).env("CARGO_TARGET_DIR", target)).trim_end())
}

/// What a line of the unit says that begins so.
fn in_unit(key: &str) -> Vec<String> {
    let unit = fs::read_to_string(repository().join("deploy/systemd/redis-proxy.service")).unwrap();
    let values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.map(str::to_owned).collect()
}

#[test]
fn the_package_is_the_same_each_time_and_its_service_is_shut_in() {
    if !has(&["dpkg-deb", "dpkg-shlibdeps", "strip", "systemd-analyze"]) {
        return;
    }
    // A small program will do for that, if it has something to say where its manual is asked for.
    let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [first, second] = [&first, &second].map(|target| package(Path::new("/bin/echo"), target.path()));
    assert!(
        fs::read(&first).unwrap() == fs::read(second).unwrap(),
        "twice the same, and not the same package"
    );
    let listed = printed(Command::new("dpkg-deb").arg("--contents").arg(&first));
    for file in [
        "-rwxr-xr-x root/root ./usr/bin/redis-proxy",
        "-rw-r----- root/root ./etc/redis-proxy/redis-proxy.toml",
        "-rw-r--r-- root/root ./usr/lib/systemd/system/redis-proxy.service",
        "-rw-r--r-- root/root ./usr/lib/systemd/system/redis-proxy-http.socket",
        "-rw-r--r-- root/root ./usr/share/doc/redis-proxy/operations.md",
        "-rw-r--r-- root/root ./usr/share/man/man1/redis-proxy.1.gz",
        "-rw-r--r-- root/root ./usr/share/bash-completion/completions/redis-proxy",
        "-rw-r--r-- root/root ./usr/share/doc/redis-proxy/examples/alerts.yml",
        "-rw-r--r-- root/root ./usr/share/doc/redis-proxy/examples/sidecar.yaml",
        "-rw-r--r-- root/root ./usr/share/doc/redis-proxy/page-dark.png",
    ] {
        let parts: Vec<_> = file.split(' ').collect();
        let is_it = |line: &str| line.starts_with(&parts[..2].join(" ")) && line.ends_with(parts[2]);
        assert!(listed.lines().any(is_it), "no {file} in\n{listed}");
    }
    let depends = printed(Command::new("dpkg-deb").arg("--field").arg(&first).arg("Depends"));
    assert!(depends.contains("libc6 (>= ") && depends.contains("adduser"), "{depends}");

    let unit = repository().join("deploy/systemd/redis-proxy.service");
    let mut judge = Command::new("systemd-analyze");
    judge.args(["security", "--offline=true", "--no-pager", "--threshold=20"]).arg(unit);
    let exposure = printed(&mut judge);
    eprintln!("{}", exposure.lines().last().unwrap_or_default());

    for port in ["http", "resp", "admin"] {
        let socket = repository().join(format!("deploy/systemd/redis-proxy-{port}.socket"));
        let socket = fs::read_to_string(socket).unwrap();
        assert!(
            socket.contains(&format!("\nFileDescriptorName={port}\nService=redis-proxy.service\n")),
            "{socket}"
        );
    }
}

#[test]
fn the_settings_of_the_service_are_accepted_also_those_that_are_proposed() {
    let text = fs::read_to_string(repository().join("deploy/debian/redis-proxy.toml")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("redis-password"), "correct-horse").unwrap();
    let proposed = text.lines().map(|line| match line.strip_prefix("# ") {
        Some(setting) if setting.contains(" = ") => {
            setting.replace("/etc/redis-proxy", folder.path().to_str().unwrap())
        }
        _ => line.to_owned(),
    });
    let proposed = proposed.collect::<Vec<_>>().join("\n");
    assert_ne!(proposed, text);
    for text in [text, proposed] {
        let config = folder.path().join("redis-proxy.toml");
        fs::write(&config, text).unwrap();
        let arguments = ["--config", config.to_str().unwrap(), "--check-config"];
        let output = run_to_end(env!("CARGO_BIN_EXE_redis-proxy"), &[], &arguments, PATIENCE);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
}

/// A Debian 12 in a folder, with the package in it.
struct Chroot {
    folder: tempfile::TempDir,
}

impl Chroot {
    fn make(package: &Path) -> Chroot {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        // Others than root must get in.
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        printed(
            Command::new("debootstrap")
                .args(["--variant=minbase", "--include=systemd", "bookworm"])
                .arg(folder.path()),
        );
        fs::copy(package, folder.path().join("redis-proxy.deb")).unwrap();
        Chroot { folder }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path.trim_start_matches('/'))
    }

    /// What a command prints that must succeed there.
    #[track_caller]
    fn run(&self, words: &[&str]) -> String {
        let mut command = Command::new("chroot");
        command.arg(self.folder.path()).args(words);
        printed(command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DEBIAN_FRONTEND", "noninteractive"))
    }

    /// User and group of the service.
    fn user(&self) -> String {
        let users = fs::read_to_string(self.at("/etc/passwd")).unwrap();
        let line = users.lines().find(|line| line.starts_with("redis-proxy:")).unwrap().to_owned();
        let fields: Vec<_> = line.split(':').collect();
        assert_eq!((fields[5], fields[6]), ("/nonexistent", "/usr/sbin/nologin"), "{line}");
        format!("{}:{}", fields[2], fields[3])
    }
}

/// The system calls that the unit's filters leave, as systemd has its groups.
fn allowed_calls() -> BTreeSet<String> {
    fn expand(group: &str, found: &mut BTreeSet<String>) {
        let listed = printed(Command::new("systemd-analyze").args(["--no-pager", "syscall-filter", group]));
        for name in
            listed.lines().skip(1).map(str::trim).filter(|name| !name.is_empty() && !name.starts_with('#'))
        {
            match name.starts_with('@') {
                true => expand(name, found),
                false => drop(found.insert(name.to_owned())),
            }
        }
    }
    let mut allowed = BTreeSet::new();
    for filter in in_unit("SystemCallFilter") {
        let (removes, names) =
            filter.strip_prefix('~').map_or((false, filter.as_str()), |names| (true, names));
        let mut calls = BTreeSet::new();
        for name in names.split(' ') {
            match name.starts_with('@') {
                true => expand(name, &mut calls),
                false => drop(calls.insert(name.to_owned())),
            }
        }
        match removes {
            true => allowed.retain(|call| !calls.contains(call)),
            false => allowed.append(&mut calls),
        }
    }
    allowed
}

/// The system calls of a program from its exec on, as strace wrote them down.
fn calls(trace: &str) -> BTreeSet<String> {
    let own = trace
        .lines()
        .skip_while(|line| !(line.contains("execve(\"/usr/bin/redis-proxy\"") && line.ends_with("= 0")));
    let names = own.skip(1).filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('('));
    let names = names.map(|(name, _)| name.to_owned());
    names
        .filter(|name| {
            name.chars().all(|part| part.is_ascii_lowercase() || part.is_ascii_digit() || part == '_')
        })
        .collect()
}

#[track_caller]
fn hear(socket: &UnixDatagram, text: &str) -> String {
    let mut message = [0; 1024];
    let length = socket.recv(&mut message).unwrap_or_else(|error| panic!("waiting for {text}: {error}"));
    let message = String::from_utf8_lossy(&message[..length]).into_owned();
    assert!(message.contains(text), "{message} is not {text}");
    message
}

/// The service as systemd would start it, but for its ports and a strace around it.
fn serve(chroot: &Chroot, redis: &RedisServer) {
    let notify = UnixDatagram::bind(chroot.at("/run/notify")).unwrap();
    fs::set_permissions(chroot.at("/run/notify"), PermissionsExt::from_mode(0o777)).unwrap();
    notify.set_read_timeout(Some(PATIENCE)).unwrap();
    let trace = chroot.at("/trace");
    let mut command = Command::new(find_program("strace").unwrap());
    command.args(["-f", "-qq", "-o", trace.to_str().unwrap()]).arg(find_program("chroot").unwrap());
    command.args(["--userspec", &chroot.user(), "--groups", ""]).arg(chroot.folder.path());
    command.args(in_unit("ExecStart")[0].split(' '));
    let port = redis.port().to_string();
    let settings = [
        ("RESP_PORT", "0"),
        // The file says where Redis is, in two settings.
        ("REDIS_URL", ""),
        ("REDIS_PORT", &port),
        ("NOTIFY_SOCKET", "/run/notify"),
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    ];
    let log = fs::File::create(chroot.at("/log")).unwrap();
    let mut program = BareProgram::start_by(command, redis, &settings, Stdio::null(), log);

    let ready = hear(&notify, "READY=1");
    let address = |name: &str| -> SocketAddr {
        let (_, rest) = ready.split_once(&format!("{name} ")).unwrap();
        rest.split([',', '\n']).next().unwrap().parse().unwrap()
    };
    assert_eq!(HttpClient::connect(address("http")).get("/k").text(), "v");
    let pid = fs::read_to_string(format!("/proc/{0}/task/{0}/children", program.pid())).unwrap();
    let pid: i32 = pid.trim().parse().unwrap();
    let owner = fs::metadata(format!("/proc/{pid}")).unwrap();
    assert_eq!(format!("{}:{}", owner.uid(), owner.gid()), chroot.user());
    let signal =
        |signal| rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
    signal(Signal::HUP);
    hear(&notify, "RELOADING=1");
    hear(&notify, "READY=1");
    signal(Signal::TERM);
    hear(&notify, "STOPPING=1");
    assert_eq!(program.wait_exit().code(), Some(0), "{}", fs::read_to_string(chroot.at("/log")).unwrap());

    let trace = fs::read_to_string(trace).unwrap();
    let families = in_unit("RestrictAddressFamilies")[0].clone();
    for socket in trace.split(" socket(").skip(1) {
        let family = socket.split(',').next().unwrap();
        assert!(
            families.split(' ').any(|allowed| allowed == family),
            "the unit does not let it make a socket of {family}"
        );
    }
    let (made, allowed) = (calls(&trace), allowed_calls());
    assert!(made.contains("epoll_wait") && made.len() > 30 && allowed.len() > 200, "{made:?}");
    let refused: Vec<_> = made.difference(&allowed).collect();
    assert!(refused.is_empty(), "the unit does not let it call {refused:?}");
    eprintln!("{} system calls, all of the {} that the unit allows", made.len(), allowed.len());
}

/// Has a systemd of its own take over the folder, as process 1, with its own network and cgroups. It says so and ends with 77 where this machine does not let it.
/// In a mere chroot nobody may have `PrivateUsers=`.
const BOOTS: &str = r#"
root=$1
cannot() { echo "$1" >&2; exit 77; }
mount --make-rprivate / && mount --bind "$root" "$root" || cannot "no mounts"
mount -t proc proc "$root/proc" && mount -t sysfs sysfs "$root/sys" || cannot "no proc or sys"
for folder in run tmp; do mount -t tmpfs tmpfs "$root/$folder"; done
if [ -d /sys/fs/cgroup/systemd ]; then
    mount -t tmpfs tmpfs "$root/sys/fs/cgroup" && mkdir "$root/sys/fs/cgroup/systemd" &&
        mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd" || cannot "no cgroups"
else
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup" || cannot "no cgroups"
fi
ip link set lo up
mkdir -p "$root/old" && cd "$root" && pivot_root . old || cannot "no pivot_root"
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c 'umount -l /old; exec /lib/systemd/systemd --unit=multi-user.target'
"#;

/// That systemd, killed when dropped with all that it has started.
struct Booted {
    unshare: Child,
    /// Its own, in each hierarchy that it writes to: those of others are not its business.
    cgroups: Vec<PathBuf>,
}

impl Booted {
    /// None where this machine does not let it.
    fn start(chroot: &Chroot) -> Option<Booted> {
        let above = ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"].map(Path::new);
        let above = above.into_iter().filter(|folder| folder.join("cgroup.procs").exists());
        let name = format!("redis-proxy-test-{}", std::process::id());
        let cgroups: Vec<_> = above.map(|folder| folder.join(&name)).collect();
        let log = fs::File::create(chroot.at("/boot.log")).unwrap();
        let enters = r#"root=$1 boots=$2; shift 2
            for cgroup; do mkdir -p "$cgroup" && echo $$ >"$cgroup/cgroup.procs" || exit 77; done
            exec unshare --pid --fork --kill-child --mount --cgroup --uts --ipc --net sh -c "$boots" boot "$root""#;
        let mut command = Command::new("sh");
        command.args(["-c", enters, "enter"]).arg(chroot.folder.path()).arg(BOOTS).args(&cgroups);
        let unshare = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut booted = Booted { unshare, cgroups };
        let mut ended = None;
        wait_until(Duration::from_secs(60), "systemd to answer", || {
            ended = booted.unshare.try_wait().unwrap();
            ended.is_some() || booted.inside(&["systemctl", "show", "-p", "Version"]).is_some()
        });
        match ended {
            None => Some(booted),
            Some(_) => {
                not_run(&format!(
                    "no systemd of its own: {}",
                    fs::read_to_string(chroot.at("/boot.log")).unwrap()
                ));
                None
            }
        }
    }

    /// What a command prints in there, if it succeeds.
    fn inside(&self, words: &[&str]) -> Option<String> {
        let pid = self.unshare.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let mut command = Command::new("nsenter");
        command.args([
            "-t",
            children.split_whitespace().next()?,
            "-p",
            "-m",
            "-n",
            "-i",
            "-u",
            "-C",
            "--root",
            "--wd",
        ]);
        let output = command.args(words).stdin(Stdio::null()).output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[track_caller]
    fn must(&self, words: &[&str]) -> String {
        let journal = || self.inside(&["journalctl", "--no-pager", "-n", "30"]).unwrap_or_default();
        self.inside(words).unwrap_or_else(|| panic!("{words:?} fails; the journal:\n{}", journal()))
    }

    /// What systemd knows of the service.
    fn property(&self, name: &str) -> String {
        self.must(&["systemctl", "show", "-p", name, "--value", "redis-proxy"]).trim().to_owned()
    }

    fn is_logged(&self, text: &str) -> bool {
        self.must(&["journalctl", "--no-pager", "-u", "redis-proxy"]).contains(text)
    }

    /// What the program answers on a port, with nothing but a shell.
    fn get(&self, port: u16, target: &str) -> String {
        let ask = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET {target} HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3; cat <&3"
        );
        self.must(&["bash", "-c", &ask])
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        // What it made of them, from below. Who was in there may take a moment to end.
        for _ in 0..50 {
            let mut find = Command::new("find");
            let _ =
                find.args(&self.cgroups).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]).output();
            if !self.cgroups.iter().any(|cgroup| cgroup.exists()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        eprintln!("left: {:?}", self.cgroups);
    }
}

/// The service under a systemd of its own: started at boot, reloaded, started anew when it hangs, and by its sockets.
fn under_systemd(chroot: &Chroot) {
    const LONG: Duration = Duration::from_secs(60);
    let drop_in = chroot.at("/etc/systemd/system/redis-proxy.service.d");
    fs::create_dir_all(&drop_in).unwrap();
    fs::write(drop_in.join("test.conf"), "[Service]\nWatchdogSec=3\nTimeoutAbortSec=3\n").unwrap();
    let Some(systemd) = Booted::start(chroot) else { return };
    wait_until(LONG, "the service", || systemd.inside(&["systemctl", "is-active", "redis-proxy"]).is_some());
    let status = systemd.property("StatusText");
    assert!(status.starts_with("listening: http 127.0.0.1:5000, redis clients 127.0.0.1:6380"), "{status}");
    assert!(systemd.get(5001, "/livez").starts_with("HTTP/1.1 200 "));
    systemd.must(&["systemctl", "reload", "redis-proxy"]);
    wait_until(LONG, "the reload", || systemd.is_logged("reloaded"));

    // One that hangs.
    let pid = systemd.property("MainPID");
    systemd.must(&["bash", "-c", &format!("kill -STOP {pid}")]);
    wait_until(LONG, "another one", || {
        let now = systemd.property("MainPID");
        now != "0" && now != pid && systemd.property("ActiveState") == "active"
    });
    assert_eq!(systemd.property("NRestarts"), "1");

    // The first client of a socket starts it, and is answered.
    systemd.must(&["systemctl", "stop", "redis-proxy"]);
    assert!(systemd.is_logged("all clients answered"));
    systemd.must(&["systemctl", "enable", "--now", "redis-proxy-http.socket", "redis-proxy-admin.socket"]);
    assert_eq!(systemd.property("ActiveState"), "inactive");
    assert!(systemd.get(5000, "/").starts_with("HTTP/1.1 404 "));
    assert!(systemd.get(5001, "/livez").starts_with("HTTP/1.1 200 "));
    wait_until(LONG, "the line", || systemd.is_logged("a socket that was open already is taken over"));
    systemd.must(&["systemctl", "restart", "redis-proxy"]);
    assert!(systemd.get(5000, "/").starts_with("HTTP/1.1 404 "));
    systemd.must(&["systemctl", "disable", "--now", "redis-proxy-http.socket", "redis-proxy-admin.socket"]);
    drop(systemd);
    fs::remove_dir_all(drop_in).unwrap();
}

#[test]
#[ignore = "makes a Debian in a folder, which takes minutes; make soak runs it"]
fn a_debian_installs_serves_upgrades_and_removes_it() {
    if !has(&["debootstrap", "strace", "dpkg-deb", "dpkg-shlibdeps", "strip", "systemd-analyze"]) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return not_run("only root may make a Debian in a folder");
    }
    let target = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let chroot = Chroot::make(&package(Path::new(env!("CARGO_BIN_EXE_redis-proxy")), target.path()));
    let redis = RedisServer::start();
    redis.client().set("k", "v");

    chroot.run(&["dpkg", "-i", "/redis-proxy.deb"]);
    let enabled = "/etc/systemd/system/multi-user.target.wants/redis-proxy.service";
    assert!(chroot.at(enabled).symlink_metadata().is_ok(), "the service is not enabled");
    let mode = |path: &str| fs::metadata(chroot.at(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("/etc/redis-proxy"), mode("/etc/redis-proxy/redis-proxy.toml")), (0o750, 0o640));
    let root = format!("--root={}", chroot.folder.path().display());
    for words in [
        &["verify", "--man=no", "redis-proxy.service"][..],
        &[
            "verify",
            "--man=no",
            "redis-proxy-http.socket",
            "redis-proxy-resp.socket",
            "redis-proxy-admin.socket",
        ],
        &["security", "--offline=true", "--no-pager", "--threshold=20", "redis-proxy.service"],
    ] {
        let output = Command::new("systemd-analyze").arg(&root).args(words).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    }
    let manual = chroot.run(&["gzip", "-dc", "/usr/share/man/man1/redis-proxy.1.gz"]);
    assert!(
        manual == chroot.run(&["redis-proxy", "--man"]) && manual.contains(".TH redis-proxy 1"),
        "{manual}"
    );
    serve(&chroot, &redis);
    under_systemd(&chroot);

    // An upgrade keeps what an operator has written; a removal too, and a purge nothing.
    let config = chroot.at("/etc/redis-proxy/redis-proxy.toml");
    fs::write(&config, "capacity = 7\n").unwrap();
    chroot.run(&["dpkg", "-i", "/redis-proxy.deb"]);
    assert_eq!(fs::read_to_string(&config).unwrap(), "capacity = 7\n");
    chroot.run(&["dpkg", "-r", "redis-proxy"]);
    assert!(!chroot.at("/usr/bin/redis-proxy").exists() && config.exists());
    chroot.run(&["dpkg", "-P", "redis-proxy"]);
    assert!(!chroot.at("/etc/redis-proxy").exists() && chroot.at(enabled).symlink_metadata().is_err());
    let left = chroot.at("/etc/systemd/system/redis-proxy.service");
    assert!(left.symlink_metadata().is_err(), "a mask is left");
    wait_until(Duration::from_secs(10), "nothing of it to be known", || {
        !chroot.run(&["dpkg-query", "-W", "-f", "${Package} "]).contains("redis-proxy")
    });
}
