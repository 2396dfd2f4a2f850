//! The callers of the configuration: reads their secrets at the start, and again and again while the sidecar runs.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::looks::{Looks, Step};
use crate::callers::named::NamedCaller;
use crate::callers::secrets::Secrets;
use crate::callers::table::{Definition, Rules, Table, shared_secrets};
use crate::clock::Clock;
use crate::config::Settings;
use crate::config::settings::CallerSettings;
use crate::credentials::keys::{self, load_again};
use crate::credentials::rotation::INTERVAL;
use crate::credentials::verifier::OVERLAP;
use crate::secret::SecretSource;
use crate::status::snapshot::CallerState;
use crate::supervisor::{Heartbeat, Supervisor};
use crate::telemetry::metrics::reading::series;
use crate::telemetry::metrics::{CALLER_REFUSALS, Metrics};
use crate::threads::Threads;

/// The callers in force, for the proxy and for the task that reads their files.
#[derive(Clone, Debug, Default)]
pub(super) struct CallersInForce {
    pub(super) settings: Arc<[CallerSettings]>,
    /// `None` if the configuration has no caller.
    pub(super) table: Option<Arc<ArcSwap<Table>>>,
}

impl CallersInForce {
    /// The callers of a configuration, whose secrets were read. A secret that differs from the caller's secret in
    /// `before` replaces that secret, which still counts for [`OVERLAP`].
    pub(super) fn new(
        settings: &[CallerSettings],
        secrets: Vec<Secrets>,
        rules: &Rules,
        before: &Self,
        clock: &Clock,
    ) -> Self {
        if settings.is_empty() {
            return Self::default();
        }
        let before = before.table.as_ref().map(|table| table.load_full());
        let callers = settings.iter().map(definition).zip(secrets).collect();
        let table = Table::new(callers, rules.clone(), before.as_deref(), clock.now());
        Self { settings: settings.into(), table: Some(Arc::new(ArcSwap::from_pointee(table))) }
    }

    /// Why these callers may not follow the callers in force: a line for each secret that still counts for another
    /// caller.
    pub(super) fn moved_secrets(&self, settings: &[CallerSettings], secrets: &[Secrets], clock: &Clock) -> Vec<String> {
        let callers: Vec<_> = settings.iter().map(definition).zip(secrets.iter().cloned()).collect();
        self.table.as_ref().map(|table| table.load().moved_secrets(&callers, clock.now())).unwrap_or_default()
    }

    /// The callers for the status page, without counts.
    pub(super) fn states(&self) -> Vec<CallerState> {
        let state = |settings: &CallerSettings| {
            let NamedCaller { name, allow, bounds, told_by, .. } = &*definition(settings).caller;
            let (allow, max_amount) = (allow.shown(), bounds.as_ref().map(ToString::to_string));
            CallerState { name: name.clone(), told_by: told_by.clone(), allow, max_amount, ..CallerState::default() }
        };
        self.settings.iter().map(state).collect()
    }

    /// Creates the series of these callers, and removes the series of all others, so that reloads do not add up.
    pub(super) fn create_series(&self, metrics: &Metrics) {
        let is_there = |name: &str| self.settings.iter().any(|caller| caller.name == name);
        for gone in series(&metrics.caller_refusals) {
            let labels = [gone.label("caller"), gone.label("reason")];
            if !is_there(labels[0]) {
                let _ = metrics.caller_refusals.remove_label_values(&labels);
            }
        }
        for caller in &*self.settings {
            for reason in CALLER_REFUSALS {
                metrics.caller_refusals.with_label_values(&[&caller.name, reason]).inc_by(0);
            }
        }
    }
}

/// The rules that hold for all callers of this configuration.
pub(super) fn rules(settings: &Settings, workers: usize) -> Rules {
    Rules { environment: settings.gateway.environment.as_str(), overlap: OVERLAP, workers }
}

fn definition(settings: &CallerSettings) -> Definition {
    let CallerSettings { name, token_file, pair, certificate, uid, allow, max_amount } = settings;
    let marks = [
        uid.map(|uid| format!("uid {uid}")),
        certificate.as_ref().map(|name| format!("certificate {name}")),
        token_file.as_ref().map(|_| "token".to_owned()),
        pair.as_ref().map(|_| "own keys".to_owned()),
    ];
    let caller = NamedCaller {
        name: name.clone(),
        allow: *allow,
        bounds: max_amount.clone(),
        public_key: pair.as_ref().map(|pair| pair.public_key.clone()),
        told_by: marks.into_iter().flatten().collect::<Vec<_>>().join(", "),
    };
    Definition { caller: Arc::new(caller), uid: *uid, certificate: certificate.clone() }
}

