//! `run`: the sidecar from start to end, under signals and the service manager.
//!
//! One task waits for signals, reloads, reports to the service manager and drains, so these steps never overlap.

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

use super::failure::Failure;
use super::process::{Signals, on_runtime, report};
#[cfg(feature = "simulator")]
use super::process::{complain, program};
use super::second_signal::ends_at_once;
use crate::app::reload::Reread;
use crate::app::{App, BUILD, Blocking, DrainEnd, Materials, Parts, StartError, open_audit};
use crate::audit::OpenFile;
use crate::clock::{Clock, Mono};
use crate::config::{self, Settings};
use crate::server::files;
use crate::server::workers::Workers;
use crate::supervisor::Supervisor;
use crate::systemd::notify::Notifier;
use crate::systemd::sockets::{PassedError, PassedSockets};
use crate::telemetry::log;
use crate::telemetry::metrics::ConfigReload;

/// Runs the sidecar until a signal, and drains it. `sources` are the configuration files, which a reload reads again.
/// `is_bare` says that the command line has no arguments.
pub(super) fn serve(sources: Vec<PathBuf>, is_bare: bool) -> ExitCode {
    // Runs before a second thread exists.
    let passed = PassedSockets::take_over();
    let mut log = None;
    // The workers serve callers; this thread accepts connections, keeps the token and answers operators.
    let result = on_runtime(&mut Builder::new_current_thread(), run(sources, passed, &mut log));
    // Writes the rest of the log before the error is printed.
    drop(log);
    let is_newcomer = is_bare && matches!(result, Err(Failure::Configuration(_)));
    let code = report(result);
    if is_newcomer {
        offer_demo();
    }
    code
}

/// Points people to the demo who start the program without any configuration.
#[cfg(feature = "simulator")]
fn offer_demo() {
    if !env::vars_os().any(|(name, _)| name.to_string_lossy().starts_with("SEZZLE_SIDECAR__")) {
        complain(&format!("To try it without an account: {} demo\n", program()));
    }
}

#[cfg(not(feature = "simulator"))]
fn offer_demo() {}

async fn run(
    sources: Vec<PathBuf>,
    passed: Result<PassedSockets, PassedError>,
    log: &mut Option<log::Guard>,
) -> Result<(), Failure> {
    // The handler comes first, because a SIGHUP without a handler ends the process.
    let mut hangups = signal(SignalKind::hangup())?;
    let mut signals = Signals::new()?;
    let blocking = Blocking::start().map_err(StartError::Thread)?;
    let (settings, materials, audit) = tokio::select! {
        read = read(&blocking, &sources, log) => read?,
        () = signals.next() => return Err(Failure::NotStarted),
    };
    let passed = passed.map_err(StartError::from)?;
    let workers = Workers::start(settings.proxy.workers).map_err(StartError::Thread)?;
    let parts = Parts { workers: workers.clone(), passed, blocking, materials, audit };
    let clock = Clock::system();
    let mut app = App::start_with(parts, &settings, clock.clone())?;
    log_started(&app, &settings);
    let mut manager = Manager {
        notifier: Notifier::from_environment(|name| env::var_os(name)),
        workers: workers.clone(),
        supervisor: app.supervisor.clone(),
        ready: false,
    };
    let mut reading = None;
    loop {
        tokio::select! {
            () = signals.next() => break,
            // A further SIGHUP waits until this reload is over, because this read may have missed that signal's
            // changes.
            Some(()) = hangups.recv(), if reading.is_none() => {
                // The audit leaves a rotated file at once, even if the configuration cannot be read.
                app.reopen_audit();
                manager.reloading().await;
                reading = Some(tokio::spawn(app.read_again(sources.clone())));
            }
            read = finished(&mut reading) => {
                reading = None;
                manager.reloaded(app.reload(read)).await;
            }
            never = manager.attend(&app) => match never {},
        }
    }
    let first = clock.mono();
    manager.notifier.stopping(app.drain_timeout().saturating_add(END_TIMEOUT)).await;
    let end = tokio::select! {
        end = app.drain_until(second_signal(&mut signals, &clock, first)) => end,
        never = manager.beat() => match never {},
    };
    // Requests that end here still get their log lines.
    workers.end().await;
    match end {
        // The operator chose the deadline: a drain that meets it has done what was asked.
        DrainEnd::Whole | DrainEnd::CutByDeadline => Ok(()),
        DrainEnd::CutBySignal => Err(Failure::Interrupted),
    }
}

