//! Lines on their way to standard error: a bounded queue and the one thread that writes it.
//!
//! The thread writes by the descriptor, not through the lock of the standard library's stderr, so that a reader who has
//! stopped holds up nobody but this thread.

use std::collections::VecDeque;
use std::io::{self, Write, stderr};
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::vital::is_to_die;

/// Lines that wait at most: with every request logged, what comes while a busy machine lets the thread wait.
const MOST_LINES: usize = 16_384;
/// And their bytes.
const MOST_BYTES: usize = 4 << 20;
/// Lines are written together up to about this size, as many as a pipe takes.
const BATCH_BYTES: usize = 64 << 10;
/// What a pipe takes at once if it takes anything (pipe(7), PIPE_BUF).
const PIPE_BUF: usize = 4096;
/// The thread that writes.
pub(super) const WRITER: &str = "log";

/// The log is the process's, as standard error is.
pub(super) static QUEUE: LogQueue = LogQueue::new();

pub(super) struct LogQueue {
    // Taken to add a line and to take one, never while one is written, nor by a panic that is told.
    lines: Mutex<Lines>,
    came: Condvar,
    all_written: Condvar,
    dropped: AtomicU64,
}

struct Lines {
    waiting: VecDeque<Box<[u8]>>,
    /// Of those that wait, and of those that are being written.
    bytes: usize,
    writer: LogThread,
}

/// The thread that writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LogThread {
    /// Not yet there: lines are kept for it.
    Awaited,
    Runs,
    /// It has died, or never was.
    Gone,
}

impl LogQueue {
    const fn new() -> Self {
        LogQueue {
            lines: Mutex::new(Lines { waiting: VecDeque::new(), bytes: 0, writer: LogThread::Awaited }),
            came: Condvar::new(),
            all_written: Condvar::new(),
            dropped: AtomicU64::new(0),
        }
    }

    /// Starts the thread; `died` is called on it should it panic. Where the system has none to give, lines are dropped, and
    /// the start fails elsewhere.
    pub(super) fn start(&'static self, died: impl FnOnce() + Send + 'static) {
        self.lock().writer = LogThread::Runs;
        let body = || {
            if catch_unwind(AssertUnwindSafe(|| self.write_all())).is_err() {
                self.end();
                died();
            }
        };
        if thread::Builder::new().name(WRITER.into()).spawn(body).is_err() {
            self.end();
        }
    }

    pub(super) fn writer(&self) -> LogThread {
        self.lock().writer
    }

    /// From now on nobody waits for lines to be written, and none is kept.
    fn end(&self) {
        let mut lines = self.lock();
        lines.writer = LogThread::Gone;
        self.dropped.fetch_add(lines.waiting.len() as u64, Ordering::Relaxed);
        lines.waiting.clear();
        drop(lines);
        self.all_written.notify_all();
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Adds a line, if there is room for it.
    pub(super) fn push(&self, line: &[u8]) {
        let lines = self.lock();
        let fits = lines.waiting.len() < MOST_LINES && lines.bytes + line.len() <= MOST_BYTES;
        if fits && lines.writer != LogThread::Gone {
            self.add(lines, line);
        } else {
            drop(lines);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds a line that comes once in the life of a program.
    pub(super) fn push_always(&self, line: &[u8]) {
        self.add(self.lock(), line);
    }

    fn add(&self, mut lines: MutexGuard<'_, Lines>, line: &[u8]) {
        lines.bytes += line.len();
        lines.waiting.push_back(line.into());
        drop(lines);
        self.came.notify_one();
    }

    /// Waits until everything is written, or for `limit`.
    pub(super) fn wait_written(&self, limit: Option<Duration>) {
        let lines = self.lock();
        let unwritten = |lines: &mut Lines| lines.writer == LogThread::Runs && lines.bytes > 0;
        match limit {
            Some(limit) => drop(self.all_written.wait_timeout_while(lines, limit, unwritten)),
            None => drop(self.all_written.wait_while(lines, unwritten)),
        }
    }

    /// The thread: writes lines for as long as the process lives.
    fn write_all(&self) {
        let (mut batch, mut ends) = (Vec::new(), Vec::new());
        loop {
            let empty = |lines: &mut Lines| lines.waiting.is_empty();
            let waited = self.came.wait_while(self.lock(), empty);
            let mut lines = waited.unwrap_or_else(PoisonError::into_inner);
            while batch.len() < BATCH_BYTES
                && let Some(line) = lines.waiting.pop_front()
            {
                batch.extend_from_slice(&line);
                ends.push(batch.len());
            }
            drop(lines);
            if let Err((written, _)) = write(stderr().as_fd(), &batch) {
                let gone = ends.iter().filter(|end| **end > written).count();
                self.dropped.fetch_add(gone as u64, Ordering::Relaxed);
            }
            assert!(!is_to_die(WRITER), "as the test wishes");
            let mut lines = self.lock();
            lines.bytes -= batch.len();
            batch.clear();
            ends.clear();
            if lines.bytes == 0 {
                self.all_written.notify_all();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes all of it, waiting for a reader where there is one; the error says how much was written before it.
fn write(to: BorrowedFd<'_>, bytes: &[u8]) -> Result<(), (usize, Errno)> {
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::write(to, &bytes[written..]) {
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            // Whoever shares a pipe or a terminal with us may have made it so.
            Err(Errno::AGAIN) => match poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err((written, error)),
            },
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

/// Writes a line past the queue, or as much of it as a pipe takes at once; nothing if nobody reads for a second.
pub(super) fn write_now(line: &[u8]) {
    let (stderr, second) = (stderr(), Timespec { tv_sec: 1, tv_nsec: 0 });
    let mut fds = [PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::OUT)];
    if poll(&mut fds, Some(&second)).is_ok_and(|ready| ready > 0) {
        // Whom it was for is not there.
        let _ = rustix::io::write(&stderr, &line[..line.len().min(PIPE_BUF)]);
    }
}

/// What the subscriber writes a line to; it comes whole, in one call.
pub(super) struct LineWriter;

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        QUEUE.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let queue = LogQueue::new();
        (0..MOST_LINES + 2).for_each(|_| queue.push(b"line\n"));
        assert_eq!((queue.lock().waiting.len(), queue.dropped()), (MOST_LINES, 2));
        queue.push_always(b"the last\n");
        assert_eq!(queue.lock().waiting.len(), MOST_LINES + 1);

        let queue = LogQueue::new();
        queue.push(&vec![b'x'; MOST_BYTES]);
        queue.push(b"x");
        assert_eq!((queue.lock().bytes, queue.dropped()), (MOST_BYTES, 1));
    }

    #[test]
    fn a_reader_that_is_gone_or_a_full_disk_is_an_error_and_no_panic() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        assert_eq!(write(writer.as_fd(), b"line\n"), Err((0, Errno::PIPE)));
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        assert_eq!(write(full.as_fd(), b"line\n"), Err((0, Errno::NOSPC)));
    }

    #[test]
    fn a_pipe_that_does_not_block_is_waited_for() {
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let line = vec![b'x'; 1 << 20];
        let read = thread::spawn(move || {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut reader, &mut bytes).map(|_| bytes.len())
        });
        assert_eq!(write(writer.as_fd(), &line), Ok(()));
        drop(writer);
        assert_eq!(read.join().unwrap().unwrap(), 1 << 20);
    }
}
