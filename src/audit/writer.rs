//! The thread that writes the audit file. The thread takes all queued lines, gives them their places in the chain,
//! writes them in one go, and waits for the disk. Meanwhile the next lines gather, so that many calls share a write.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::chain::Chain;
use super::file::{AuditFile, FileError, Tail};
use super::line::{Fields, Tip};
use super::queue::{Job, Queue, Until, Work};
use crate::clock::{Clock, monotonic_micros};
use crate::sezzle::time::format_rfc3339;
use crate::telemetry::metrics::Metrics;

/// Why the audit cannot begin. Messages put the configuration key before this text.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", .path.display())]
pub struct OpenError {
    path: PathBuf,
    cause: FileError,
}

/// The audit file at the start: open, locked, and read back to its end.
#[derive(Debug)]
pub struct OpenFile {
    path: PathBuf,
    file: AuditFile,
    tail: Tail,
}

impl OpenFile {
    /// Opens and locks the file. Blocks as long as the file system does.
    pub fn open(path: PathBuf) -> Result<Self, OpenError> {
        match locked(&path) {
            Ok((file, tail)) => Ok(Self { path, file, tail }),
            Err(cause) => Err(OpenError { path, cause }),
        }
    }
}

fn locked(path: &Path) -> Result<(AuditFile, Tail), FileError> {
    let file = AuditFile::open(path)?;
    file.lock()?;
    let tail = file.tail()?;
    Ok((file, tail))
}

/// Starts the thread, which ends when the queue is closed.
pub fn start(opened: OpenFile, queue: Arc<Queue>, clock: Clock, metrics: Arc<Metrics>) -> io::Result<()> {
    let OpenFile { path, file, tail } = opened;
    let mut writer = Writer { path, queue, clock, metrics, open: None, chain: Chain::EMPTY, failing: false };
    writer.adopt(file, tail);
    let run = move || {
        // A call whose line is gone with a panic counts that line as lost.
        while catch_unwind(AssertUnwindSafe(|| writer.run())).is_err() {
            writer.open = None;
            writer.queue.done();
            thread::sleep(AFTER_PANIC);
        }
        writer.queue.ended();
    };
    // Nothing joins the thread; `Queue::close` waits a limited time for its end.
    thread::Builder::new().name("audit".to_owned()).spawn(run).map(drop)
}

// A repeated panic must not occupy a core.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// The state of the thread.
struct Writer {
    path: PathBuf,
    queue: Arc<Queue>,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// `None` after a failed write. The next write opens the file anew.
    open: Option<Open>,
    chain: Chain,
    failing: bool,
}

/// An open file.
struct Open {
    file: AuditFile,
    /// The first line to write, and whether the file ends in a line break. `None` once that line is written.
    first: Option<(Fields, bool)>,
}

