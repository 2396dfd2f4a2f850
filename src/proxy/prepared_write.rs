//! A write that is ready to be sent, and its way to Sezzle and back.

use std::pin::pin;
use std::sync::Arc;

use super::Proxy;
use super::audited::ToAudit;
use super::content::GatewayResponse;
use super::error::ProxyError;
use super::pressure::Permit;
use super::sending::Sending;
use super::write_report::WriteReport;
use crate::session::ending::Ending;
use crate::session::invalidation::Tag;

/// A write with its permit, and all that its way needs. The write borrows nothing, because it may outlast its caller.
pub(super) struct PreparedWrite {
    pub sending: Sending,
    pub permit: Permit,
    /// The tag that the write purges.
    pub tag: Option<Tag>,
    /// Whether the answer may have links.
    pub carries_links: bool,
    /// `None` if no audit is kept.
    pub to_audit: Option<ToAudit>,
    pub report: WriteReport,
    pub proxy: Arc<Proxy>,
}

/// The result of a write for its caller. The permit is kept until the answer has been sent.
pub(super) struct EndedWrite {
    pub result: Result<GatewayResponse, ProxyError>,
    pub permit: Permit,
    report: WriteReport,
}

impl PreparedWrite {
    /// Purges, sends the write, purges again, and only then gives its result. `None` if the write is cut after it may
    /// have been sent. In a box, because a result is moved several times, and this one is large.
    #[inline]
    pub fn run(self) -> impl Future<Output = Option<Box<EndedWrite>>> + Send + use<> {
        // Not an `async fn`: its future would keep room for `self` beside the parts.
        let Self { mut sending, mut permit, tag, carries_links, to_audit, mut report, proxy } = self;
        async move {
            let Proxy { sessions, exchange, writes, .. } = &*proxy;
            let begun = match to_audit {
                Some(to_audit) => {
                    let begin = writes.unless_cut(Box::pin(to_audit.begin(&mut sending, &mut permit)));
                    begin.await.unwrap_or(Err(ProxyError::Stopping)).map(Some)
                }
                None => Ok(None),
            };
            let (audited, unsent) = match begun {
                // The cut of another write may be what this one has waited for.
                Ok(audited) => (audited, writes.are_cut().then_some(ProxyError::Stopping)),
                Err(error) => (None, Some(error)),
            };
            if let Some(error) = unsent {
                report.conclude_unsent();
                let result = Err(error);
                // The line is queued, and nobody waits for it.
                drop(audited.map(|audited| audited.end(&result, &sending)));
                return Some(Box::new(EndedWrite { result, permit, report }));
            }
            let writing = sessions.begin_write(tag);
            let called = exchange.call(&mut sending, carries_links, &permit);
            let mut result = writes.unless_cut(pin!(called)).await?;
            report.conclude(&mut result);
            let in_audit = audited.map(|audited| Box::pin(audited.end(&result, &sending)));
            // The end of a drain ends the waits for other sidecars and for the audit, but no answer that has come gets
            // lost.
            writes.unless_cut(pin!(writing.end(ending(&result)))).await;
            if let Some(in_audit) = in_audit {
                writes.unless_cut(in_audit).await;
            }
            Some(Box::new(EndedWrite { result, permit, report }))
        }
    }
}

impl EndedWrite {
    /// Logs a result that no caller waits for. `None` was reported when the write was cut.
    pub fn log_unclaimed(ended: Option<Box<Self>>) {
        if let Some(ended) = ended {
            ended.report.log_unclaimed(&ended.result);
        }
    }
}

/// How a write ended for the sessions that it may have changed.
fn ending(result: &Result<GatewayResponse, ProxyError>) -> Ending {
    match result {
        // A gateway that gave up on a server behind it cannot know what that server will still do.
        Ok(answer) if answer.in_doubt || answer.status.is_server_error() => Ending::Unknown,
        Ok(_) => Ending::Answered,
        Err(error) if error.was_not_done() => Ending::NotSent,
        Err(_) => Ending::Unknown,
    }
}