/// Reads the secrets of all callers and makes their table. `None` without callers. The error has every mistake in the
/// secrets. Blocks as long as the file system does.
pub fn read_table(settings: &Settings, clock: &Clock) -> Result<Option<Table>, Vec<String>> {
    let secrets = read(&settings.callers)?;
    let rules = rules(settings, 0);
    let callers = settings.callers.iter().map(definition).zip(secrets).collect();
    Ok((!settings.callers.is_empty()).then(|| Table::new(callers, rules, None, clock.now())))
}

/// Reads the secrets of all callers, one element for each. The error has every mistake in them. Blocks as long as the
/// file system does.
pub(super) fn read(settings: &[CallerSettings]) -> Result<Vec<Secrets>, Vec<String>> {
    let (all, mistakes): (Vec<Secrets>, Vec<Option<String>>) = settings.iter().map(readable).unzip();
    let callers: Vec<_> = settings.iter().map(definition).zip(all.iter().cloned()).collect();
    let mistakes: Vec<String> = mistakes.into_iter().flatten().chain(shared_secrets(&callers)).collect();
    if mistakes.is_empty() { Ok(all) } else { Err(mistakes) }
}

/// Logs a warning for each file that everybody may read.
pub(super) fn warn_of_readers(settings: &[CallerSettings]) {
    for file in settings.iter().flat_map(files) {
        keys::warn_of_readers(&file);
    }
}

fn files(CallerSettings { token_file, pair, .. }: &CallerSettings) -> impl Iterator<Item = SecretSource> {
    let private = pair.as_ref().map(|pair| pair.private_key_file.clone());
    token_file.clone().into_iter().chain(private).map(SecretSource::File)
}

fn read_one(settings: &CallerSettings) -> Result<Secrets, String> {
    let (secrets, mistake) = readable(settings);
    mistake.map_or(Ok(secrets), Err)
}

/// The usable secrets of a caller, and the mistakes in the others as one text.
fn readable(settings: &CallerSettings) -> (Secrets, Option<String>) {
    let CallerSettings { name, token_file, pair, .. } = settings;
    let load = |file: &std::path::PathBuf| {
        let secret = load_again(&SecretSource::File(file.clone())).map_err(|error| error.to_string())?;
        if secret.expose().to_ascii_lowercase().starts_with("sz_pub_") {
            return Err(format!("{}: holds a public key of Sezzle's, which is no secret", file.display()));
        }
        Ok(secret)
    };
    let token = token_file.as_ref().map(load).transpose();
    let private = pair.as_ref().map(|pair| load(&pair.private_key_file)).transpose();
    let wrong: Vec<&str> =
        [&token, &private].into_iter().filter_map(|read| read.as_ref().err()).map(String::as_str).collect();
    let mistake = (!wrong.is_empty()).then(|| format!("caller {name:?}: {}", wrong.join("; ")));
    let public = pair.as_ref().map(|pair| pair.public_key.clone());
    let secrets = Secrets { token: token.ok().flatten(), pair: public.zip(private.ok().flatten()) };
    (secrets, mistake)
}

/// The callers whose files a task reads again, and the task's tools.
#[derive(Clone)]
pub(super) struct Watched {
    pub(super) in_force: watch::Receiver<CallersInForce>,
    pub(super) threads: Threads,
    pub(super) clock: Clock,
}

/// Starts the task that reads the files of callers again, until `stop`.
pub(super) fn keep(supervisor: &Supervisor, watched: Watched, metrics: &Arc<Metrics>, stop: &CancellationToken) {
    let (metrics, stop) = (Arc::clone(metrics), stop.clone());
    supervisor.keep("caller_keeper", Some(HANG_TIMEOUT), move |heartbeat| {
        CallerKeeper { watched: watched.clone(), metrics: Arc::clone(&metrics), heartbeat }.run(stop.clone())
    });
}

/// The task that reads the files of callers again, and uses what they hold.
struct CallerKeeper {
    watched: Watched,
    metrics: Arc<Metrics>,
    heartbeat: Heartbeat,
}

/// A task without a sign of life for this long hangs.
const HANG_TIMEOUT: Duration = Duration::from_secs(60);
const READ_TIMEOUT: Duration = Duration::from_secs(30);
// Changed content is read again after this time, and used if it is still the same.
const SETTLED: Duration = Duration::from_secs(1);

