//! Sockets that whoever started us has opened for us (sd_listen_fds(3)), each in place of the port of its name: `http`, `resp`, `admin`.
//!
//! They begin with file 3. LISTEN_FDS says how many there are, LISTEN_FDNAMES what each is for, and LISTEN_PID that they are meant for
//! this very process: a child that inherits the variables has no such files. The crate `listenfd` takes the files over, since to
//! make a socket of a number takes unsafe code. Doubt ends the start: a port that nobody serves would be noticed late.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

use crate::error::Error;
use crate::socket::Listening;
use crate::tls::PortName;

/// What says that there are sockets, and for whom. They are no business of a child of ours.
pub(crate) const VARIABLES: [&str; 3] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// What is told where a socket has no name that says which port it is.
const NAMES: &str =
    "expected http, resp or admin for each, no two alike (FileDescriptorName= of its socket unit)";

/// The sockets that were opened for us, with the ports that they are in place of; none, usually.
pub struct ActivatedSockets(pub(crate) Vec<(PortName, Listening)>);

impl ActivatedSockets {
    /// Takes them over. They are closed in children from then on, and what the variables say is forgotten.
    ///
    /// To be called while the process has one thread, since it changes the environment, and before it has a child.
    ///
    /// # Errors
    /// The operator's: what is wrong with the variables or a socket, in one line.
    pub fn take() -> Result<ActivatedSockets, Error> {
        sockets().map(ActivatedSockets).map_err(Error::Setting)
    }
}

fn sockets() -> Result<Vec<(PortName, Listening)>, String> {
    let ports = ports(std::process::id(), |name| std::env::var(name).ok())?;
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    let mut files = ListenFd::from_env();
    let take = |(at, port): (usize, PortName)| {
        let socket = take(&mut files, at).map_err(|error| {
            format!("LISTEN_FDS: the socket {} (file {}): {error}", port.word(), at + FIRST_FILE)
        });
        socket.map(|socket| (port, socket))
    };
    ports.into_iter().enumerate().map(take).collect()
}

/// Of the sockets that are handed over (sd_listen_fds(3), `SD_LISTEN_FDS_START`).
const FIRST_FILE: usize = 3;

/// What the variables say: which port each socket is in place of.
fn ports(pid: u32, variable: impl Fn(&str) -> Option<String>) -> Result<Vec<PortName>, String> {
    let [Some(count), Some(of)] = ["LISTEN_FDS", "LISTEN_PID"].map(&variable) else { return Ok(Vec::new()) };
    if of.parse() != Ok(pid) {
        return Ok(Vec::new());
    }
    let Ok(sockets) = count.parse::<usize>() else {
        return Err(format!("LISTEN_FDS={count}: expected a number"));
    };
    if sockets == 0 {
        return Ok(Vec::new());
    }
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let known = |name: &str| PortName::ALL.into_iter().find(|port| port.word() == name);
    let ports: Option<Vec<_>> = names.split(':').map(known).collect();
    let ports = ports.filter(|ports| (1..ports.len()).all(|at| !ports[..at].contains(&ports[at])));
    ports
        .filter(|ports| ports.len() == sockets)
        .ok_or_else(|| format!("LISTEN_FDNAMES={names} for {sockets} sockets: {NAMES}"))
}

fn take(files: &mut ListenFd, at: usize) -> io::Result<Listening> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what);
    if let Ok(Some(listener)) = files.take_tcp_listener(at) {
        return checked(listener, TcpListener::set_nonblocking).map(Listening::Tcp);
    }
    let taken = files.take_unix_listener(at).ok().flatten();
    let listener = taken.ok_or_else(|| wrong("it is neither a TCP socket nor a unix stream socket"))?;
    let listener = checked(listener, UnixListener::set_nonblocking)?;
    let address = listener.local_addr()?;
    let name = match (address.as_pathname(), address.as_abstract_name()) {
        (Some(path), _) => path.to_owned(),
        (None, Some(name)) => PathBuf::from(format!("@{}", String::from_utf8_lossy(name))),
        (None, None) => return Err(wrong("it has no name")),
    };
    Ok(Listening::Unix(listener, name))
}

/// A socket that takes clients, and waits for none.
fn checked<S: AsFd>(socket: S, set_nonblocking: impl Fn(&S, bool) -> io::Result<()>) -> io::Result<S> {
    if !socket_acceptconn(&socket)? {
        let what = "it does not listen: expected Accept=no in its socket unit";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    set_nonblocking(&socket, true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(fds: &str, pid: &str, names: &str) -> Result<Vec<PortName>, String> {
        ports(7, |name| {
            let value = [fds, pid, names][VARIABLES.iter().position(|variable| *variable == name).unwrap()];
            (!value.is_empty()).then(|| value.to_owned())
        })
    }

    #[test]
    fn sockets_are_those_of_this_process_and_each_has_a_port_of_its_own() {
        use PortName::{Admin, Http, Resp};
        for (fds, pid, names) in
            [("", "", ""), ("1", "", "http"), ("1", "8", "http"), ("0", "7", ""), ("", "7", "http")]
        {
            assert_eq!(told(fds, pid, names), Ok(vec![]), "{fds} {pid} {names}");
        }
        assert_eq!(told("1", "7", "resp"), Ok(vec![Resp]));
        assert_eq!(told("3", "7", "admin:http:resp"), Ok(vec![Admin, Http, Resp]));
        for (fds, names) in [
            ("1", ""),
            ("1", "redis-proxy.socket"),
            ("1", "unknown"),
            ("2", "http"),
            ("1", "http:resp"),
            ("2", "http:http"),
            ("4000000000", "http"),
        ] {
            let why = told(fds, "7", names).unwrap_err();
            assert!(why.contains("FileDescriptorName=") && why.contains("http, resp or admin"), "{why}");
        }
        assert_eq!(told("many", "7", "http"), Err("LISTEN_FDS=many: expected a number".into()));
    }
}
