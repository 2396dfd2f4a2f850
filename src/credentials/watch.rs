//! Tells when the key files may have changed. It watches folders, not files: a rename puts another file in one's place,
//! and Kubernetes swaps a link beside the links it mounts.
//!
//! It says that something happened and nothing of what. A missed event costs time only, since the files are read every
//! [`super::rotation::INTERVAL`] anyway.

use std::fs;
use std::future::pending;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;

/// The folders of the key files, to be watched anew whenever one may have been replaced.
#[derive(Debug)]
pub struct Folders {
    files: Vec<PathBuf>,
    inotify: Option<Arc<Receiver>>,
    watched: Vec<i32>,
    /// So that a folder which cannot be watched is not told of at every look.
    warned: bool,
}

/// What happens in those folders.
#[derive(Debug)]
pub struct Events(Option<Arc<Receiver>>);

/// Watches the folders of these files. Where that is not possible, no event ever comes.
pub fn watch(files: Vec<PathBuf>) -> (Folders, Events) {
    let inotify = if files.is_empty() { None } else { open() }.map(Arc::new);
    let files = files.into_iter().map(|file| absolute(&file).unwrap_or(file)).collect();
    let events = Events(inotify.clone());
    (Folders { files, inotify, watched: Vec::new(), warned: false }, events)
}

fn open() -> Option<Receiver> {
    let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(io::Error::from);
    // It is no pipe, but is read like one: bytes come when there is something to tell.
    match inotify.and_then(Receiver::from_owned_fd_unchecked) {
        Ok(inotify) => Some(inotify),
        Err(error) => {
            tracing::warn!(%error, "key files cannot be watched; they are read every 30 s instead");
            None
        }
    }
}

impl Folders {
    /// Watches the folders that have these names now, and no others. To be called before the files are read, so that a
    /// change after that is told of.
    pub fn renew(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        let mut watched = Vec::new();
        let mut failed = None;
        for file in &self.files {
            let target = fs::canonicalize(file).ok();
            let own = file.parent().unwrap_or(file);
            match inotify::add_watch(inotify, own, CONTENT | ALWAYS) {
                Ok(number) => watched.push(number),
                // In the middle of being replaced. If it stays away, reading the files says so.
                Err(Errno::NOENT) => {}
                Err(error) => failed = Some((own.display(), io::Error::from(error))),
            }
            // The folder itself may be replaced, or be a link that is; and a link's target may be written to. Neither is
            // told of when it cannot be watched: few need it.
            let others = [(own.parent(), NAMES), (target.as_deref().and_then(Path::parent), CONTENT)];
            watched.extend(
                others
                    .into_iter()
                    .filter_map(|(folder, what)| inotify::add_watch(inotify, folder?, what | ALWAYS).ok()),
            );
        }
        for gone in self.watched.iter().filter(|number| !watched.contains(number)) {
            // The system has ended it already if the folder is gone.
            let _ = inotify::remove_watch(inotify, *gone);
        }
        self.watched = watched;
        if let (false, Some((folder, error))) = (self.warned, &failed) {
            tracing::warn!(%folder, %error, "folder cannot be watched; the key files are read every 30 s instead");
        }
        self.warned = failed.is_some();
    }
}

impl Events {
    /// Waits until something has happened.
    pub async fn changed(&self) {
        let Some(inotify) = &self.0 else { return pending().await };
        loop {
            if inotify.readable().await.is_err() {
                return pending().await;
            }
            match inotify.try_read(&mut [0; 4096]) {
                Ok(_) => return,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => return pending().await,
            }
        }
    }
}

const CONTENT: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVE_SELF)
    .union(NAMES);
const NAMES: WatchFlags = WatchFlags::CREATE.union(WatchFlags::MOVED_TO);
// One folder may be watched for several reasons.
const ALWAYS: WatchFlags = WatchFlags::ONLYDIR.union(WatchFlags::MASK_ADD);
