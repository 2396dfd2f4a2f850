//! Another configuration for a running sidecar: read and checked as a whole, and only then put in force, as far as that
//! takes no restart.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::level_filters::LevelFilter;

use super::App;
use super::parts::{key_sources, proxy_options, session_rules};
use crate::caller::Hosts;
use crate::config::changes::{Changes, diff};
use crate::config::settings::DrainSettings;
use crate::config::{self, Settings};
use crate::credentials::keys::KeyFiles;
use crate::telemetry::log;
use crate::threads::Threads;

/// The configuration in force: the one of the start for keys that need a restart, that of the last reload for others.
pub(super) struct InForce {
    // In boxes, since the app is moved about.
    started: Box<Settings>,
    reloaded: Box<Settings>,
}

impl InForce {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { started: Box::new(settings.clone()), reloaded: Box::new(settings.clone()) }
    }

    pub(super) fn drain(&self) -> &DrainSettings {
        &self.reloaded.drain
    }
}

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// The configuration is in force.
    Whole,
    /// It is, but for keys that need a restart.
    Partly,
    /// It has mistakes, and the one before stays in force.
    Not,
}

impl App {
    /// Begins to read the configuration and the keys it names again. Ends within `PATIENCE`.
    pub fn read_again(&self, files: Vec<PathBuf>) -> impl Future<Output = Read> + Send + use<> {
        read(self.blocking.files.clone(), files, self.key_files.borrow().clone())
    }

    /// Puts in force what was read, or says every mistake in it and leaves everything as it is. Nothing in here can
    /// fail half-way; a request that is being served goes on under what it began with.
    pub fn reload(&mut self, read: Read) -> Reloaded {
        let reloaded = match read {
            Ok((settings, key_files)) => self.apply(settings, key_files),
            Err(mistakes) => {
                for mistake in &mistakes {
                    tracing::error!(mistake, "configuration not reloaded");
                }
                tracing::error!(mistakes = mistakes.len(), "the configuration before stays in force");
                Reloaded::Not
            }
        };
        let result = match reloaded {
            Reloaded::Whole => "success",
            Reloaded::Partly => "needs_restart",
            Reloaded::Not => "failed",
        };
        self.metrics.config_reloads.with_label_values(&[result]).inc();
        reloaded
    }

    fn apply(&mut self, new: Settings, key_files: KeyFiles) -> Reloaded {
        let InForce { started, reloaded } = &self.configuration;
        let changes = diff(started, reloaded, &new);
        let level = (new.log.level != reloaded.log.level).then_some(new.log.level);
        // At the more talkative of the two levels.
        let quieter = level.filter(|level| *level < reloaded.log.level);
        if quieter.is_some() {
            say(&changes);
        }

        self.proxy.store(Arc::new(self.proxy.load().with(proxy_options(&new))));
        self.page_hosts.store(Arc::new(Hosts::new(&new.proxy.hosts)));
        self.sessions.change(session_rules(&new));
        // Sent even if they are the same: what is in the files may be another pair.
        self.key_files.send_replace(key_files);
        set_level(level);
        *self.configuration.reloaded = new;

        if quieter.is_none() {
            say(&changes);
        }
        if changes.need_restart.is_empty() { Reloaded::Whole } else { Reloaded::Partly }
    }
}

fn set_level(level: Option<LevelFilter>) {
    // Without a log there is nothing to set.
    let _ = level.map(log::set_level);
}

fn say(Changes { applied, need_restart }: &Changes) {
    let (changed, restart) = (applied.join(", "), need_restart.join(", "));
    // As warnings: whoever asked for it wants to see it, and at `info` there is a line for each request.
    if need_restart.is_empty() {
        tracing::warn!(changed, "configuration reloaded");
    } else {
        tracing::warn!(changed, needs_restart = restart, "configuration reloaded, but for keys that need a restart");
    }
}

/// A configuration and where its keys come from, or every mistake.
pub type Read = Result<(Settings, KeyFiles), Vec<String>>;

async fn read(threads: Threads, files: Vec<PathBuf>, in_use: KeyFiles) -> Read {
    let read = threads.run(move || read_blocking(&files, &in_use));
    match timeout(PATIENCE, read).await {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => Err(vec![format!("the configuration could not be read: {error}")]),
        Err(_) => Err(vec![format!("the configuration could not be read within {} s", PATIENCE.as_secs())]),
    }
}

// Longer than a pipe is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

fn read_blocking(files: &[PathBuf], in_use: &KeyFiles) -> Read {
    let loaded = config::load(files, env::vars_os())
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let sources = key_sources(&loaded.settings);
    let read_once = match sources.reload() {
        Ok(_) => false,
        // Keys that came through a pipe at the start are gone from it, and stay in use.
        Err(error) if error.is_of_pipe() && in_use.read_once && sources == in_use.sources => true,
        Err(error) => return Err(vec![format!("credentials: {error}")]),
    };
    Ok((loaded.settings, KeyFiles { sources, read_once }))
}
