//! `run`: the sidecar from its start to its end, as signals and the service manager have it.
//!
//! One task does all of it, so that nothing of it overlaps: it waits for signals, reloads, says how the service fares,
//! and drains.

use std::convert::Infallible;
use std::env;
use std::future::pending;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{Failure, Signals, complain, ended, on_runtime};
use crate::app::reload::{self, Reloaded};
use crate::app::{App, BUILD, StartError};
use crate::clock::Clock;
use crate::config::Settings;
use crate::server::files;
use crate::server::workers::Workers;
use crate::systemd::notify::Notifier;
use crate::systemd::sockets::PassedSockets;
use crate::telemetry::log;

/// Runs the sidecar until a signal, and drains it. `sources` are the files that a reload reads again.
pub(super) fn serve(settings: &Settings, sources: Vec<PathBuf>) -> ExitCode {
    // Before there is a second thread.
    let passed = match PassedSockets::take_over() {
        Ok(passed) => passed,
        Err(error) => return ended(Err(StartError::from(error).into())),
    };
    let log = match log::install(settings.log.format, settings.log.level) {
        Ok(log) => log,
        Err(error) => {
            complain(&format!("{error}\n"));
            return ExitCode::FAILURE;
        }
    };
    // Callers are served by the workers; this thread accepts them, looks after the token and answers operators.
    let result = on_runtime(&mut Builder::new_current_thread(), run(settings, sources, passed));
    // What was logged is written before anything is said of how it ended.
    drop(log);
    ended(result)
}

async fn run(settings: &Settings, sources: Vec<PathBuf>, passed: PassedSockets) -> Result<(), Failure> {
    files::raise_limit();
    // Before anything is served, so that an early signal is not lost.
    let mut signals = Signals::new()?;
    let mut hangups = signal(SignalKind::hangup())?;
    let workers = Workers::start(settings.proxy.workers)?;
    let mut app = App::start_with(workers.clone(), passed, settings, Clock::system())?;
    tracing::info!(
        version = BUILD,
        gateway = settings.gateway.url,
        proxy = app.proxy_addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        control = app.control_address().map(tracing::field::display),
        ops = %app.ops_address(),
        cache_max_bytes = settings.cache.max_bytes,
        workers = settings.proxy.workers,
        "started"
    );
    let mut manager = Manager::new(Notifier::from_environment(|name| env::var_os(name)), workers.clone());
    let mut reading = None;
    loop {
        tokio::select! {
            () = signals.next() => break,
            // Another one that comes meanwhile is seen to afterwards: what was read may be older.
            Some(()) = hangups.recv(), if reading.is_none() => {
                manager.reloading().await;
                reading = Some(tokio::spawn(reload::read(sources.clone(), app.key_sources())));
            }
            read = done(&mut reading) => {
                reading = None;
                manager.reloaded(app.reload(read)).await;
            }
            never = manager.attend(&app) => match never {},
        }
    }
    manager.notifier.stopping(app.drain_timeout().saturating_add(FAREWELL)).await;
    let whole = tokio::select! {
        whole = app.drain_until(signals.next()) => whole,
        never = manager.beat() => match never {},
    };
    // What is cut now has a line in the log as well.
    workers.end().await;
    if whole { Ok(()) } else { Err(Failure::Interrupted) }
}

// From the drain's hard end to that of the process.
const FAREWELL: Duration = Duration::from_secs(5);

async fn done(reading: &mut Option<JoinHandle<Read>>) -> Read {
    match reading {
        Some(reading) => reading.await.unwrap_or_else(|_| Err(vec!["the configuration could not be read".to_owned()])),
        None => pending().await,
    }
}

type Read = Result<Settings, Vec<String>>;

/// What the service manager knows.
struct Manager {
    notifier: Notifier,
    workers: Workers,
    /// Whether it was told that the service is ready: it must not hear of a reload before.
    ready: bool,
}

impl Manager {
    fn new(notifier: Notifier, workers: Workers) -> Self {
        Self { notifier, workers, ready: false }
    }

    /// Says when the service is ready, until then why it is not, and again and again that it works.
    async fn attend(&mut self, app: &App) -> Infallible {
        while !self.ready {
            match app.unready() {
                None => {
                    self.notifier.ready("ready").await;
                    self.ready = true;
                }
                Some(why) => {
                    // For as long as Sezzle cannot be reached: to be started again would not help.
                    self.notifier.starting(why, 10 * STARTING).await;
                    let _ = timeout(STARTING, app.first_token()).await;
                }
            }
        }
        self.beat().await
    }

    async fn beat(&self) -> Infallible {
        let Some(interval) = self.notifier.heartbeat() else { return pending().await };
        loop {
            // Callers are served elsewhere than here.
            self.workers.respond().await;
            self.notifier.alive().await;
            sleep(interval).await;
        }
    }

    async fn reloading(&self) {
        if self.ready {
            self.notifier.reloading().await;
        }
    }

    async fn reloaded(&self, reloaded: Reloaded) {
        if self.ready {
            let status = match reloaded {
                Reloaded::Whole => "ready",
                Reloaded::Partly => "ready; of the last reload some keys need a restart, see the log",
                Reloaded::Not => "ready; the last reload failed, see the log",
            };
            self.notifier.ready(status).await;
        }
    }
}

// Until it is said again why it is not ready, which may have changed.
const STARTING: Duration = Duration::from_secs(3);
