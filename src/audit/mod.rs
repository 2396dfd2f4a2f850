//! The audit: a line in a file for each write before it is sent and after its answer, each with the hash of the line
//! before. `verify` says where such a chain breaks.
//!
//! A call waits until its first line is written, and its answer until both lines are on the disk, each for a bounded
//! time. With `required`, a call whose first line is not written by then is not sent. The audit never costs a caller
//! the answer to a call that was sent: after the wait the caller gets the answer, and the line may follow.

mod chain;
mod file;
mod line;
mod queue;
mod verify;
mod writer;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use uuid::Uuid;

pub use self::line::Fields;
use self::queue::{Job, Queue, Until};
pub use self::verify::{Finding, Verifier};
pub use self::writer::{OpenError, OpenFile};
use crate::clock::{Clock, Mono};
use crate::sezzle::time::format_rfc3339;
use crate::telemetry::log::throttle::Throttle;
use crate::telemetry::log::{millis, new_request_id};
use crate::telemetry::metrics::{Metrics, words};

/// The audit of one process.
#[derive(Debug)]
pub struct Audit {
    queue: Arc<Queue>,
    /// Whether a call whose first line is not written is refused.
    required: bool,
    late: Throttle,
    clock: Clock,
    metrics: Arc<Metrics>,
}

words! {
    /// The lines of a call.
    pub enum Event {
        /// Before the call is sent.
        Begin = "begin",
        /// After its answer.
        End = "end",
    }
}

words! {
    /// How a call ended.
    pub enum Outcome {
        /// Sezzle carried the call out.
        Done = "done",
        /// Sezzle answered 2xx and did not approve the authorization.
        Declined = "declined",
        /// Sezzle answered that it did not carry the call out.
        Refused = "refused",
        /// Sezzle's last answer was no success, after an attempt that may have had its effect.
        InDoubt = "in_doubt",
        /// The call was sent, and nobody knows whether it was carried out.
        Unknown = "unknown",
        /// Nothing of the call was carried out.
        NotSent = "not_sent",
    }
}

words! {
    /// Whether the line of a call was written before the call went on, and the last line was on the disk, too.
    pub enum Written {
        Yes = "written",
        /// Not in time. The line may follow.
        Late = "late",
        /// The write failed, or too many lines waited.
        Lost = "lost",
    }
}

/// Why a call must not be sent: its first line could not be written, and the audit requires that line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

impl Audit {
    /// Starts the thread that writes the file.
    pub fn start(file: OpenFile, required: bool, clock: Clock, metrics: Arc<Metrics>) -> io::Result<Arc<Self>> {
        for event in Event::WORDS {
            for written in Written::WORDS {
                metrics.audit_lines.with_label_values(&[event, written]).inc_by(0);
            }
        }
        let queue = Arc::new(Queue::default());
        writer::start(file, Arc::clone(&queue), clock.clone(), Arc::clone(&metrics))?;
        Ok(Arc::new(Self { queue, required, late: Throttle::default(), clock, metrics }))
    }

    /// Writes the first line of a call. Fails if the call must not be sent.
    pub async fn begin(self: &Arc<Self>, fields: Fields) -> Result<AuditedCall, Unavailable> {
        let mut call = AuditedCall {
            audit: Arc::clone(self),
            id: new_request_id(),
            began: self.clock.mono(),
            dropped: Some(Outcome::NotSent),
        };
        let fields = self.line(Event::Begin, call.id, fields);
        if self.required && self.queue.is_stuck(STUCK_AFTER) {
            // Lines of calls that are refused at once must not fill the queue.
            call.dropped = None;
            self.count(Event::Begin, Written::Lost);
            return Err(Unavailable);
        }
        let limit = if self.required { REQUIRED_TIMEOUT } else { TIMEOUT };
        let written = self.enqueue(fields, Until::Written).written(&self.queue, limit).await;
        self.count(Event::Begin, written);
        if self.required && written != Written::Yes {
            // The line may be in the file all the same, and the last line of the call tells a reader how it ended.
            return Err(Unavailable);
        }
        call.dropped = Some(Outcome::Unknown);
        Ok(call)
    }

