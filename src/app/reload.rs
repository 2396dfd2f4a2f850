//! Another configuration for a running sidecar: read and checked as a whole, and only then put in force, as far as that
//! takes no restart.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::level_filters::LevelFilter;

use super::App;
use super::parts::{key_sources, proxy_options, session_rules};
use crate::caller::Hosts;
use crate::config::changes::{Changes, diff};
use crate::config::settings::DrainSettings;
use crate::config::{self, Settings};
use crate::credentials::keys::KeySources;
use crate::telemetry::log;

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
    /// Where the keys come from now.
    pub fn key_sources(&self) -> KeySources {
        self.key_sources.borrow().clone()
    }

    /// Puts in force what was [`read`], or says every mistake in it and leaves everything as it is. Nothing in here can
    /// fail half-way; a request that is being served goes on under what it began with.
    pub fn reload(&mut self, read: Result<Settings, Vec<String>>) -> Reloaded {
        let reloaded = match read {
            Ok(settings) => self.apply(settings),
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

    fn apply(&mut self, new: Settings) -> Reloaded {
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
        self.key_sources.send_replace(key_sources(&new));
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

/// Reads the configuration and the keys it names again. `in_use` is where the keys come from now.
///
/// # Errors
/// Every mistake.
pub async fn read(files: Vec<PathBuf>, in_use: KeySources) -> Result<Settings, Vec<String>> {
    // A file system that hangs must not keep the process from anything else.
    let read = spawn_blocking(move || read_blocking(&files, &in_use));
    match timeout(PATIENCE, read).await {
        Ok(Ok(read)) => read,
        Ok(Err(_)) => Err(vec!["the configuration could not be read".to_owned()]),
        Err(_) => Err(vec![format!("the configuration could not be read within {} s", PATIENCE.as_secs())]),
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

fn read_blocking(files: &[PathBuf], in_use: &KeySources) -> Result<Settings, Vec<String>> {
    let loaded = config::load(files, env::vars_os())
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let sources = key_sources(&loaded.settings);
    // Keys that came through a pipe are gone from it.
    if sources != *in_use || !sources.files().is_empty() {
        sources.reload().map_err(|error| vec![format!("credentials: {error}")])?;
    }
    Ok(loaded.settings)
}
