//! Reloads the configuration of a running sidecar. The whole configuration is read and checked first; then every key
//! that needs no restart takes effect.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::App;
use super::callers::{self, CallersInForce};
use super::fleet::times;
use super::from_settings::{config_keys, proxy_options, session_rules};
use super::materials::key_sources;
use crate::caller::Hosts;
use crate::callers::secrets::Secrets;
use crate::config::changes::{Changes, diff, in_force, waiting};
use crate::config::{self, Settings};
use crate::credentials::keys::KeyFiles;
use crate::telemetry::log;
use crate::telemetry::metrics::ConfigReload;
use crate::threads::Threads;

impl App {
    /// Reads the configuration, the merchant's keys and the secrets of callers again. Ends within `READ_TIMEOUT`.
    pub fn read_again(&self, files: Vec<PathBuf>) -> impl Future<Output = Reread> + Send + use<> {
        read(self.blocking.files.clone(), files, self.key_files.borrow().clone())
    }

    /// Puts the new configuration in force, or logs every mistake in it and changes nothing. A reload cannot fail
    /// half-way. Requests in progress finish under the old configuration.
    pub fn reload(&mut self, read: Reread) -> ConfigReload {
        let read = read.and_then(|read| {
            let mistakes: Vec<String> =
                self.exposed_address(&read.settings).into_iter().chain(self.moved_secrets(&read)).collect();
            if mistakes.is_empty() { Ok(read) } else { Err(mistakes) }
        });
        let reloaded = match read {
            Ok(read) => self.apply(read),
            Err(mistakes) => {
                for mistake in &mistakes {
                    tracing::error!(mistake, "configuration not reloaded");
                }
                tracing::error!(mistakes = mistakes.len(), "the previous configuration stays in force");
                ConfigReload::Failed
            }
        };
        self.metrics.config_reloads.with_label_values(&[reloaded.as_str()]).inc();
        let (started, in_use) = (&self.started, &self.reloaded);
        self.status.reloaded(reloaded, config_keys(in_force(started, in_use)), waiting(started, in_use));
        reloaded
    }

    /// A mistake if the new configuration has no callers, and the process listens until a restart on an address that
    /// only callers may reach.
    fn exposed_address(&self, new: &Settings) -> Option<String> {
        let is_opened = new.callers.is_empty() && !self.reloaded.callers.is_empty() && !new.proxy.allow_remote;
        let address = self.started.proxy.remote().next().filter(|_| is_opened)?;
        Some(format!(
            "callers: this process listens on {address} until a restart, and without callers everybody who reaches it \
             could move money; restart the sidecar"
        ))
    }

    /// A mistake for each secret of the new callers that still counts for another caller.
    fn moved_secrets(&self, Configured { settings, secrets, .. }: &Configured) -> Vec<String> {
        let moved = self.callers.borrow().moved_secrets(&settings.callers, secrets, &self.clock);
        moved.into_iter().map(|mistake| format!("callers: {mistake}")).collect()
    }

    fn apply(&mut self, Configured { settings: new, key_files, secrets }: Configured) -> ConfigReload {
        let (started, reloaded) = (&self.started, &self.reloaded);
        let changes = diff(started, reloaded, &new);
        let level = (new.log.level != reloaded.log.level).then_some(new.log.level);
        // The changes are logged at the more verbose of the two levels.
        let quieter = level.filter(|level| *level < reloaded.log.level);
        if quieter.is_some() {
            log_changes(&changes);
        }

        // The new proxy gets the new table of callers, so that no request meets callers of one configuration and limits
        // of another.
        let callers =
            CallersInForce::new(&new.callers, secrets, &self.caller_rules, &self.callers.borrow(), &self.clock);
        self.proxy.store(Arc::new(self.proxy.load().with_options(proxy_options(&new, &callers))));
        callers.create_series(&self.metrics);
        self.status.set_callers(callers.states());
        self.callers.send_replace(callers);
        self.page_hosts.store(Arc::new(Hosts::new(&new.proxy.hosts)));
        self.sessions.change(session_rules(&new));
        if let (Some(pod), Some(fleet)) = (&self.pod, &new.fleet) {
            pod.change(times(&new, fleet));
        }
        // Sent even if the sources are the same: the files may hold another pair.
        self.key_files.send_replace(key_files);
        let _ = level.map(log::set_level);
        *self.reloaded = new;

        if quieter.is_none() {
            log_changes(&changes);
        }
        if changes.need_restart.is_empty() { ConfigReload::Success } else { ConfigReload::NeedsRestart }
    }
}

fn log_changes(Changes { applied, need_restart }: &Changes) {
    let (changed, restart) = (applied.join(", "), need_restart.join(", "));
    // Warnings, because the operator who asked for the reload wants to see these lines, and level `info` has a line for
    // each request.
    if need_restart.is_empty() {
        tracing::warn!(changed, "configuration reloaded");
    } else {
        tracing::warn!(changed, needs_restart = restart, "configuration reloaded, except for keys that need a restart");
    }
}

/// A configuration, or every mistake in it.
pub type Reread = Result<Configured, Vec<String>>;

/// A configuration, and the files that were read for it.
pub struct Configured {
    settings: Settings,
    key_files: KeyFiles,
    /// One element for each caller of the configuration.
    secrets: Vec<Secrets>,
}

async fn read(threads: Threads, files: Vec<PathBuf>, in_use: KeyFiles) -> Reread {
    let read = threads.run(move || read_blocking(&files, &in_use));
    match timeout(READ_TIMEOUT, read).await {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => Err(vec![format!("the sidecar could not read the configuration: {error}")]),
        Err(_) => {
            Err(vec![format!("the sidecar could not read the configuration within {} s", READ_TIMEOUT.as_secs())])
        }
    }
}

// Longer than the wait for a pipe of the configuration.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

fn read_blocking(files: &[PathBuf], in_use: &KeyFiles) -> Reread {
    let loaded = config::load(files, env::vars_os())
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let sources = key_sources(&loaded.settings);
    let read_once = match sources.reload() {
        Ok(_) => Ok(false),
        // Keys that came through a pipe at the start cannot be read again, and stay in use.
        Err(error) if error.is_of_pipe() && in_use.read_once && sources == in_use.sources => Ok(true),
        Err(error) => Err(format!("credentials: {error}")),
    };
    let secrets = callers::read(&loaded.settings.callers);
    match (read_once, secrets) {
        (Ok(read_once), Ok(secrets)) => {
            let key_files = KeyFiles { sources, read_once };
            Ok(Configured { settings: loaded.settings, key_files, secrets })
        }
        (read_once, secrets) => {
            let of_callers = secrets.err().unwrap_or_default();
            let of_callers = of_callers.iter().map(|mistake| format!("callers: {mistake}"));
            Err(read_once.err().into_iter().chain(of_callers).collect())
        }
    }
}
