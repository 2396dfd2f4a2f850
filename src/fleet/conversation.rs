//! The questions of the link over one connection, each with its deadline and its count.

use std::time::Duration;

use redis::Pipeline;

use super::commands::{self, LogReply};
use super::connect::{Connection, Line, STEP};
use super::entry::{LogId, Position};
use super::failure::Failure;
use super::life::ServerClock;
use super::log::{Batch, Greeting};
use super::names::Names;
use super::pace::patience;
use super::pod::Pod;
use super::replies::Replies;
use crate::clock::{Clock, Now};
use crate::telemetry::metrics::fleet::{CommandResult, FleetCommand, FleetSeries};

/// One connection, with the names, the pod and the clock that questions need.
#[derive(Debug)]
pub struct Conversation<'c> {
    pub connection: &'c Connection,
    pub names: &'c Names,
    pub pod: &'c Pod,
    pub clock: &'c Clock,
}

impl Conversation<'_> {
    /// Asks the first questions on a new connection.
    pub async fn greet(&self) -> Result<Greeting, Failure> {
        let sent = self.clock.now();
        let read = |replies| commands::greeted(replies, sent);
        let greeting = self.ask(FleetCommand::Join, &commands::greet(self.names), STEP, read).await?;
        self.note_time(greeting.time, sent);
        Ok(greeting)
    }

    /// Makes a new log, with a random name.
    pub async fn create(&self) -> Result<(), Failure> {
        let id = LogId(fastrand::u128(..).to_be_bytes());
        self.ask(FleetCommand::Join, &commands::create(self.names, id), STEP, commands::created).await
    }

    /// Reads the log from a position on, as far as one reply goes.
    pub async fn scan(&self, from: Position) -> Result<LogReply, Failure> {
        self.ask(FleetCommand::Join, &commands::scan(self.names, from), STEP, commands::scanned).await
    }

    /// Polls the log from a position on.
    pub async fn poll(&self, from: Position) -> Result<LogReply, Failure> {
        let sent = self.clock.now();
        let limit = patience(self.pod.times().poll);
        let read = self.ask(FleetCommand::Poll, &commands::poll(self.names, from), limit, commands::polled).await?;
        self.pod.series.poll_took(self.clock.mono().since(sent.mono));
        self.note_time(read.time, sent);
        Ok(read)
    }

    /// Publishes a batch. Returns the position of each entry, which is `None` if there is no log, and the log after
    /// that.
    pub async fn publish(&self, batch: &Batch) -> Result<(Vec<Option<Position>>, LogReply), Failure> {
        let limit = patience(self.pod.times().poll);
        let read = |replies| commands::published(replies, batch);
        self.ask(FleetCommand::Publish, &commands::publish(self.names, batch), limit, read).await
    }

    /// Deletes the log of a server that is full. An error changes nothing: this connection is given up anyway.
    pub async fn delete_log(&self) {
        let deleted = |mut replies: Replies| replies.next("DEL")?.number();
        let _ = self.ask(FleetCommand::Publish, &commands::delete_log(self.names), STEP, deleted).await;
    }

    async fn ask<T>(
        &self,
        command: FleetCommand,
        pipeline: &Pipeline,
        limit: Duration,
        read: impl FnOnce(Replies) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        ask(self.connection.line(), &self.pod.series, command, pipeline, limit, read).await
    }

    fn note_time(&self, time: u64, sent: Now) {
        self.pod.note_clock(ServerClock::new(time, sent, self.clock.now()));
    }
}

/// Asks over a connection, and counts the question by how it ended.
pub async fn ask<T>(
    line: &Line,
    series: &FleetSeries,
    command: FleetCommand,
    pipeline: &Pipeline,
    limit: Duration,
    read: impl FnOnce(Replies) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let result = line.ask(pipeline, limit).await.and_then(read);
    series.asked(command, label(result.as_ref().err()));
    result
}

/// The result that metrics count for a question, by its failure.
pub fn label(failure: Option<&Failure>) -> CommandResult {
    match failure {
        None => CommandResult::Ok,
        Some(Failure::Late(_)) => CommandResult::Timeout,
        Some(Failure::Refused(_) | Failure::Replica) => CommandResult::Refused,
        Some(
            Failure::Files(_)
            | Failure::Unreachable { .. }
            | Failure::Tls { .. }
            | Failure::Lost(_)
            | Failure::Malformed(_)
            | Failure::NoPrimary { .. }
            | Failure::Replaced,
        ) => CommandResult::Error,
    }
}
