//! Reads the files that an operator names: configuration, keys, certificates. All of them are read here.
//!
//! A path may lead to a directory, an endless device or a pipe without a writer. So the reader checks the kind of file
//! first, never waits in `open`, reads a bounded number of bytes, and waits a bounded time for a pipe. A network file
//! system can still hang, so callers read on a thread that nothing else waits for.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::clock::monotonic_micros;

#[derive(Debug)]
pub struct Content {
    /// The whole content. Wiped when dropped, since it may be a secret.
    pub bytes: Zeroizing<Vec<u8>>,
    /// The permission bits of the opened file. The path may name another file by now.
    pub mode: u32,
    /// Whether the content came through a pipe and cannot be read again.
    pub from_pipe: bool,
}

/// How to treat a path that leads to a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipes {
    /// Wait until the pipe's writer has finished: a shell's `<(…)`, or a program that fills a named pipe.
    Wait,
    /// Do not open the pipe, because its content can be read only once.
    Refuse,
}

/// Why a file was not read. Messages put the file's name before these texts.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot be read: {0}")]
    System(#[from] io::Error),
    #[error("cannot be read: is {0}, and not a file")]
    NoFile(&'static str),
    /// The path leads to a pipe, and [`Pipes::Refuse`] was given.
    #[error("cannot be read again: is a pipe")]
    Pipe,
    #[error("cannot be read: is a pipe that nobody writes to (waited for {PIPE_TIMEOUT:?})")]
    NoWriter,
    #[error("cannot be read: is a pipe whose writer has not closed it within {PIPE_TIMEOUT:?}")]
    Unfinished,
    #[error("cannot be read: holds more than {0} bytes")]
    TooLarge(usize),
}

/// Reads a file of at most `most` bytes. Blocks as long as the file system does, on a pipe up to [`PIPE_TIMEOUT`].
pub fn read(path: &Path, most: usize, pipes: Pipes) -> Result<Content, ReadError> {
    // The kind is checked before the open: opening a device can have side effects, and a socket cannot be opened.
    let kind = kind(&std::fs::metadata(path)?)?;
    if kind == Kind::Pipe && pipes == Pipes::Refuse {
        return Err(ReadError::Pipe);
    }
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    // The path may name another file since the check.
    if self::kind(&metadata)? != kind {
        return Err(ReadError::System(io::Error::other("was replaced while it was opened")));
    }
    let mode = metadata.mode() & 0o777;
    let bytes = match kind {
        Kind::Regular => whole(file, most)?,
        Kind::Pipe => piped(file, most)?,
        Kind::Empty => Zeroizing::default(),
    };
    Ok(Content { bytes, mode, from_pipe: kind == Kind::Pipe })
}

/// How long a pipe's writer may take.
pub const PIPE_TIMEOUT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Regular,
    Pipe,
    /// The null device, which some operators use as an empty file.
    Empty,
}

fn kind(metadata: &Metadata) -> Result<Kind, ReadError> {
    let kind = metadata.file_type();
    if kind.is_file() {
        Ok(Kind::Regular)
    } else if kind.is_fifo() {
        Ok(Kind::Pipe)
    } else if kind.is_dir() {
        Err(ReadError::NoFile("a directory"))
    } else if kind.is_socket() {
        Err(ReadError::NoFile("a socket"))
    } else if kind.is_char_device() && metadata.rdev() == NULL_DEVICE {
        Ok(Kind::Empty)
    } else {
        Err(ReadError::NoFile("a device"))
    }
}

// The null device has major 1 and minor 3 on every Linux.
const NULL_DEVICE: u64 = 0x103;

/// Reserves room for a small file at once: a growing buffer would leave pieces of a secret behind in memory.
fn buffer(most: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(most.saturating_mul(2).min(16 * 1024)))
}

fn bounded(bytes: Zeroizing<Vec<u8>>, most: usize) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    if bytes.len() > most { Err(ReadError::TooLarge(most)) } else { Ok(bytes) }
}

fn whole(file: File, most: usize) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    let mut bytes = buffer(most);
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    bounded(bytes, most)
}

/// Reads until a writer has closed the pipe. While there is no writer, each read returns at once with nothing.
fn piped(file: File, most: usize) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    let mut bytes = buffer(most);
    let mut file = file.take(most as u64 + 1);
    let began = monotonic_micros();
    loop {
        let open = match file.read_to_end(&mut bytes) {
            Ok(_) if !bytes.is_empty() => return bounded(bytes, most),
            Ok(_) => false,
            Err(error) if error.kind() == ErrorKind::WouldBlock => true,
            Err(error) => return Err(error.into()),
        };
        if u128::from(monotonic_micros().saturating_sub(began)) >= PIPE_TIMEOUT.as_micros() {
            return Err(if open { ReadError::Unfinished } else { ReadError::NoWriter });
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    fn pipe(folder: &tempfile::TempDir) -> std::path::PathBuf {
        let path = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        path
    }

    fn error(path: &Path, pipes: Pipes) -> String {
        read(path, 16, pipes).expect_err("not read").to_string()
    }

    #[test]
    fn what_is_no_file_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let _socket = UnixListener::bind(path("socket")).expect("bound");
        fs::write(path("large"), [b'x'; 17]).expect("written");
        fs::write(path("full"), [b'x'; 16]).expect("written");
        for (name, expected) in [
            ("", "is a directory, and not a file"),
            ("socket", "is a socket, and not a file"),
            ("large", "holds more than 16 bytes"),
            ("absent", "No such file"),
        ] {
            for pipes in [Pipes::Wait, Pipes::Refuse] {
                let error = error(&path(name), pipes);
                assert!(error.starts_with("cannot be read: ") && error.contains(expected), "{error}");
            }
        }
        assert!(error(Path::new("/dev/zero"), Pipes::Wait).contains("is a device"));
        assert_eq!(read(&path("full"), 16, Pipes::Refuse).expect("read").bytes.len(), 16);
        assert!(read(Path::new("/dev/null"), 16, Pipes::Refuse).expect("read").bytes.is_empty());
    }

    #[test]
    fn a_pipe_is_waited_for_while_somebody_may_write() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = pipe(&folder);
        assert_eq!(error(&path, Pipes::Refuse), "cannot be read again: is a pipe");
        let writer = thread::spawn({
            let path = path.clone();
            move || {
                let mut pipe = OpenOptions::new().write(true).open(path).expect("opened");
                for piece in ["sz_", "pr_"] {
                    pipe.write_all(piece.as_bytes()).expect("written");
                    thread::sleep(Duration::from_millis(50));
                }
            }
        });
        let content = read(&path, 16, Pipes::Wait).expect("read");
        writer.join().expect("no panic");
        assert!(content.from_pipe);
        assert_eq!(*content.bytes, b"sz_pr_");
        assert!(error(&path, Pipes::Wait).contains("is a pipe that nobody writes to"));
    }

    #[test]
    fn a_writer_that_never_ends_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = pipe(&folder);
        // Opened for reading and writing, so that the open does not wait for a reader.
        let mut writer = OpenOptions::new().read(true).write(true).open(&path).expect("opened");
        writer.write_all(b"some").expect("written");
        assert!(error(&path, Pipes::Wait).contains("has not closed it within 5s"));
    }
}
