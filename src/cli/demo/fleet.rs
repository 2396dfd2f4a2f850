//! The tour of a fleet: three sidecars that share sessions and tell each other of writes.

use std::time::Duration;

use http::Method;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

use super::caller::{Answer, Caller, Ids, expect, failed};
use super::server::Server;
use super::sidecar::Sidecar;
use crate::app::App;
use crate::cli::failure::Failure;
use crate::cli::process::{Signals, say};
use crate::simulator::Simulator;

pub(super) async fn run(once: bool, gateway: Simulator, signals: &mut Signals) -> Result<(), Failure> {
    // A terminal that is closed sends SIGHUP, and the server has to end then, too.
    let mut hangup = signal(SignalKind::hangup())?;
    let server = Server::start().await?;
    let (apps, members) = start(&gateway.url(), &server)?;
    let tour = Tour { members, gateway, server };
    let ids = tour.take().await?;
    if once {
        say("The tour is over.\n");
    } else {
        say(&tour.invitation(&ids));
        tokio::select! {
            () = signals.next() => {}
            _ = hangup.recv() => {}
        }
        say("\nStopping.\n");
    }
    let [first, second, third] = apps;
    // No service depends on these sidecars, so no grace.
    tokio::select! {
        _ = async { tokio::join!(first.drain(), second.drain(), third.drain()) } => {}
        () = signals.next() => {}
    }
    tour.gateway.stop().await;
    Ok(())
}

fn start(gateway: &str, server: &Server) -> Result<([App; 3], [Member; 3]), Failure> {
    let mut variables = vec![
        ("FLEET__URL", server.url()),
        ("FLEET__KEY_FILE", server.key_file()?.display().to_string()),
        // The simulated gateway answers a write sooner than the other sidecars hear of it. So the answer waits until
        // they have heard, and a sidecar that cannot ask serves nothing from memory.
        ("FLEET__WRITE_WAIT", "1s".to_owned()),
        ("FLEET__LEASE", "1s".to_owned()),
        ("FLEET__ALONE_TTL", "0s".to_owned()),
        // The machine may be busy.
        ("FLEET__TIMEOUT", "50ms".to_owned()),
    ];
    let first = Sidecar::on_usual_ports(gateway, &variables)?;
    // Sidecars share only sessions whose links lead to the same place. Each pod's sidecar has the same loopback
    // address; here the addresses differ.
    variables.push(("LINKS__BASE_URL", format!("http://{}", first.proxy)));
    let second = Sidecar::on_any_ports(gateway, &variables)?;
    let third = Sidecar::on_any_ports(gateway, &variables)?;
    let members = [&first, &second, &third].map(Member::new);
    Ok(([first.app, second.app, third.app], members))
}

/// One of the sidecars, as its callers see it.
struct Member {
    service: Caller,
    ops: Caller,
}

impl Member {
    fn new(sidecar: &Sidecar) -> Self {
        Self { service: Caller::new(sidecar.proxy), ops: Caller::new(sidecar.ops) }
    }

    /// The first line of /metrics that contains `series`.
    async fn line(&self, series: &str) -> Result<String, Failure> {
        let metrics = self.ops.call(Method::GET, "/metrics", "").await?.body;
        let metrics = String::from_utf8_lossy(&metrics);
        let line = metrics.lines().find(|line| line.contains(series));
        line.map(str::to_owned).ok_or_else(|| failed(&format!("/metrics has no {series}")))
    }

    async fn count(&self, series: &str) -> Result<f64, Failure> {
        let line = self.line(series).await?;
        let value = line.rsplit(' ').next().and_then(|value| value.parse().ok());
        value.ok_or_else(|| failed(&format!("no value: {line}")))
    }

    /// Waits until a series has at least this value, but no longer than `within`. Returns whether the series has that
    /// value.
    async fn reaches(&self, series: &str, least: f64, within: Duration) -> Result<bool, Failure> {
        let reached = async {
            while self.count(series).await? < least {
                sleep(PAUSE).await;
            }
            Ok(true)
        };
        timeout(within, reached).await.unwrap_or(Ok(false))
    }
}

// Series on /metrics, without the prefix of all: the tour reads the page as an operator does.
const SYNCED: &str = r#"fleet_state{state="synced"}"#;
const STORED: &str = r#"fleet_bodies_total{result="stored"}"#;
const HIT: &str = r#"fleet_bodies_total{result="hit"}"#;
const PUBLISHED: &str = r#"fleet_entries_total{direction="published",kind="answered"}"#;
const APPLIED: &str = r#"fleet_entries_total{direction="applied",kind="answered"}"#;

// Each wait takes well under a second, if the machine is not busy.
const TIMEOUT: Duration = Duration::from_secs(20);
const SHARE_TIMEOUT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(10);

struct Tour {
    members: [Member; 3],
    gateway: Simulator,
    /// The last field, because its drop ends the server.
    server: Server,
}

