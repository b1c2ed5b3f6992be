//! The threads of links: as many as REDIS_LINKS, however many users and databases are cached for.

use std::io;
use std::thread::JoinHandle;

use sync::Mutex;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::vital;

/// What a thread is to start. Bounded: one for each link of a partition.
pub(in crate::readthrough) type LinkStart = Box<dyn FnOnce() + Send>;

/// The threads; each begins with the first link of its number, and ends with all of them.
#[derive(Default)]
pub(crate) struct LinkThreads(Mutex<Vec<Option<LinkThread>>>);

struct LinkThread {
    starts: UnboundedSender<LinkStart>,
    thread: JoinHandle<()>,
}

impl LinkThreads {
    /// Has the thread `number` start something, within its runtime.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(in crate::readthrough) fn run(&self, number: usize, start: LinkStart) -> io::Result<()> {
        let mut threads = self.0.lock();
        if threads.len() <= number {
            threads.resize_with(number + 1, || None);
        }
        let thread = match &mut threads[number] {
            Some(thread) => thread,
            free => free.insert(LinkThread::begin(number)?),
        };
        // One that has died has said so, and ends the program.
        let _ = thread.starts.send(start);
        Ok(())
    }

    /// Ends all of them, and what runs there.
    pub(crate) fn end(&self) {
        let threads = std::mem::take(&mut *self.0.lock());
        for LinkThread { starts, thread } in threads.into_iter().flatten() {
            drop(starts);
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl LinkThread {
    fn begin(number: usize) -> io::Result<LinkThread> {
        let (starts, mut inbox) = unbounded_channel::<LinkStart>();
        let thread = vital::spawn(format!("link-{number}"), move |alive| {
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
            runtime.block_on(alive.during(async {
                while let Some(start) = inbox.recv().await {
                    start();
                }
            }));
            runtime.shutdown_background();
            Ok(())
        })?;
        Ok(LinkThread { starts, thread })
    }
}