    /// Continues the chain in the file that the path names now.
    pub fn reopen(&self) {
        self.queue.reopen();
    }

    /// Waits a limited time until all queued lines are written. Lines that come later are lost.
    pub fn close(&self) {
        self.queue.close(CLOSE_TIMEOUT);
    }

    fn enqueue(&self, fields: Fields, until: Until) -> Queued {
        let (tell, told) = oneshot::channel();
        Queued(self.queue.push(Job { fields, until, told: tell }).then_some(told))
    }

    fn line(&self, event: Event, call: Uuid, fields: Fields) -> Fields {
        let at = format_rfc3339(self.clock.now().wall);
        let fields = fields.text("event", event.as_str()).text("call", &call.to_string());
        fields.maybe_text("at", at.as_deref())
    }

    fn count(&self, event: Event, written: Written) {
        self.metrics.audit_lines.with_label_values(&[event.as_str(), written.as_str()]).inc();
        if written != Written::Yes
            && let Some(lines) = self.late.count(self.clock.mono())
        {
            tracing::warn!(
                lines,
                event = event.as_str(),
                result = written.as_str(),
                "calls went on without their audit line"
            );
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        // The thread ends when it has written the queued lines.
        self.queue.close(Duration::ZERO);
    }
}

/// A line on its way to the disk; `None` if there was no room for it.
struct Queued(Option<oneshot::Receiver<bool>>);

impl Queued {
    async fn written(self, queue: &Queue, limit: Duration) -> Written {
        let Some(told) = self.0 else { return Written::Lost };
        if queue.is_stuck(STUCK_AFTER) {
            return Written::Late;
        }
        match timeout(limit, told).await {
            Ok(Ok(true)) => Written::Yes,
            Ok(Ok(false) | Err(_)) => Written::Lost,
            Err(_) => Written::Late,
        }
    }
}

/// A call whose first line was queued. If a call is dropped before [`Self::end`], its last line says `not_sent` while
/// [`Audit::begin`] runs, and `unknown` from then on.
#[derive(Debug)]
pub struct AuditedCall {
    audit: Arc<Audit>,
    id: Uuid,
    began: Mono,
    /// The outcome in the last line if the call is dropped; `None` for no line.
    dropped: Option<Outcome>,
}

impl AuditedCall {
    /// Queues the last line of the call at once. The returned future waits a limited time until the disk has the line.
    pub fn end(mut self, outcome: Outcome, fields: Fields) -> impl Future<Output = ()> + Send + use<> {
        self.dropped = None;
        let audit = Arc::clone(&self.audit);
        let waiting = audit.enqueue(self.last_line(outcome, fields), Until::OnDisk);
        async move {
            let written = waiting.written(&audit.queue, TIMEOUT).await;
            audit.count(Event::End, written);
        }
    }

    fn last_line(&self, outcome: Outcome, fields: Fields) -> Fields {
        let took = self.audit.clock.mono().since(self.began);
        let fields = fields.text("outcome", outcome.as_str()).number("ms", millis(took));
        self.audit.line(Event::End, self.id, fields)
    }
}

impl Drop for AuditedCall {
    fn drop(&mut self) {
        if let Some(outcome) = self.dropped {
            // Nobody is left to wait for the line.
            let _ = self.audit.enqueue(self.last_line(outcome, Fields::default()), Until::OnDisk);
        }
    }
}

// Most stalls of a disk are shorter. Half of this time would refuse payments that could be made, and the caller's own
// timeout leaves no room for more.
const REQUIRED_TIMEOUT: Duration = Duration::from_secs(5);
// The call does not depend on the line, so its caller waits no longer than for a slow answer of Sezzle's.
const TIMEOUT: Duration = Duration::from_secs(1);
// When the disk has hung for this long, further calls do not wait for it.
const STUCK_AFTER: Duration = Duration::from_secs(5);
// The end of a drain has a second for the tasks in the background, too.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
