//! Keeps the certificate of the proxy listener up to date with its files.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::App;
use super::error::StartError;
use super::looks::{Looks, Step};
use super::tls_files::{self, CLIENT_CA, Fingerprint, Mistake, UsableFiles};
use crate::clock::Clock;
use crate::config::settings::TlsSettings;
use crate::server::tls::Tls;
use crate::telemetry::metrics::{Metrics, TLS_KINDS, TLS_VERSIONS};
use crate::threads::Threads;
use crate::upstream::certificate::Certificate;
use crate::upstream::connector::SeenCertificate;

impl App {
    /// Makes the listener's TLS of these files, and starts the task that follows their changes. `shown` gets the
    /// certificate for the status page.
    pub(super) fn keep_certificate(
        &self,
        files: (TlsSettings, UsableFiles),
        shown: SeenCertificate,
        clock: Clock,
    ) -> Result<Tls, StartError> {
        let from_pipe = files.1.from_pipe;
        let (threads, metrics) = (self.blocking.files.clone(), Arc::clone(&self.metrics));
        let (keeper, tls) = CertificateKeeper::new(files, shown, threads, clock, metrics)?;
        if !from_pipe {
            let (keeper, stop) = (Arc::new(tokio::sync::Mutex::new(keeper)), self.background_stop.clone());
            self.supervisor.keep("certificate_keeper", None, move |_| {
                let (keeper, stop) = (Arc::clone(&keeper), stop.clone());
                async move { keeper.lock().await.run(stop).await }
            });
        }
        Ok(tls)
    }
}

/// Reads the files again and again, and hands changed ones to the listener.
struct CertificateKeeper {
    files: TlsSettings,
    tls: Tls,
    in_use: Fingerprint,
    looks: Looks<Fingerprint>,
    shown: SeenCertificate,
    threads: Threads,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl CertificateKeeper {
    /// Begins with the files as the start has read them.
    fn new(
        (files, found): (TlsSettings, UsableFiles),
        shown: SeenCertificate,
        threads: Threads,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Tls), rustls::Error> {
        let UsableFiles { offer, fingerprint, certificate, .. } = found;
        let tls = Tls::new(offer)?;
        for gauges in [&metrics.tls_files_unusable, &metrics.tls_handshakes_under_way] {
            gauges.with_label_values(&[PROXY]).set(0);
        }
        for (version, kind) in TLS_VERSIONS.into_iter().flat_map(|version| TLS_KINDS.map(|kind| (version, kind))) {
            metrics.tls_handshakes.with_label_values(&[PROXY, version, kind]).inc_by(0);
        }
        for result in [SUCCESS, UNUSABLE] {
            metrics.tls_reloads.with_label_values(&[PROXY, result]).inc_by(0);
        }
        let keeper = Self {
            files,
            tls: tls.clone(),
            in_use: fingerprint,
            looks: Looks::default(),
            shown,
            threads,
            clock,
            metrics,
        };
        keeper.note_certificate(certificate);
        Ok((keeper, tls))
    }

    async fn run(&mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.work() => {}
        }
    }

    async fn work(&mut self) {
        loop {
            self.clock.sleep(INTERVAL).await;
            self.look().await;
        }
    }

    /// Reads the files once, however long that takes. If the file system hangs, a second read would block a second
    /// thread.
    async fn look(&mut self) {
        let (files, in_use, now) = (self.files.clone(), self.in_use.clone(), self.clock.now().wall);
        let threads = self.threads.clone();
        let mut read = pin!(threads.run(move || tls_files::read_again(&files, &in_use, now)));
        let found = loop {
            match timeout(READ_TIMEOUT, &mut read).await {
                Ok(Ok(found)) => break found.map_err(|mistakes| texts(&mistakes)),
                Ok(Err(error)) => break Err(error.to_string()),
                Err(_) => {
                    self.act_on(Err(format!("the files could not be read within {} s", READ_TIMEOUT.as_secs())));
                }
            }
        };
        self.act_on(found);
    }

    /// Uses files that have changed. `None` stands for files that have not changed.
    fn act_on(&mut self, found: Result<Option<UsableFiles>, String>) {
        let fingerprint = match &found {
            Ok(found) => Ok(found.as_ref().map_or(&self.in_use, |found| &found.fingerprint)),
            Err(why) => Err(why.clone()),
        };
        let step = match (self.looks.step(&self.in_use, fingerprint), found) {
            (Step::Use, Ok(Some(found))) => {
                self.change(found).map_or_else(|error| self.looks.unusable(error.to_string()), |()| Step::Keep)
            }
            (step, _) => step,
        };
        match step {
            Step::Keep | Step::LookAgain | Step::Use => {}
            Step::Restored => {
                self.note_usable();
                tracing::info!("the files of proxy.tls hold the certificate in use again");
            }
            Step::Report(why) => {
                self.metrics.tls_files_unusable.with_label_values(&[PROXY]).set(1);
                self.metrics.tls_reloads.with_label_values(&[PROXY, UNUSABLE]).inc();
                tracing::warn!(why, "the files of proxy.tls have changed and cannot be used; those before stay in use");
            }
        }
    }

    fn change(&mut self, found: UsableFiles) -> Result<(), rustls::Error> {
        let UsableFiles { offer, fingerprint, certificate, ended, .. } = found;
        let same_authorities = fingerprint.callers == self.in_use.callers;
        let same_pair = fingerprint.pair == self.in_use.pair;
        self.tls.change(offer, same_authorities)?;
        self.in_use = fingerprint;
        self.looks.used();
        self.note_usable();
        self.metrics.tls_reloads.with_label_values(&[PROXY, SUCCESS]).inc();
        if !same_pair {
            let Certificate { subject, issuer, .. } = &certificate;
            tracing::info!(subject, issuer, "the proxy listener shows a new certificate");
        }
        if !same_authorities {
            tracing::info!("the proxy listener verifies the certificates of callers by other authorities");
            for text in ended {
                tracing::warn!(key = CLIENT_CA, "{text}");
            }
        }
        self.note_certificate(certificate);
        Ok(())
    }

    fn note_usable(&self) {
        self.metrics.tls_files_unusable.with_label_values(&[PROXY]).set(0);
    }

    /// Shows the certificate in the metrics and on the status page.
    fn note_certificate(&self, certificate: Certificate) {
        let ends = certificate.not_after.0.div_euclid(1000);
        self.metrics.tls_certificate_expiry.with_label_values(&[PROXY]).set(ends);
        self.shown.set(certificate);
    }
}

/// All mistakes in one line.
fn texts(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(|mistake| mistake.text.as_str()).collect::<Vec<_>>().join("; ")
}

const PROXY: &str = "proxy";
const SUCCESS: &str = "success";
const UNUSABLE: &str = "unusable";

// A change is used, and a mistake reported, after two looks. Both happen within five seconds.
const INTERVAL: Duration = Duration::from_secs(2);
// As long as the start waits for a pipe.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
