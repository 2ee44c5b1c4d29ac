//! Where log lines go: through a bounded queue to a thread of their own, so that no log can stop the work.
//!
//! A reader that is gone, a full disk or a pipe that nobody empties costs lines, never a call. Lost lines are counted,
//! and the first line that gets through again says how many there were.

use std::{
    io::{self, Write},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use metrics::counter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::terminal::log_line;

/// Log lines that were not written, because the log could not be written or nobody read it fast enough.
pub(crate) const LOG_LINES_DROPPED: &str = "skein_log_lines_dropped_total";

/// Lines that wait at most, some MiB of them. Beyond it lines are dropped.
const LINES_QUEUED_MAX: usize = 8_192;

/// Longest wait for queued lines at the end of the process.
const FLUSH_MAX: Duration = Duration::from_millis(1_200);

/// Lines that reached the writer and could not be written.
static UNWRITTEN: AtomicU64 = AtomicU64::new(0);

/// Lines that found the queue full, of every log of this process.
static QUEUES: Mutex<Vec<ErrorCounter>> = Mutex::new(Vec::new());

/// Writes what is queued when it is dropped, for [`FLUSH_MAX`] at most.
pub(crate) struct LogGuard {
    worker: Option<WorkerGuard>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let Some(worker) = self.worker.take() else { return };
        let (done, flushed) = mpsc::channel();
        // The worker's own guard says by `println!` that its queue is full, and that may block, or panic, where the log does.
        let flush = move || {
            drop(worker);
            let _ = done.send(());
        };
        if thread::Builder::new().name("skein-log-end".to_owned()).spawn(flush).is_ok() {
            let _ = flushed.recv_timeout(FLUSH_MAX);
        }
    }
}

/// Starts the thread that writes to `target` lines that have colours or have none.
pub(super) fn start(target: impl Write + Send + 'static, has_colours: bool) -> (NonBlocking, LogGuard) {
    let (writer, worker) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_QUEUED_MAX)
        .thread_name("skein-log")
        .finish(BestEffort { target, has_colours, lost: 0 });
    QUEUES.lock().unwrap_or_else(PoisonError::into_inner).push(writer.error_counter());
    (writer, LogGuard { worker: Some(worker) })
}

/// Brings the metric up to date.
pub(super) fn count_dropped() {
    let queues = QUEUES.lock().unwrap_or_else(PoisonError::into_inner);
    let full: usize = queues.iter().map(ErrorCounter::dropped_lines).sum();
    let all = UNWRITTEN.load(Ordering::Relaxed).saturating_add(full as u64);
    counter!(LOG_LINES_DROPPED).absolute(all);
}

/// Writes a line or loses it; the caller never hears of it.
struct BestEffort<W> {
    target: W,
    has_colours: bool,
    /// Lines lost since the last that was written.
    lost: u64,
}

impl<W: Write> BestEffort<W> {
    fn attempt(&mut self, line: &[u8]) -> io::Result<()> {
        if self.lost > 0 {
            writeln!(self.target, "{} lines of this log are missing here: they could not be written", self.lost)?;
            self.lost = 0;
        }
        // What others wrote is in it, and whoever reads the log reads it on a terminal some day.
        self.target.write_all(log_line(&String::from_utf8_lossy(line), self.has_colours).as_bytes())
    }
}

impl<W: Write> Write for BestEffort<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.attempt(line).is_err() {
            self.lost = self.lost.saturating_add(1);
            UNWRITTEN.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // What cannot be flushed is lost like what cannot be written, and counted there.
        let _ = self.target.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes nothing while it is shut.
    struct Door {
        is_shut: bool,
        taken: Vec<u8>,
    }

    impl Write for Door {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.is_shut {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.taken.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            if self.is_shut { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_lost_counted_and_told_of_later() {
        let mut writer = BestEffort { target: Door { is_shut: true, taken: Vec::new() }, has_colours: false, lost: 0 };
        let before = UNWRITTEN.load(Ordering::Relaxed);
        for line in ["one\n", "two\n"] {
            assert_eq!(writer.write(line.as_bytes()).unwrap(), line.len());
            writer.flush().unwrap();
        }
        assert!(UNWRITTEN.load(Ordering::Relaxed) >= before + 2);
        writer.target.is_shut = false;
        writer.write_all(b"three\n").unwrap();
        writer.write_all(b"four\n").unwrap();
        let taken = String::from_utf8(writer.target.taken).unwrap();
        assert_eq!(taken, "2 lines of this log are missing here: they could not be written\nthree\nfour\n");
    }

    #[test]
    fn an_event_is_one_line_without_anything_that_a_terminal_obeys() {
        let mut writer = BestEffort { target: Door { is_shut: false, taken: Vec::new() }, has_colours: false, lost: 0 };
        writer.write_all("INFO a guest's log=\u{1b}[2J\nERROR forged\u{202e}\n".as_bytes()).unwrap();
        let taken = String::from_utf8(writer.target.taken).unwrap();
        assert_eq!(taken, "INFO a guest's log=\\u001b[2J\\u000aERROR forged\\u202e\n");
    }
}