impl Tour {
    async fn take(&self) -> Result<Ids, Failure> {
        let [first, second, third] = &self.members;
        for member in &self.members {
            let synced = member.reaches(SYNCED, 1.0, TIMEOUT).await?;
            expect(synced, &format!("a sidecar did not join the fleet within {} s", TIMEOUT.as_secs()))?;
        }
        say(&format!(
            "This process runs a simulated Sezzle gateway and three sidecars in front of it. The sidecars are a fleet:\n\
             they share sessions and tell each other of writes through {}, which the demo has started.\n\
             They listen on http://{}, http://{} and http://{}.\n\n",
            self.server.program, first.service.at, second.service.at, third.service.at
        ));
        let ids = self.share().await?;
        self.capture(&ids).await?;
        self.show_counts().await?;
        Ok(ids)
    }

    async fn share(&self) -> Result<Ids, Failure> {
        let (ids, [fetched, by_second, by_third, again]) = self.look_up_through_all().await?;
        let path = ids.session_path();
        let shown = |answer: &Answer| format!("   GET {path}: {}\n   Cache-Status: {}\n", answer.status, answer.cache);
        say(&format!(
            "1. A service looks a session up through the first sidecar. The sidecar shares what it fetches:\n{}\n",
            shown(&fetched)
        ));
        say(&format!(
            "2. Another service looks the same session up through the second sidecar. The fleet has the answer:\n{}   \
             Requests that reached the gateway: {}\n\n",
            shown(&by_second),
            self.gateway.count("GET", &path)
        ));
        say(&format!(
            "3. The third sidecar gets two lookups. The fleet answers the first, its own memory the second:\n{}{}\n",
            shown(&by_third),
            shown(&again)
        ));
        Ok(ids)
    }

    /// Looks a new session up through all sidecars. On a busy machine a sidecar may be too late to take the session
    /// that another one has fetched, and goes to the gateway instead. Then this function tries another session.
    async fn look_up_through_all(&self) -> Result<(Ids, [Answer; 4]), Failure> {
        let [first, second, third] = &self.members;
        for _ in 0..ATTEMPTS {
            let before = first.count(STORED).await?;
            let (ids, _) = first.service.create().await?;
            let fetched = first.service.look_up(&ids).await?;
            if !fetched.cache.starts_with("sezzle-fleet; fwd=uri-miss; stored, ")
                || !first.reaches(STORED, before + 1.0, SHARE_TIMEOUT).await?
            {
                continue;
            }
            let by_second = second.service.look_up(&ids).await?;
            let by_third = third.service.look_up(&ids).await?;
            let again = third.service.look_up(&ids).await?;
            let shared = [&by_second, &by_third].iter().all(|answer| answer.cache.starts_with("sezzle-fleet; hit"));
            if shared && again.cache.starts_with("sezzle-sidecar; hit") {
                return Ok((ids, [fetched, by_second, by_third, again]));
            }
        }
        Err(failed("no sidecar took from the fleet what another had fetched"))
    }

    async fn capture(&self, ids: &Ids) -> Result<(), Failure> {
        let [first, _, third] = &self.members;
        self.gateway.complete_checkout(&ids.order);
        let status = first.service.capture(ids).await?;
        let lookup = third.service.look_up(ids).await?;
        let captured = lookup.captured();
        say(&format!(
            "4. The shopper finishes the checkout. A service captures 25.00 USD through the first sidecar: {status}\n   \
             The third sidecar had the session in memory, yet the next lookup through it shows the money:\n   \
             captured {} cents, Cache-Status: {}\n\n",
            captured.unwrap_or_default(),
            lookup.cache
        ));
        expect(captured == Some(2500), "the lookup after the capture does not show the capture")
    }

    async fn show_counts(&self) -> Result<(), Failure> {
        say("5. The sidecars count all this, at /metrics:\n");
        let [first, second, third] = &self.members;
        for (name, member, series) in [("first", first, PUBLISHED), ("second", second, HIT), ("third", third, APPLIED)]
        {
            let counted = member.reaches(series, 1.0, TIMEOUT).await?;
            expect(counted, &format!("the {name} sidecar does not count {series}"))?;
            say(&format!("   {name:6}  {}\n", member.line(series).await?));
        }
        say("\n");
        Ok(())
    }

    fn invitation(&self, ids: &Ids) -> String {
        let Ids { session, order } = ids;
        let [first, second, third] = self.members.each_ref().map(|member| member.service.at);
        let [first_ops, second_ops, third_ops] = self.members.each_ref().map(|member| member.ops.at);
        format!(
            "The sidecars, the gateway and {program} keep running. Try, in another terminal:\n\n\
             \x20 curl -i http://{first}/v2/session/{session}\n\
             \x20 curl -i http://{second}/v2/session/{session}\n\
             \x20 curl -i -X POST http://{first}/v2/order/{order}/capture -H 'Content-Type: application/json' \
             -d '{{\"capture_amount\":{{\"amount_in_cents\":500,\"currency\":\"USD\"}},\"partial_capture\":true}}'\n\
             \x20 curl -i http://{third}/v2/session/{session}\n\
             \x20 curl -sS http://{third_ops}/metrics\n\n\
             Or open a status page in a browser: http://{first_ops}/, http://{second_ops}/, http://{third_ops}/\n\
             docs/fleet.md says how to set a fleet up. Ctrl-C stops everything.\n",
            program = self.server.program
        )
    }
}

// On a machine that is not busy the first attempt is enough.
const ATTEMPTS: usize = 10;
