//! A unix socket that we listen on: its file is ours from the start to the end.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::process::umask;
use socket2::{Domain, SockAddr, Socket, Type};

/// The file of a socket; removed when this is dropped, unless another has taken its place.
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at `path`, for those whom the permissions `mode` let in. A socket that is there already is replaced if nobody answers.
///
/// To be called while no other thread makes files: the process's mask of permissions is another for a moment, so that nobody whom
/// `mode` keeps out gets in before it is set.
///
/// # Errors
/// The operator's: somebody listens there, it is no socket, the folder cannot be written to.
pub(crate) fn listen(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    remove_stale(path)?;
    let before = umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    let listener = bound?;
    let file = SocketFile { path: path.to_owned(), identity: identity(path)? };
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    listener.set_nonblocking(true)?;
    Ok((listener, file))
}

/// Removes the socket of one that has ended without doing so.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(data) if !data.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) => {}
    }
    // Without waiting: one whose queue is full may never take anybody.
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Err(io::Error::new(ErrorKind::AddrInUse, "somebody listens there")),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Err(io::Error::new(ErrorKind::AddrInUse, "somebody listens there, and takes nobody now"))
        }
        // Not ours to connect to: somebody may be there.
        Err(error) => Err(error),
    }
}

/// Device, inode, and when it was made, where the system knows: an inode may be that of another file soon.
type Identity = (u64, u64, Option<SystemTime>);

fn identity(path: &Path) -> io::Result<Identity> {
    fs::symlink_metadata(path).map(|data| (data.dev(), data.ino(), data.created().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_replaced_only_if_nobody_answers_and_removed_only_if_it_is_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let (listener, file) = listen(&path, 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(listen(&path, 0o660).err().unwrap().kind(), ErrorKind::AddrInUse);
        // One that has ended without a word.
        drop(listener);
        let (second, second_file) = listen(&path, 0o660).unwrap();
        drop(file);
        assert!(path.exists(), "it is the second one's");
        drop(second_file);
        assert!(!path.exists());
        drop(second);
        fs::write(&path, "text").unwrap();
        assert_eq!(listen(&path, 0o660).err().unwrap().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
    }
}