fn log_started(app: &App, settings: &Settings) {
    tracing::info!(
        version = BUILD,
        gateway = settings.gateway.url,
        proxy = app.addresses.proxy.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        control = app.addresses.control.as_ref().map(tracing::field::display),
        webhooks = app.addresses.webhooks.as_ref().map(tracing::field::display),
        ops = %app.addresses.ops,
        cache_max_bytes = settings.cache.max_bytes,
        workers = settings.proxy.workers,
        "started"
    );
}

/// Waits for a signal that ends the drain at once. A signal at `first` began the drain.
async fn second_signal(signals: &mut Signals, clock: &Clock, first: Mono) {
    loop {
        signals.next().await;
        if ends_at_once(first, clock.mono()) {
            return;
        }
        tracing::info!("another signal came within a second of the first and counts as the same: the drain goes on");
    }
}

/// Reads the configuration, opens the log, and reads the files that the configuration names. Other threads read the
/// files, so that signals work while a file blocks.
async fn read(
    blocking: &Blocking,
    sources: &[PathBuf],
    log: &mut Option<log::Guard>,
) -> Result<(Settings, Materials, Option<OpenFile>), Failure> {
    let files = sources.to_vec();
    let loaded = blocking.files.run(move || config::load(&files, env::vars_os()));
    let unread = || Failure::Unread("configuration", START_TIMEOUT.as_secs());
    let settings = timeout(START_TIMEOUT, loaded).await.map_err(|_| unread())?.map_err(|_| unread())??.settings;
    *log = Some(log::install(std::io::stdout(), settings.log.format, settings.log.level)?);
    log::log_panics();
    files::raise_limit();
    let own = settings.clone();
    let unread = || Failure::Unread("keys and certificates", START_TIMEOUT.as_secs());
    let materials = timeout(START_TIMEOUT, blocking.files.run(move || Materials::read(&own))).await;
    let materials = materials.map_err(|_| unread())?.map_err(|_| unread())??;
    let own = settings.clone();
    let unread = || Failure::Unread("audit", START_TIMEOUT.as_secs());
    let audit = timeout(START_TIMEOUT, blocking.files.run(move || open_audit(&own))).await;
    let audit = audit.map_err(|_| unread())?.map_err(|_| unread())??;
    Ok((settings, materials, audit))
}

// Enough to wait for several pipes in turn, but not for a hanging file system.
const START_TIMEOUT: Duration = Duration::from_secs(30);

// The longest time from the drain's hard end to the end of the process.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Waits for the configuration that a task reads; for ever if no task reads one.
async fn finished(reading: &mut Option<JoinHandle<Reread>>) -> Reread {
    match reading {
        Some(reading) => {
            reading.await.unwrap_or_else(|_| Err(vec!["the sidecar could not read the configuration".to_owned()]))
        }
        None => pending().await,
    }
}

/// The reports to the service manager, and whether readiness was among them.
struct Manager {
    notifier: Notifier,
    workers: Workers,
    supervisor: Supervisor,
    /// Whether readiness was reported. Before that, no reload may be reported.
    ready: bool,
}

impl Manager {
    /// Reports the obstacle until the service is ready, then readiness, and from then on that the service is alive.
    async fn attend(&mut self, app: &App) -> Infallible {
        while !self.ready {
            match app.unready() {
                None => {
                    self.notifier.ready("ready").await;
                    self.ready = true;
                }
                Some(why) => {
                    // Each report extends the start's time limit, because a restart does not help while Sezzle is
                    // unreachable.
                    self.notifier.starting(&why.to_string(), 10 * REPORT_INTERVAL).await;
                    let _ = timeout(REPORT_INTERVAL, app.first_token()).await;
                }
            }
        }
        self.beat().await
    }

    /// Reports at intervals that the service is alive. Waits for ever if the service manager has no watchdog.
    async fn beat(&self) -> Infallible {
        let Some(interval) = self.notifier.heartbeat() else { return pending().await };
        loop {
            // This thread serves no callers, so the workers and the vital tasks are checked.
            self.workers.respond().await;
            self.supervisor.all_alive().await;
            self.notifier.alive().await;
            sleep(interval).await;
        }
    }

    async fn reloading(&self) {
        if self.ready {
            self.notifier.reloading().await;
        }
    }

    async fn reloaded(&self, reloaded: ConfigReload) {
        if self.ready {
            let status = match reloaded {
                ConfigReload::Success => "ready",
                ConfigReload::NeedsRestart => "ready; the last reload changed keys that need a restart, see the log",
                ConfigReload::Failed => "ready; the last reload failed, see the log",
            };
            self.notifier.ready(status).await;
        }
    }
}

// The interval of reports before readiness, because the obstacle may change.
const REPORT_INTERVAL: Duration = Duration::from_secs(3);
