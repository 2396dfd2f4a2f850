//! A write on its way, in a task of its own: a caller that hangs up does not stop it, and a drain waits for it.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Sessions;
use super::audited::ToAudit;
use super::content::GatewayResponse;
use super::error::ProxyError;
use super::exchange::Exchange;
use super::pressure::Permit;
use super::sending::Sending;
use super::write_report::WriteReport;
use crate::session::ending::Ending;
use crate::session::invalidation::Tag;

/// A write with its permit, and all that its task needs.
pub(super) struct WriteTask {
    pub sending: Sending,
    pub permit: Permit,
    /// The tag that the write purges.
    pub tag: Option<Tag>,
    /// Whether the answer may have links.
    pub carries_links: bool,
    /// `None` if no audit is kept.
    pub to_audit: Option<ToAudit>,
    pub report: WriteReport,
    pub sessions: Arc<Sessions>,
    pub exchange: Arc<Exchange>,
    /// Cancelled at the end of a drain.
    pub cut: CancellationToken,
}

/// The result of a write for its caller. The permit is kept until the answer has been sent.
pub(super) type WriteResult = (Result<GatewayResponse, ProxyError>, Permit);

impl WriteTask {
    /// Purges, sends the write, purges again, and only then gives its result and its permit to the caller. Gives none if
    /// the write is cut after it may have been sent.
    pub fn run(self, give: oneshot::Sender<WriteResult>) -> impl Future<Output = ()> + Send + use<> {
        // Not an `async fn`: its future would keep room for `self` beside the parts.
        let Self { mut sending, permit, tag, carries_links, to_audit, report, sessions, exchange, cut } = self;
        async move {
            // These end before `give` does: a write that is cut is reported before its caller hears of that.
            let (mut report, mut permit) = (report, permit);
            let begun = match to_audit {
                Some(to_audit) => {
                    let begin = cut.run_until_cancelled(Box::pin(to_audit.begin(&mut sending, &mut permit)));
                    begin.await.unwrap_or(Err(ProxyError::Stopping)).map(Some)
                }
                None => Ok(None),
            };
            let audited = match begun {
                Ok(audited) => audited,
                Err(error) => {
                    report.conclude_unsent();
                    let _ = give.send((Err(error), permit));
                    return;
                }
            };
            let writing = sessions.begin_write(tag);
            let called = cut.run_until_cancelled(exchange.call(&mut sending, carries_links, &permit));
            let Some(mut result) = called.await else { return };
            report.conclude(&mut result);
            let in_audit = audited.map(|audited| Box::pin(audited.end(&result, &sending)));
            // The end of a drain ends the waits for other sidecars and for the audit, but no answer that has come gets
            // lost.
            cut.run_until_cancelled(writing.end(ending(&result))).await;
            if let Some(in_audit) = in_audit {
                cut.run_until_cancelled(in_audit).await;
            }
            if let Err((unclaimed, _)) = give.send((result, permit)) {
                report.log_unclaimed(&unclaimed);
            }
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
