//! The tour of one sidecar.

use std::net::SocketAddr;

use http::{Method, StatusCode};
use tokio::task::JoinSet;

use super::caller::{Caller, Ids, expect};
use super::sidecar::Sidecar;
use crate::cli::failure::Failure;
use crate::cli::process::{Signals, say};
use crate::simulator::{SessionKind, Simulator};

pub(super) async fn run(once: bool, gateway: Simulator, signals: &mut Signals) -> Result<(), Failure> {
    let Sidecar { app, proxy, ops } = Sidecar::on_usual_ports(&gateway.url(), &[])?;
    let tour = Tour { service: Caller::new(proxy), gateway };
    let ids = tour.take().await?;
    if once {
        say("The tour is over.\n");
    } else {
        say(&invitation(proxy, ops, &ids));
        signals.next().await;
        say("\nStopping.\n");
    }
    // No service depends on this sidecar, so no grace.
    tokio::select! {
        () = app.drain() => {}
        () = signals.next() => {}
    }
    tour.gateway.stop().await;
    Ok(())
}

struct Tour {
    service: Caller,
    gateway: Simulator,
}

impl Tour {
    async fn take(&self) -> Result<Ids, Failure> {
        say(&format!(
            "This process runs a simulated Sezzle gateway and a sidecar in front of it.\n\
             The sidecar listens on http://{}. No call below carries a key or a token.\n\n",
            self.service.at
        ));
        let (ids, status) = self.service.create().await?;
        let session = &ids.session;
        say(&format!("1. A service creates a session, POST /v2/session: {status}\n   session {session}\n\n"));
        self.look_up_twice(&ids).await?;
        self.look_up_together().await?;
        self.capture(&ids).await?;
        let exchanges = self.gateway.count("POST", "/v2/authentication");
        expect(exchanges == 1, "the sidecar exchanged its keys for a token more than once")?;
        say("5. For the whole tour the sidecar exchanged its keys for a token once.\n\n");
        Ok(ids)
    }

    async fn look_up_twice(&self, ids: &Ids) -> Result<(), Failure> {
        say("2. The service looks it up twice. The second answer comes from memory:\n");
        let path = ids.session_path();
        for _ in 0..2 {
            let answer = self.service.look_up(ids).await?;
            say(&format!("   GET {path}: {}\n   Cache-Status: {}\n", answer.status, answer.cache));
        }
        let fetched = self.gateway.count("GET", &path);
        say(&format!("   Requests that reached the gateway: {fetched}\n\n"));
        expect(fetched == 1, "the second lookup was not answered from the cache")
    }

    async fn look_up_together(&self) -> Result<(), Failure> {
        let ids = self.gateway.create_session(SessionKind::OrderAndTokenize);
        let path = format!("/v2/session/{}", ids.session);
        let mut callers = JoinSet::new();
        for _ in 0..100 {
            let request = self.service.request(Method::GET, &path, "")?;
            let answer = self.service.client.request(request);
            callers.spawn(async move { answer.await.is_ok_and(|answer| answer.status() == StatusCode::OK) });
        }
        let answered = callers.join_all().await.into_iter().filter(|ok| *ok).count();
        let fetched = self.gateway.count("GET", &path);
        say(&format!(
            "3. 100 callers look up another session at once: {answered} answers, {fetched} request to the gateway\n\n"
        ));
        expect(answered == 100 && fetched == 1, "one request did not serve all callers")
    }

    async fn capture(&self, ids: &Ids) -> Result<(), Failure> {
        self.gateway.complete_checkout(&ids.order);
        let status = self.service.capture(ids).await?;
        say(&format!(
            "4. The shopper finishes the checkout. The service captures 25.00 USD through the sidecar: {status}\n"
        ));
        let lookup = self.service.look_up(ids).await?;
        let captured = lookup.captured();
        say(&format!(
            "   The capture's URL does not name the session, yet the next lookup shows the money:\n   \
             captured {} cents, Cache-Status: {}\n\n",
            captured.unwrap_or_default(),
            lookup.cache
        ));
        expect(captured == Some(2500), "the lookup after the capture does not show the capture")
    }
}

fn invitation(proxy: SocketAddr, ops: SocketAddr, ids: &Ids) -> String {
    let Ids { session, order } = ids;
    format!(
        "The sidecar and the gateway keep running. Try, in another terminal:\n\n\
         \x20 curl -i http://{proxy}/v2/session/{session}\n\
         \x20 curl -i -X POST http://{proxy}/v2/order/{order}/capture -H 'Content-Type: application/json' \
         -d '{{\"capture_amount\":{{\"amount_in_cents\":500,\"currency\":\"USD\"}},\"partial_capture\":true}}'\n\
         \x20 curl -i http://{proxy}/v2/order/{order}\n\
         \x20 curl -i -X POST http://{proxy}/v2/authentication -d '{{}}'\n\
         \x20 curl -sS 'http://{proxy}/v2/orders/report?start-date=2026-01-01' -o /dev/null -w '%{{size_download}}'\n\
         \x20 curl -sS http://{ops}/readyz\n\
         \x20 curl -sS http://{ops}/metrics\n\n\
         Or open the status page http://{ops}/ in a browser.\n\
         Ctrl-C stops it.\n"
    )
}
