//! Buffers of a worker, lent to the connection whose turn it is: an idle connection holds none.

use std::cell::{Cell, RefCell};

/// Bytes asked for in one read.
const READ_BYTES: usize = 64 * 1024;
/// Output buffers that are kept for the next turn, and the largest that is.
const KEPT_OUTPUTS: usize = 64;
const KEPT_OUTPUT_BYTES: usize = 256 * 1024;

/// The spare buffers of one worker.
#[derive(Default)]
pub(crate) struct BufferPool {
    input: Cell<Box<[u8]>>,
    records: Cell<Box<[u8]>>,
    outputs: RefCell<Vec<Vec<u8>>>,
}

impl BufferPool {
    /// The read buffer; must be given back before the poll ends, or the next one allocates.
    pub(crate) fn take_input(&self) -> Box<[u8]> {
        let spare = self.input.take();
        if spare.is_empty() { vec![0; READ_BYTES].into() } else { spare }
    }

    pub(crate) fn give_input(&self, input: Box<[u8]>) {
        self.input.set(input);
    }

    /// The buffer for what is read and not decrypted yet, as large; to be given back likewise.
    pub(crate) fn take_records(&self) -> Box<[u8]> {
        let spare = self.records.take();
        if spare.is_empty() { vec![0; READ_BYTES].into() } else { spare }
    }

    pub(crate) fn give_records(&self, records: Box<[u8]>) {
        self.records.set(records);
    }

    /// An empty buffer, most likely one with room in it.
    pub(crate) fn take_output(&self) -> Vec<u8> {
        self.outputs.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps a buffer for the next turn. Its bytes are dropped.
    pub(crate) fn give_output(&self, mut output: Vec<u8>) {
        let mut outputs = self.outputs.borrow_mut();
        if output.capacity() > 0 && output.capacity() <= KEPT_OUTPUT_BYTES && outputs.len() < KEPT_OUTPUTS {
            output.clear();
            outputs.push(output);
        }
    }
}
