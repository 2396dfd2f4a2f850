//! The result of each call when Sezzle or the connection to it fails: one row per fault, eight calls per row. A row
//! holds the attempts that arrived at the gateway, the effects there, and the answer that the caller got.
//!
//! Every call of a row has a gateway and a sidecar of its own, so that no row uses up limits that another row needs.

mod bodies;
mod gone;
mod keys;
mod no_connection;
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

/// The caller's answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gets {
    /// Sezzle's good answer to this call.
    Sezzle,
    /// This status of Sezzle's, unchanged.
    Passed(u16),
    /// This status of Sezzle's, with the note that an earlier attempt may have taken effect.
    Marked(u16),
    /// The status of a good answer and a body of so many bytes. Nothing shows that the body is not whole.
    Short(usize),
    /// The head of a good answer, and a body that visibly breaks off.
    Cut,
    /// An error of the sidecar's: status, and code without its prefix.
    Own(u16, &'static str),
}

use Gets::{Cut, Marked, Own, Passed, Sezzle, Short};

/// The write may have been done.
const UNKNOWN: Gets = Own(504, "outcome_unknown");
/// Sezzle gave no answer, and it does not matter whether the call took effect.
const FAILED: Gets = Own(502, "upstream_failed");
/// Sezzle gave no answer in time.
const LATE: Gets = Own(504, "upstream_timeout");
/// Nothing was sent.
const UNREACHABLE: Gets = Own(503, "upstream_unreachable");
/// Nothing was sent, because there was no token.
const NO_TOKEN: Gets = Own(503, "no_token");

/// The result of one call.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Expected {
    /// How many attempts arrived at the gateway.
    arrived: usize,
    /// How often the call took effect, for a call that Sezzle lets take effect.
    effects: usize,
    gets: Gets,
}

/// Changes a rule into a fault.
type Bend = fn(Rule) -> Rule;

/// A fault, and the result of each kind of call.
#[derive(Clone)]
struct Row {
    fault: &'static str,
    setup: fn(Setup) -> Setup,
    /// Faults one after the other, each for so many requests.
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

    /// Changes settings of the sidecar.
    fn setup(mut self, setup: fn(Setup) -> Setup) -> Self {
        self.setup = setup;
        self
    }

    /// Applies the fault to the next request only.
    fn once(self, bend: Bend) -> Self {
        self.times(1, bend)
    }

    /// Applies the fault to every further request.
    fn always(self, bend: Bend) -> Self {
        self.times(ALWAYS, bend)
    }

    fn times(mut self, times: u32, bend: Bend) -> Self {
        self.bends.push((times, bend));
        self
    }

    /// The lookup of a session, another lookup, and a report.
    fn reads(self, arrived: usize, gets: Gets) -> Self {
        self.read_whole(arrived, gets).report(arrived, gets)
    }

    /// The lookups. The sidecar reads their bodies to the end before it answers.
    fn read_whole(mut self, arrived: usize, gets: Gets) -> Self {
        self.lookup = Expected { arrived, effects: 0, gets };
        self.order = self.lookup;
        self
    }

    /// The report. The sidecar passes it on as it arrives.
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

    /// The write whose answer has no body.
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

    /// Makes the call, and returns all that went wrong.
    async fn check(&self, scene: &Scene) -> Option<String> {
        let (call, expected) = (scene.call, self.expects(scene.call));
        let wrong = match timeout(self.limit, scene.run(&expected)).await {
            Ok(wrong) => wrong?,
            Err(_) => format!("took longer than {:?}", self.limit),
        };
        Some(format!("{}: {call:?}: {wrong}, expected {expected:?}", self.fault))
    }
}

/// Checks every row.
async fn hold(rows: Vec<Row>) {
    let mut wrong = Vec::new();
    for row in rows {
        wrong.extend(at_once(Call::ALL.map(|call| row.clone().run(call))).await);
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Everything that went wrong, of calls that are made at the same time.
async fn at_once(calls: impl IntoIterator<Item = impl Future<Output = Option<String>> + 'static>) -> Vec<String> {
    let mut running = JoinSet::new();
    let set = LocalSet::new();
    for call in calls {
        running.spawn_local_on(call, &set);
    }
    set.run_until(running.join_all()).await.into_iter().flatten().collect()
}