impl CallerKeeper {
    async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.work() => {}
        }
    }

    async fn work(&mut self) {
        loop {
            let in_force = self.watched.in_force.borrow_and_update().clone();
            let mut looks: Vec<Looks<Secrets>> = in_force.settings.iter().map(|_| Looks::default()).collect();
            self.metrics.caller_secrets_unusable.set(0);
            let mut wait = INTERVAL;
            loop {
                self.heartbeat.beat();
                tokio::select! {
                    () = self.watched.clock.sleep(wait) => {}
                    new = self.watched.in_force.changed() => match new {
                        Ok(()) => break,
                        // The process ends.
                        Err(_) => return,
                    },
                }
                let Some(table) = &in_force.table else { continue };
                wait = match self.read(&in_force.settings).await {
                    Some(found) => self.act_on(table, &mut looks, found),
                    None => INTERVAL,
                };
                let unusable = looks.iter().filter(|looks| looks.is_reported()).count();
                self.metrics.caller_secrets_unusable.set(i64::try_from(unusable).unwrap_or(i64::MAX));
            }
        }
    }

    /// Reads the files once, however long that takes. If the file system hangs, a second read would block a second
    /// thread. `None` if the read failed, or if a reload meanwhile may have named other files.
    async fn read(&self, settings: &Arc<[CallerSettings]>) -> Option<Vec<Result<Secrets, String>>> {
        let settings = Arc::clone(settings);
        let mut read = pin!(self.watched.threads.run(move || settings.iter().map(read_one).collect()));
        let mut is_said = false;
        loop {
            match timeout(READ_TIMEOUT, &mut read).await {
                Ok(Ok(found)) => return Some(found),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the sidecar could not read the secrets of callers again");
                    return None;
                }
                Err(_) => {
                    let limit_s = READ_TIMEOUT.as_secs();
                    if !is_said {
                        tracing::warn!(limit_s, "the sidecar could not read the secrets of callers again in time");
                    }
                    is_said = true;
                    self.heartbeat.beat();
                    if self.watched.in_force.has_changed().unwrap_or(true) {
                        return None;
                    }
                }
            }
        }
    }

    /// Uses the secrets that have changed. `looks` and `found` have one element for each caller. Returns the wait until
    /// the next read.
    fn act_on(
        &self,
        table: &ArcSwap<Table>,
        looks: &mut [Looks<Secrets>],
        found: Vec<Result<Secrets, String>>,
    ) -> Duration {
        let before = table.load_full();
        let mut callers = before.in_use();
        let (mut steps, mut changed) = (Vec::new(), Vec::new());
        for (((definition, in_use), looks), found) in callers.iter_mut().zip(looks.iter_mut()).zip(found) {
            match (looks.step(in_use, found.as_ref().map_err(Clone::clone)), found) {
                (Step::Use, Ok(secrets)) => {
                    *in_use = secrets;
                    changed.push((definition.caller.name.clone(), looks));
                }
                (step, _) => steps.push(step),
            }
        }
        let now = self.watched.clock.now();
        let mut shared = shared_secrets(&callers);
        shared.extend(before.moved_secrets(&callers, now));
        if !shared.is_empty() {
            steps.extend(changed.iter_mut().map(|(_, looks)| looks.unusable(shared.join("; "))));
        } else if !changed.is_empty() {
            table.store(Arc::new(Table::new(callers, before.rules().clone(), Some(&before), now)));
            changed.iter_mut().for_each(|(caller, looks)| self.used(caller, looks));
        }
        let wait = if steps.contains(&Step::LookAgain) { SETTLED } else { INTERVAL };
        steps.into_iter().for_each(|step| self.report(step));
        wait
    }

    fn used(&self, caller: &str, looks: &mut Looks<Secrets>) {
        looks.used();
        self.metrics.caller_secret_reloads.with_label_values(&["success"]).inc();
        // A warning, because operators wait for this line before they take the old secret from the caller.
        tracing::warn!(caller, overlap_s = OVERLAP.as_secs(), "the secret of a caller has changed");
    }

    fn report(&self, step: Step) {
        match step {
            Step::Keep | Step::LookAgain | Step::Use => {}
            Step::Restored => tracing::info!("the files of a caller hold the secrets in use again"),
            Step::Report(error) => {
                self.metrics.caller_secret_reloads.with_label_values(&["unusable"]).inc();
                tracing::error!(error, "the changed secret of a caller is not used; the secret in use stays");
            }
        }
    }
}