impl Writer {
    fn run(&mut self) {
        if self.open.is_some() {
            // A disk that is full or hangs does not keep the sidecar from starting: the first calls find out.
            self.queue.busy();
            let written = self.write(Vec::new()).and_then(|()| self.sync());
            self.note(written);
            self.queue.done();
        }
        while let Some(Work { jobs, reopen }) = self.queue.next() {
            if !jobs.is_empty() {
                self.commit(jobs);
            }
            if reopen {
                self.reopen();
            }
            self.queue.done();
        }
        self.log_end("the audit chain ends here for now");
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        let began = monotonic_micros();
        let (lines, waiting): (Vec<Fields>, Vec<_>) =
            jobs.into_iter().map(|job| (job.fields, (job.until, job.told))).unzip();
        let mut unwritten = Unwritten { queue: Arc::clone(&self.queue), lines: waiting.len() };
        let written = self.write(lines);
        // A disk that failed may take a write and lose it, so no call goes on before the disk has synced again.
        let is_trusted = written.is_ok() && !self.failing;
        let (at_once, later): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(until, _)| *until == Until::Written && is_trusted);
        tell(at_once, true);
        let synced = written.and_then(|()| self.sync());
        let took = Duration::from_micros(monotonic_micros().saturating_sub(began));
        self.metrics.audit_write.with_label_values(NO_LABELS).observe(took.as_secs_f64());
        let is_synced = synced.is_ok();
        if is_synced {
            unwritten.lines = 0;
        }
        drop(unwritten);
        self.note(synced);
        tell(later, is_synced);
    }

    /// Continues in the file that the path names now, if that is another file. If that fails, the file in use stays.
    fn reopen(&mut self) {
        let opened = AuditFile::open(&self.path).and_then(|new| match &self.open {
            Some(Open { file, .. }) if file.is_same_file(&new)? => Ok(false),
            Some(_) | None => {
                new.lock()?;
                let tail = new.tail()?;
                self.log_end("the audit chain goes on in a new file");
                self.adopt(new, tail);
                Ok(true)
            }
        });
        match opened {
            Ok(true) => {
                let written = self.write(Vec::new()).and_then(|()| self.sync());
                self.note(written);
            }
            Ok(false) => {}
            Err(cause) => {
                let file = self.path.display();
                tracing::error!(%file, %cause, "the audit file cannot be opened anew; the one in use stays");
            }
        }
    }

    fn open(&mut self) -> Result<(), FileError> {
        let (file, tail) = locked(&self.path)?;
        self.adopt(file, tail);
        Ok(())
    }

    /// Continues in this file.
    fn adopt(&mut self, file: AuditFile, Tail { tip, torn, ends_line }: Tail) {
        let mut first = self.dated("open").text("version", env!("CARGO_PKG_VERSION"));
        first = first.number("pid", process::id().into());
        if torn > 0 {
            // With a full disk, each write opens the file anew. The log may be on that disk, so it gets one line.
            if !self.failing {
                let file = self.path.display();
                tracing::warn!(%file, bytes = torn, "the audit file ends in a torn line, which is kept");
            }
            first = first.number("torn", torn);
        }
        if self.chain.adopt(tip) {
            tracing::error!(file = %self.path.display(), "the audit file lacks lines that the sidecar had written");
        }
        first = first.maybe_text("lost", self.chain.lost().map(|lost| lost.to_string()).as_deref());
        self.open = Some(Open { file, first: Some((first, ends_line)) });
    }

    /// Writes lines. In front of them come the line that opens the file and the line about missing lines, if either is
    /// due.
    fn write(&mut self, lines: Vec<Fields>) -> Result<(), FileError> {
        if let Some(Open { file, .. }) = &self.open
            && file.is_removed()?
        {
            tracing::warn!(file = %self.path.display(), "the audit file was removed; the chain goes on in a new one");
            self.open = None;
        }
        if self.open.is_none() {
            self.open()?;
        }
        let missed = self.queue.missed();
        let gap = (missed > 0).then(|| self.dated("gap").number("missed", missed));
        let Some(Open { file, first }) = &mut self.open else { return Ok(()) };
        let first_line = first.as_ref().map(|(fields, _)| fields.clone());
        let (mut text, tip) = self.chain.attempt(first_line.into_iter().chain(gap).chain(lines));
        if text.is_empty() {
            return Ok(());
        }
        if first.as_ref().is_some_and(|(_, ends_line)| !ends_line) {
            text.insert(0, '\n');
        }
        file.append(text.as_bytes())?;
        *first = None;
        self.chain.written(tip);
        self.queue.note_stated(missed);
        Ok(())
    }

    fn sync(&self) -> Result<(), FileError> {
        self.open.iter().try_for_each(|open| open.file.sync()).map_err(FileError::System)
    }

    /// Takes note of how a write ended, and closes the file after a failed one. Logs when writes begin to fail, and
    /// when they succeed again.
    fn note(&mut self, written: Result<(), FileError>) {
        if written.is_err() {
            self.give_up_file();
        }
        let file = self.path.display();
        match written {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::warn!(%file, "the audit file is written again");
            }
            Ok(()) => {}
            Err(cause) => {
                if !self.failing {
                    tracing::error!(%file, %cause, "the audit file cannot be written");
                }
                self.failing = true;
            }
        }
    }

    /// Closes the file after a failed write. Its state is not known, so the next write opens it anew and reads it back.
    /// The next write may also find another file, so the chain goes on from the lines that did get into this one.
    fn give_up_file(&mut self) {
        let tail = self.open.take().and_then(|Open { file, .. }| file.tail().ok());
        self.chain.failed(tail.and_then(|tail| tail.tip));
    }

    fn dated(&self, event: &str) -> Fields {
        Fields::of_event(event).maybe_text("at", format_rfc3339(self.clock.now().wall).as_deref())
    }

    /// Logs the number and the hash of the last line. An auditor who has the log can then tell whether lines were cut
    /// off the end of the file.
    fn log_end(&self, message: &'static str) {
        let Tip { number, hash } = self.chain.tip();
        tracing::warn!(file = %self.path.display(), line = number, %hash, "{message}");
    }
}

