//! Joins the log on a connection, or joins it anew.

use super::conversation::Conversation;
use super::failure::Failure;
use super::log::{Greeting, Rejoin, Step};
use crate::session::SessionCache;
use crate::telemetry::metrics::fleet::{FleetState, RejoinReason};

/// Joins the log, and returns once the log can be polled. `why` says why the log does not go on from the last known
/// entry, if the caller knows that already.
pub async fn join<E: Clone + Send + Sync + 'static>(
    talk: &Conversation<'_>,
    sessions: &SessionCache<E>,
    mut why: Option<Rejoin>,
) -> Result<(), Failure> {
    // Each round makes progress, or follows a change of the log. The link gives up a log that changes all the time.
    for _ in 0..MOST_ROUNDS {
        let greeting = talk.greet().await?;
        let step = talk.pod.lock().greet(&greeting);
        talk.pod.series.set_state(FleetState::Joining);
        let from = match (step, &greeting.ends) {
            (Step::Create, _) | (_, None) => {
                talk.create().await?;
                continue;
            }
            (Step::GoOn(ticket), _) if why.is_none() => {
                let read = talk.poll(ticket.from()).await?;
                let page = read.page();
                why = talk.pod.obey(sessions, &page, |log, now| log.polled(&ticket, &page, now)).err();
                if why.is_none() && page.is_whole {
                    return Ok(());
                }
                continue;
            }
            (Step::GoOn(_), Some((_, newest))) => talk.pod.lock().scan_from(&greeting, newest),
            (Step::Scan(from, reason), _) => {
                why = why.or(Some(reason));
                from
            }
        };
        let read = talk.scan(from).await?;
        let page = read.page();
        match talk.pod.obey(sessions, &page, |log, now| log.rejoin(&greeting, &page, now)) {
            Ok(()) => {
                let is_moved = talk.connection.is_moved;
                talk.pod.series.rejoined(if is_moved { RejoinReason::Moved } else { reason(why, &greeting) });
                return Ok(());
            }
            Err(changed) => why = Some(changed),
        }
    }
    Err(Failure::lost("the log is changed again and again"))
}

fn reason(why: Option<Rejoin>, greeting: &Greeting) -> RejoinReason {
    match why {
        None | Some(Rejoin::Connect) => RejoinReason::Connect,
        // The ACL forbids INFO, so each connection may lead to another server.
        Some(Rejoin::RunId) if greeting.server.is_none() => RejoinReason::Refused,
        Some(Rejoin::RunId) => RejoinReason::RunId,
        Some(Rejoin::Gap) => RejoinReason::Gap,
        Some(Rejoin::Id) => RejoinReason::Id,
    }
}

// 1000 entries a round: more than the log keeps.
const MOST_ROUNDS: usize = 100;
