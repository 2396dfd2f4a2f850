//! The audit file on disk: opened to append, locked, and read back to its last whole line.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::line::{Line, Tip};

/// Why a file cannot be the audit file. Messages put the file's name before these texts.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{0}")]
    System(#[from] io::Error),
    #[error("is no regular file")]
    NoFile,
    #[error("is a symbolic link to a file that is not there; name that file here, or make it")]
    Dangling,
    #[error("users other than the owner may write this file (mode {0:03o}); take that right away")]
    Writable(u32),
    #[error("another process writes to this file")]
    Locked,
    #[error("holds no audit line in its last {MOST_TAIL} bytes, so it seems to be another file")]
    Foreign,
}

/// An open audit file, locked against other processes until it is closed.
#[derive(Debug)]
pub struct AuditFile(File);

/// The end of an audit file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The last whole line; `None` in a file without one.
    pub tip: Option<Tip>,
    /// Bytes after that line: a write was cut off there.
    pub torn: u64,
    /// Whether the file is empty or its last byte is a line break.
    pub ends_line: bool,
}

impl AuditFile {
    /// Opens a file, or creates it for its owner alone. Does not lock it yet.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        // A device or a pipe must not make the open wait.
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let open = |create| {
            let mut options = OpenOptions::new();
            options.read(true).append(true).create_new(create).mode(0o600);
            options.custom_flags(flags.bits().cast_signed()).open(path)
        };
        let file = match open(false) {
            // The system creates no file through a link. Its error would say that the file exists.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
                return Err(FileError::Dangling);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = open(true)?;
                // The name of the new file must outlast a crash of the machine, too.
                if let Some(folder) = path.parent() {
                    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
                    File::open(folder)?.sync_all()?;
                }
                file
            }
            opened => opened?,
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(FileError::NoFile);
        }
        match metadata.mode() & 0o777 {
            mode if mode & 0o022 != 0 => Err(FileError::Writable(mode)),
            _ => Ok(Self(file)),
        }
    }

    /// Keeps other processes from writing to the file.
    pub fn lock(&self) -> Result<(), FileError> {
        match self.0.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(FileError::Locked),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// Reads the end of the file.
    pub fn tail(&self) -> Result<Tail, FileError> {
        let length = self.0.metadata()?.len();
        let mut window = TAIL;
        loop {
            let size = window.min(length);
            let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
            self.0.read_exact_at(&mut bytes, length.saturating_sub(size))?;
            let tail = tail_of(&bytes);
            if tail.tip.is_some() || length == 0 || (size == length && !bytes.contains(&b'\n')) {
                return Ok(tail);
            }
            if size == length || window >= MOST_TAIL {
                return Err(FileError::Foreign);
            }
            window = window.saturating_mul(4).min(MOST_TAIL);
        }
    }

    /// Appends bytes, which then outlast a crash of the process.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Waits until the disk has all appended bytes, which then outlast a crash of the machine.
    pub fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    /// Whether the file has no name any more, because it was removed.
    pub fn is_removed(&self) -> io::Result<bool> {
        self.0.metadata().map(|metadata| metadata.nlink() == 0)
    }

    pub fn is_same_file(&self, other: &Self) -> io::Result<bool> {
        let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
        Ok(identity(self.0.metadata()?) == identity(other.0.metadata()?))
    }
}

// A line has about 500 bytes.
const TAIL: u64 = 64 * 1024;
// Each failed write may leave a torn line behind.
const MOST_TAIL: u64 = 4 * 1024 * 1024;

/// The tail of a file that ends with these bytes.
fn tail_of(bytes: &[u8]) -> Tail {
    let ends_line = bytes.last().is_none_or(|byte| *byte == b'\n');
    let mut end = bytes.len();
    let mut torn: u64 = 0;
    while end > 0 {
        let rest = bytes.get(..end).unwrap_or_default();
        let body = rest.strip_suffix(b"\n").unwrap_or(rest);
        let start = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
        if let Some(line) = body.get(start..).and_then(Line::parse) {
            return Tail { tip: Some(line.tip), torn, ends_line };
        }
        torn = torn.saturating_add(u64::try_from(end.saturating_sub(start)).unwrap_or(u64::MAX));
        end = start;
    }
    Tail { tip: None, torn, ends_line }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::line::Fields;
    use super::*;

    fn lines(count: usize) -> (String, Tip) {
        let (mut text, mut tip) = (String::new(), Tip::NONE);
        for _ in 0..count {
            let (line, next) = tip.extend(Fields::of_event("begin"));
            text.push_str(&line);
            text.push('\n');
            tip = next;
        }
        (text, tip)
    }

    #[test]
    fn the_last_whole_line_is_found_behind_whatever_was_torn() {
        let (text, tip) = lines(3);
        let cases = [
            (text.clone(), Some(tip), 0, true),
            (format!("{text}{{\"event\":\"be"), Some(tip), 12, false),
            (format!("{text}{{\"ev\n{{\"e\n"), Some(tip), 9, true),
            // Only the line break is missing.
            (text.trim_end().to_owned(), Some(tip), 0, false),
            ("{\"eve".to_owned(), None, 5, false),
            (String::new(), None, 0, true),
        ];
        for (text, tip, torn, ends_line) in cases {
            assert_eq!(tail_of(text.as_bytes()), Tail { tip, torn, ends_line }, "{text}");
        }
    }

    #[test]
    fn a_file_that_others_may_write_or_another_process_has_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.log");
        let file = AuditFile::open(&path).expect("created");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        file.lock().expect("locked");
        let second = AuditFile::open(&path).expect("opened");
        assert!(matches!(second.lock(), Err(FileError::Locked)));
        assert!(file.is_same_file(&second).expect("known"));
        drop(file);
        second.lock().expect("free");
        for mode in [0o620, 0o602] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
            assert!(matches!(AuditFile::open(&path), Err(FileError::Writable(found)) if found == mode));
        }
        assert!(matches!(AuditFile::open(Path::new("/dev/null")), Err(FileError::NoFile)));
        assert!(matches!(AuditFile::open(folder.path()), Err(FileError::System(_))));
    }

    #[test]
    fn another_file_is_not_taken_for_an_audit_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("other");
        fs::write(&path, "a line\nanother\n").expect("written");
        assert!(matches!(AuditFile::open(&path).expect("opened").tail(), Err(FileError::Foreign)));
        fs::write(&path, "a\n".repeat(4_000_000)).expect("written");
        assert!(matches!(AuditFile::open(&path).expect("opened").tail(), Err(FileError::Foreign)));
    }
}
