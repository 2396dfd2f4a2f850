//! Whether Sezzle's bodies still have the documented shape. Bodies are compared beside the calls, never for an answer
//! from memory, and only as many as cost nothing.

pub mod compare;
pub mod shape;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::sleep;

use self::compare::{Difference, Kind, differences};
use self::shape::Subject;
use crate::telemetry::metrics::Metrics;

/// Takes bodies to compare. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Drift(Sender<(Subject, Bytes)>);

/// The task that compares.
#[derive(Debug)]
pub struct Watch {
    bodies: Mutex<Receiver<(Subject, Bytes)>>,
    metrics: Arc<Metrics>,
}

/// Makes both ends.
pub fn drift(metrics: Arc<Metrics>) -> (Drift, Watch) {
    for subject in Subject::WORDS {
        for kind in Kind::WORDS {
            metrics.contract_drift.with_label_values(&[subject, kind]).inc_by(0);
        }
    }
    let (give, bodies) = channel(QUEUE);
    (Drift(give), Watch { bodies: Mutex::new(bodies), metrics })
}

impl Drift {
    /// Offers a body. The body is left out if others wait already.
    pub fn offer(&self, subject: Subject, body: &Bytes) {
        if body.len() <= LARGEST {
            let _ = self.0.try_send((subject, body.clone()));
        }
    }
}

impl Watch {
    /// Compares bodies until nobody offers any.
    pub async fn run(self: Arc<Self>) {
        let (mut bodies, mut logged) = (self.bodies.lock().await, HashSet::new());
        while let Some((subject, body)) = bodies.recv().await {
            self.compare(subject, &body, &mut logged);
            sleep(PAUSE).await;
        }
    }

    fn compare(&self, subject: Subject, body: &[u8], logged: &mut HashSet<(&'static str, Difference)>) {
        // A body that is no JSON is counted where it matters.
        let Ok(body) = serde_json::from_slice(body) else { return };
        for difference in differences(subject.members(), &body) {
            let (route, kind) = (subject.as_str(), difference.kind);
            self.metrics.contract_drift.with_label_values(&[route, kind.as_str()]).inc();
            if logged.len() >= MOST_LOGGED || !logged.insert((route, difference.clone())) {
                continue;
            }
            let member = difference.path;
            match kind {
                Kind::Added => tracing::info!(route, member, "Sezzle's body has a member that is not documented"),
                Kind::Missing => tracing::warn!(route, member, "Sezzle's body lacks a member that is documented"),
                Kind::Type => {
                    tracing::warn!(route, member, "a member of Sezzle's body has another form than documented")
                }
            }
        }
    }
}

const QUEUE: usize = 8;
// A session has a few kilobytes.
const LARGEST: usize = 256 * 1024;
// At most fifty bodies a second, which take a few milliseconds.
const PAUSE: Duration = Duration::from_millis(20);
// Each difference is logged once.
const MOST_LOGGED: usize = 256;
