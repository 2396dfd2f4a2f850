//! The remarks on conditions that need an operator's attention. Pure.
//!
//! Each of our alerts that can fire because of one process has its [`condition`] here, with a limit that is not above
//! the alert's and a time that is not shorter than the alert's. A test compares both lists.

mod callers;
pub mod calls;
pub mod condition;
mod fleet;
mod keys;
mod process;
pub mod remark;
mod webhooks;
mod writes;

use std::cmp::Reverse;

use self::remark::{Level, Remark};
use super::snapshot::Snapshot;

/// All problems, the worst first.
pub fn remarks(s: &Snapshot) -> Vec<Remark> {
    let one_each = [
        keys::readiness(s),
        keys::token(s),
        writes::unknown(s),
        writes::not_sent(s),
        writes::shed(s),
        Some(calls::gateway(s)),
        calls::held(s),
        callers::lookups_failing(s),
        keys::unauthorized(s),
        callers::refused(s),
        callers::secrets_not_used(s),
        keys::unused(s),
        writes::in_doubt(s),
        writes::unaudited(s),
        calls::shed(s),
        webhooks::unsigned(s),
        webhooks::not_forwarded(s),
        webhooks::unsubscribed(s),
        calls::drift(s),
        keys::clock_skew(s),
        process::log_lost(s),
        process::reload(s),
        process::restarted(s),
        process::certificate_not_used(s),
        fleet::unsynced(s),
        fleet::unpublished(s),
        fleet::unconfirmed(s),
        fleet::rejoining(s),
    ];
    let several = callers::slow(s).chain(process::connections(s)).chain(process::certificates(s));
    let all = one_each.into_iter().flatten().chain(several);
    let mut remarks: Vec<Remark> = all.filter(|remark| remark.level > Level::Well).collect();
    remarks.sort_by_key(|remark| Reverse(remark.level));
    remarks
}

#[cfg(test)]
mod tests;
