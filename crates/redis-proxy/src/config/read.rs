//! Reads files that the operator names, none of which can hold the program up.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

/// So long somebody may take to open a pipe for writing.
const NOBODY: Duration = Duration::from_secs(3);
/// And from then on to write all that it has to say.
const SLOW: Duration = Duration::from_secs(30);
/// From one look at a pipe to the next.
const PAUSE: Duration = Duration::from_millis(10);

/// What becomes of a file that is a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PipePolicy {
    /// It is read, which takes [`SLOW`] at most.
    WaitedFor,
    /// It is refused: what it had to say was read at the start.
    Refused,
}

/// Reads the file at `path`, at most `most_bytes` of it.
///
/// # Errors
/// For people: it cannot be read, is larger, a folder, or a pipe that says nothing.
pub(crate) fn read(path: &Path, most_bytes: u64, pipe: PipePolicy) -> Result<Vec<u8>, String> {
    // Without this flag a pipe is not even opened before somebody writes to it (fifo(7)). It changes nothing for a file.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let opened = File::options().read(true).custom_flags(flags).open(path);
    let mut file = opened.map_err(|error| error.to_string())?;
    let data = file.metadata().map_err(|error| error.to_string())?;
    if data.is_dir() {
        return Err("it is a directory".into());
    }
    let mut bytes = Vec::new();
    if data.is_file() {
        file.take(most_bytes + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    } else if pipe == PipePolicy::WaitedFor {
        read_pipe(&mut file, most_bytes, &mut bytes)?;
    } else {
        return Err("it is no longer a regular file, which can be read more than once".into());
    }
    match bytes.len() as u64 > most_bytes {
        true => Err(format!("it is larger than {}KiB", most_bytes >> 10)),
        false => Ok(bytes),
    }
}

fn read_pipe(pipe: &mut File, most_bytes: u64, bytes: &mut Vec<u8>) -> Result<(), String> {
    let start = Instant::now();
    let mut part = [0; 4096];
    while bytes.len() as u64 <= most_bytes {
        match pipe.read(&mut part) {
            Ok(0) if !bytes.is_empty() => break,
            Ok(0) if start.elapsed() > NOBODY => return Err("nobody writes to it".into()),
            Ok(0) => sleep(PAUSE),
            Ok(count) => bytes.extend_from_slice(&part[..count]),
            // There is somebody who has written nothing yet.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if start.elapsed() > SLOW {
                    return Err(format!("whoever writes to it has not ended within {SLOW:?}"));
                }
                sleep(PAUSE);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}
