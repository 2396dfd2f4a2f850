//! What a call comes to when Sezzle or the way there fails: one row per fault, eight calls per row. A row holds what
//! arrived at the gateway, what took effect there, and what the caller was told of it.
//!
//! Every call of a row has a gateway and a sidecar of its own, so that no row spends what another one needs.

mod bodies;
mod connecting;
mod gone;
mod keys;
mod property;
mod resets;
mod scene;
mod statuses;
mod tokens;

use std::time::Duration;

use sezzle_sidecar::simulator::Rule;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use self::scene::{Call, Scene};
use crate::support::Setup;

/// What the caller gets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gets {
    /// What Sezzle answers to this call when nothing is wrong.
    Sezzle,
    /// This status from Sezzle, as it came.
    Passed(u16),
    /// This status from Sezzle, with the note that an earlier attempt may have had its effect.
    Marked(u16),
    /// The status of a good answer and a body of so many bytes; nothing tells that it is not whole.
    Short(usize),
    /// The head of a good answer, and a body that visibly breaks off.
    Cut,
    /// An error of the sidecar's: status, and code less its prefix.
    Own(u16, &'static str),
}

use Gets::{Cut, Marked, Own, Passed, Sezzle, Short};

/// The write may have been done.
const UNKNOWN: Gets = Own(504, "outcome_unknown");
/// There was no answer of Sezzle's, and it does not matter whether the call was done.
const FAILED: Gets = Own(502, "upstream_failed");
/// There was none in time.
const LATE: Gets = Own(504, "upstream_timeout");
/// Nothing was sent.
const UNREACHABLE: Gets = Own(503, "upstream_unreachable");
/// Nothing was sent, for want of a token.
const NO_TOKEN: Gets = Own(503, "no_token");

/// What one call comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Expected {
    /// How many attempts arrived at the gateway.
    arrived: usize,
    /// How often the call took effect, if Sezzle lets it have one at all.
    effects: usize,
    gets: Gets,
}

/// How a rule is bent into a fault.
type Bend = fn(Rule) -> Rule;

/// A fault, and what each kind of call comes to.
#[derive(Clone)]
struct Row {
    fault: &'static str,
    setup: fn(Setup) -> Setup,
    /// One after the other, each for so many requests.
    bends: Vec<(u32, Bend)>,
    lookup: Expected,
    order: Expected,
    report: Expected,
    keyed: Expected,
    unkeyed: Expected,
    delete: Option<Expected>,
    limit: Duration,
}

const ALWAYS: u32 = u32::MAX;

impl Row {
    fn new(fault: &'static str) -> Self {
        let whole = Expected { arrived: 1, effects: 0, gets: Sezzle };
        let done = Expected { effects: 1, ..whole };
        Self {
            fault,
            setup: |setup| setup,
            bends: Vec::new(),
            lookup: whole,
            order: whole,
            report: whole,
            keyed: done,
            unkeyed: done,
            delete: None,
            limit: Duration::from_secs(10),
        }
    }

    /// With other settings.
    fn setup(mut self, setup: fn(Setup) -> Setup) -> Self {
        self.setup = setup;
        self
    }

    /// The next request only.
    fn once(self, bend: Bend) -> Self {
        self.times(1, bend)
    }

    /// Every further request.
    fn always(self, bend: Bend) -> Self {
        self.times(ALWAYS, bend)
    }

    fn times(mut self, times: u32, bend: Bend) -> Self {
        self.bends.push((times, bend));
        self
    }

    /// The lookup of a session, another lookup and a report.
    fn reads(self, arrived: usize, gets: Gets) -> Self {
        self.read_whole(arrived, gets).report(arrived, gets)
    }

    /// The lookups, whose bodies the sidecar reads to their end before it answers.
    fn read_whole(mut self, arrived: usize, gets: Gets) -> Self {
        self.lookup = Expected { arrived, effects: 0, gets };
        self.order = self.lookup;
        self
    }

    /// The report, which is passed on as it comes.
    fn report(mut self, arrived: usize, gets: Gets) -> Self {
        self.report = Expected { arrived, effects: 0, gets };
        self
    }

    /// Writes that may be repeated under one key.
    fn keyed(mut self, arrived: usize, effects: usize, gets: Gets) -> Self {
        self.keyed = Expected { arrived, effects, gets };
        self
    }

    /// All other writes.
    fn unkeyed(mut self, arrived: usize, effects: usize, gets: Gets) -> Self {
        self.unkeyed = Expected { arrived, effects, gets };
        self
    }

    /// The one whose answer has no body.
    fn delete(mut self, arrived: usize, effects: usize, gets: Gets) -> Self {
        self.delete = Some(Expected { arrived, effects, gets });
        self
    }

    /// How long one call may take at most.
    fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    fn expects(&self, call: Call) -> Expected {
        match call {
            Call::Lookup => self.lookup,
            Call::Order => self.order,
            Call::Report => self.report,
            Call::Capture | Call::Refund => self.keyed,
            Call::DeleteCheckout => self.delete.unwrap_or(self.unkeyed),
            Call::NewSession | Call::Unknown => self.unkeyed,
        }
    }

    async fn run(self, call: Call) -> Option<String> {
        let setup = (self.setup)(Setup::default());
        let scene = Scene::prepare(call, setup.start().await).await;
        scene.bend(&self.bends);
        let wrong = self.check(&scene).await;
        scene.stop().await;
        wrong
    }

    /// Makes the call, and says what did not go as it should.
    async fn check(&self, scene: &Scene) -> Option<String> {
        let (call, expected) = (scene.call, self.expects(scene.call));
        let wrong = match timeout(self.limit, scene.run(&expected)).await {
            Ok(wrong) => wrong?,
            Err(_) => format!("took longer than {:?}", self.limit),
        };
        Some(format!("{}: {call:?}: {wrong}, expected {expected:?}", self.fault))
    }
}

/// Holds every row to what it says.
async fn hold(rows: Vec<Row>) {
    let mut wrong = Vec::new();
    for row in rows {
        wrong.extend(at_once(Call::ALL.map(|call| row.clone().run(call))).await);
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// What did not go as it should, of calls that are made at the same time.
async fn at_once(calls: impl IntoIterator<Item = impl Future<Output = Option<String>> + 'static>) -> Vec<String> {
    let mut running = JoinSet::new();
    let set = LocalSet::new();
    for call in calls {
        running.spawn_local_on(call, &set);
    }
    set.run_until(running.join_all()).await.into_iter().flatten().collect()
}
