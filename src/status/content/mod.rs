//! The content of the page in words, from a snapshot: pure. The page and the plain text render it.

mod attention;
pub mod block;
mod callers;
mod certificates;
mod configuration;
mod errors;
mod fleet;
mod hour;
mod known_callers;
mod limits;
pub mod meaning;
mod sezzle;
mod webhooks;

use self::block::Section;
use super::snapshot::Snapshot;
use super::verdict::condition::Condition;
use super::verdict::remark::{Level, Remark};
use super::verdict::remarks;
use super::words::moment;

/// The content of the page in words.
#[derive(Debug)]
pub struct Content {
    pub host: String,
    pub environment: &'static str,
    /// The state in a few words.
    pub state: &'static str,
    pub level: Level,
    /// Sections in reading order. Sections of one group may stand beside each other.
    pub groups: Vec<Vec<Section>>,
    /// The time of the snapshot.
    pub as_of: String,
    /// A sentence on the time that the counts cover.
    pub covers: String,
}

impl Content {
    pub fn of(s: &Snapshot) -> Self {
        let remarks = remarks(s);
        let level = remarks.first().map_or(Level::Well, |remark| remark.level);
        let groups = [
            vec![Some(attention::attention(s, remarks)), Some(attention::overview(s))],
            vec![errors::unknown_writes(s)],
            vec![Some(hour::saved(s))],
            vec![Some(callers::callers(s))],
            vec![known_callers::known_callers(s)],
            vec![Some(hour::latency(s))],
            vec![Some(sezzle::sezzle(s)), Some(sezzle::shed(s))],
            vec![Some(errors::recent(s))],
            vec![Some(limits::limits(s))],
            vec![webhooks::webhooks(s), certificates::certificates(s)],
            vec![fleet::fleet(s)],
            vec![Some(configuration::configuration(s))],
        ];
        let groups = groups.into_iter().map(|group| group.into_iter().flatten().collect());
        Self {
            host: s.about.host.clone(),
            environment: s.about.environment,
            state: state(s, level),
            level,
            groups: groups.filter(|group: &Vec<Section>| !group.is_empty()).collect(),
            as_of: moment(s.now),
            covers: format!("Counts and times of the last hour cover {}.", hour::length(s)),
        }
    }

    pub fn sections(&self) -> impl Iterator<Item = &Section> {
        self.groups.iter().flatten()
    }
}

/// The state in a few words.
pub fn state(s: &Snapshot, worst: Level) -> &'static str {
    match (&s.unready, worst) {
        (Some(_), _) if s.draining => "Stopping",
        (Some(_), _) => "Not ready",
        (None, Level::Trouble) => "Ready, but in trouble",
        (None, Level::Notice) => "Ready, worth a look",
        (None, Level::Well) => "Ready, all is well",
    }
}

/// The id of the section with more about a remark.
pub fn section_of(remark: &Remark) -> &'static str {
    match remark.condition {
        Condition::NotReady
        | Condition::NoToken
        | Condition::TokenNotRenewed
        | Condition::KeysNotUsed
        | Condition::ClockSkew
        | Condition::TaskRestarted => "overview",
        Condition::CallersUnauthorized | Condition::WritesNotSent | Condition::LookupsFailing => "callers",
        Condition::CallersRefused | Condition::CallerSecretsNotUsed => "known-callers",
        Condition::SlowAnswers => "latency",
        Condition::OutcomeUnknown => "unknown-writes",
        Condition::RefusedInDoubt | Condition::LogLost | Condition::AuditFailing => "errors",
        Condition::MoneyShed | Condition::CallsShed => "shed",
        Condition::SezzleFailing | Condition::RateLimited | Condition::ContractDrift => "sezzle",
        Condition::WebhooksUnsigned | Condition::WebhooksNotForwarded | Condition::WebhookUnsubscribed => "webhooks",
        Condition::ConnectionsNearLimit => "limits",
        Condition::CertificateEnds | Condition::CertificateNotUsed => "certificates",
        Condition::ReloadFailed | Condition::RestartNeeded => "configuration",
        Condition::FleetUnsynced
        | Condition::FleetUnpublished
        | Condition::FleetUnconfirmed
        | Condition::FleetRejoining => "fleet",
    }
}