/// The number of lines on their way to the disk. `Drop` counts them as missed: the write failed or panicked.
struct Unwritten {
    queue: Arc<Queue>,
    lines: usize,
}

impl Drop for Unwritten {
    fn drop(&mut self) {
        self.queue.add_missed(self.lines);
    }
}

fn tell(all: Vec<(Until, oneshot::Sender<bool>)>, succeeded: bool) {
    for (_, told) in all {
        // The call may have waited long enough.
        let _ = told.send(succeeded);
    }
}

const NO_LABELS: &[&str] = &[];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Cursor;

    use super::*;
    use crate::audit::{Finding, Verifier};

    fn writer(path: PathBuf) -> Writer {
        let (queue, metrics) = (Arc::default(), Arc::new(Metrics::new().expect("valid metrics")));
        Writer { path, queue, clock: Clock::system(), metrics, open: None, chain: Chain::EMPTY, failing: false }
    }

    fn lines(count: usize) -> Vec<Fields> {
        vec![Fields::of_event("begin"); count]
    }

    fn breaks(files: &[&str]) -> Vec<String> {
        let (mut verifier, mut said) = (Verifier::default(), Vec::new());
        for file in files {
            let mut tell = |finding: Finding| {
                if finding.is_break {
                    said.push(finding.to_string());
                }
            };
            verifier.read("audit.log", Cursor::new(file), &mut tell).expect("read");
        }
        said
    }

    /// A full disk takes a part of a write, and then the file is moved away to make room.
    #[test]
    fn the_chain_goes_on_in_a_new_file_from_the_lines_that_a_failed_write_left_in_the_old_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.log");
        let mut writer = writer(path.clone());
        writer.write(lines(2)).expect("written");
        let before = (writer.chain.tip(), fs::read_to_string(&path).expect("the file"));
        writer.write(lines(3)).expect("written");
        // As after a write that failed within its second line.
        let after = fs::read_to_string(&path).expect("the file");
        let first = after.lines().nth(3).expect("the first line of that write");
        let torn = format!("{}{first}\n{{\"at\"", before.1);
        fs::write(&path, &torn).expect("written");
        writer.chain.written(before.0);
        writer.chain.attempt(lines(3));
        writer.note(Err(io::Error::from(io::ErrorKind::StorageFull).into()));

        fs::rename(&path, folder.path().join("moved")).expect("moved");
        writer.write(lines(1)).expect("written");
        assert_eq!(breaks(&[&torn, &fs::read_to_string(&path).expect("the file")]), [""; 0]);
    }

    #[test]
    fn lines_that_are_gone_are_said_to_be_so_even_if_the_next_write_fails() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.log");
        let mut writer = writer(path.clone());
        writer.write(lines(1)).expect("written");
        let short = fs::read_to_string(&path).expect("the file");
        writer.write(lines(1)).expect("written");
        fs::write(&path, &short).expect("written");
        writer.open = None;
        // Opened, and closed again by a write that failed.
        writer.open().expect("opened");
        writer.note(Err(io::Error::from(io::ErrorKind::StorageFull).into()));
        writer.write(lines(1)).expect("written");
        let said = breaks(&[&fs::read_to_string(&path).expect("the file")]);
        assert!(said.len() == 1 && said[0].contains("the file did not have it"), "{said:?}");
    }

    #[test]
    fn lines_that_a_panic_takes_along_leave_a_gap() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.log");
        let mut writer = writer(path.clone());
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _unwritten = Unwritten { queue: Arc::clone(&writer.queue), lines: 3 };
            panic!("within a write");
        }));
        assert!(panicked.is_err());
        writer.write(lines(1)).expect("written");
        let text = fs::read_to_string(&path).expect("the file");
        assert!(text.contains(r#""event":"gap""#) && text.contains(r#""missed":3"#), "{text}");
        // Lines that are written leave none.
        let (told, _) = oneshot::channel();
        writer.commit(vec![Job { fields: Fields::of_event("begin"), until: Until::Written, told }]);
        assert_eq!(writer.queue.missed(), 0);
    }
}
