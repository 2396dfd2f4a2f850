//! The keys in use. Their file is read again while bodies are shared, so that keys are replaced without a restart.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::keys::Keys;
use crate::clock::{Clock, Mono};
use crate::file::Pipes;
use crate::threads::Threads;

/// The keys in use, and their file.
#[derive(Debug)]
pub struct KeyRing {
    file: PathBuf,
    keys: ArcSwap<Keys>,
    reading: Mutex<Reading>,
    /// The threads on which the file is read.
    threads: Threads,
    clock: Clock,
}

#[derive(Debug, Default)]
struct Reading {
    /// When the file was read last.
    last: Mono,
    is_under_way: bool,
    /// The mistake that the log has named last.
    mistake: Option<String>,
}

impl KeyRing {
    /// Begins with keys that were read from `file` a moment ago.
    pub fn new(file: PathBuf, keys: Keys, threads: Threads, clock: Clock) -> Self {
        let reading = Mutex::new(Reading { last: clock.mono(), ..Reading::default() });
        Self { file, keys: ArcSwap::from_pointee(keys), reading, threads, clock }
    }

    /// The keys in use. Starts to read the file again if the last read is [`INTERVAL`] ago.
    pub fn keys(self: &Arc<Self>) -> Arc<Keys> {
        if self.is_due() {
            let this = Arc::clone(self);
            // One read at a time, so that a file system that hangs blocks one thread.
            tokio::spawn(async move {
                let file = this.file.clone();
                let read = this.threads.run(move || Keys::read(&file, Pipes::Refuse)).await;
                this.note(read.map_err(|error| Some(error.to_string())).and_then(|read| {
                    // Keys that came through a pipe stay in use.
                    read.map_err(|error| (!error.is_of_pipe()).then(|| error.to_string()))
                }));
            });
        }
        self.keys.load_full()
    }

    fn is_due(&self) -> bool {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = !reading.is_under_way && self.clock.mono().since(reading.last) >= INTERVAL;
        reading.is_under_way |= is_due;
        is_due
    }

    fn note(&self, read: Result<Keys, Option<String>>) {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        (reading.is_under_way, reading.last) = (false, self.clock.mono());
        match read {
            Ok(keys) => {
                reading.mistake = None;
                if !keys.equal(&self.keys.load()) {
                    let count = keys.all().count();
                    self.keys.store(Arc::new(keys));
                    tracing::info!(file = %self.file.display(), keys = count, "the keys of shared sessions changed");
                }
            }
            Err(Some(mistake)) if reading.mistake.as_ref() != Some(&mistake) => {
                tracing::error!(
                    error = mistake,
                    "the key file of shared sessions cannot be used; the keys stay as they are"
                );
                reading.mistake = Some(mistake);
            }
            Err(_) => {}
        }
    }
}

/// The shortest time between two reads of the file.
pub const INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::fleet::keys::tests::{keys, lines};

    #[tokio::test]
    async fn new_keys_are_used_and_unusable_ones_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("keys");
        let (clock, shift) = Clock::shifted();
        let threads = Threads::start("test", 1).expect("threads");
        let ring = Arc::new(KeyRing::new(file.clone(), keys(&[1]), threads, clock));
        let are = |bytes: &[u8]| ring.keys.load().equal(&keys(bytes));
        // The file is read once more after each interval, and the result is used from then on.
        let read_again = async || {
            shift.advance(INTERVAL);
            ring.keys();
            while ring.reading.lock().unwrap().is_under_way {
                tokio::task::yield_now().await;
            }
        };
        fs::write(&file, lines(&[2, 1])).expect("written");
        ring.keys();
        assert!(!ring.reading.lock().unwrap().is_under_way, "not before the interval is over");
        read_again().await;
        assert!(are(&[2, 1]) && !are(&[1, 2]) && !are(&[2]));
        for content in ["", "half of a k"] {
            fs::write(&file, content).expect("written");
            read_again().await;
            assert!(are(&[2, 1]), "{content:?}");
            assert!(ring.reading.lock().unwrap().mistake.is_some());
        }
        fs::remove_file(&file).expect("removed");
        read_again().await;
        fs::write(&file, lines(&[2])).expect("written");
        read_again().await;
        assert!(are(&[2]) && ring.reading.lock().unwrap().mistake.is_none());
    }
}
