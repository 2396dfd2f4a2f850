//! The questions of a pod to the server: their pipelines, and the replies as the other modules use them. Pure.
//!
//! All commands exist in Redis 6.2. `docs/fleet.md` lists them for an ACL.

use redis::Pipeline;

use super::entry::{Entry, Item, LogId, Position};
use super::failure::Failure;
use super::log::{Batch, Greeting, Page};
use super::names::{Names, Run, Server};
use super::refusal::Refusal;
use super::replies::{FIELD, Replies, Reply};
use crate::address::HostPort;
use crate::clock::{Now, Wall};
use crate::secret::Secret;

/// A reply that holds entries of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogReply {
    pub items: Vec<Item>,
    pub is_whole: bool,
    /// The server's clock in milliseconds.
    pub time: u64,
}

impl LogReply {
    pub fn page(&self) -> Page<'_> {
        Page { items: &self.items, is_whole: self.is_whole, time: self.time }
    }
}

/// The first commands of a connection: user and password, and the database. `None` if the connection needs none of
/// them.
pub fn authenticate(username: Option<&str>, password: Option<&Secret>, database: u16) -> Option<Pipeline> {
    let mut pipeline = redis::pipe();
    if let Some(password) = password {
        pipeline.cmd("AUTH");
        if let Some(username) = username {
            pipeline.arg(username);
        }
        pipeline.arg(password.expose());
    }
    if database != 0 {
        pipeline.cmd("SELECT").arg(database);
    }
    (!pipeline.is_empty()).then_some(pipeline)
}

/// Reads the replies to [`authenticate`].
pub fn authenticated(mut replies: Replies, with_password: bool, database: u16) -> Result<(), Failure> {
    if with_password {
        let done = replies.next("AUTH").and_then(|reply| reply.status());
        // A server that does not know AUTH repeats the arguments, and so the password, in its error.
        done.map_err(|failure| match failure {
            Failure::Refused(error) => Failure::Refused(error.code_alone()),
            other => other,
        })?;
    }
    if database != 0 { replies.next("SELECT")?.status() } else { Ok(()) }
}

/// Asks a Sentinel for the address of a server.
pub fn locate(primary: &str) -> Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.cmd("SENTINEL").arg("get-master-addr-by-name").arg(primary);
    pipeline
}

/// Reads the reply to [`locate`]. `None` if the Sentinel does not know the name.
pub fn located(mut replies: Replies) -> Result<Option<HostPort>, Failure> {
    let Some(list) = replies.next("SENTINEL")?.optional_list()? else { return Ok(None) };
    let words: Vec<_> = list.into_iter().map(|word| word.text()).collect::<Result<_, _>>()?;
    match words.as_slice() {
        [host, port] if !host.is_empty() => {
            let port = port.parse().map_err(|_| Failure::Malformed("SENTINEL"))?;
            Ok(Some(HostPort { host: host.clone(), port }))
        }
        _ => Err(Failure::Malformed("SENTINEL")),
    }
}

/// The first questions to the log on a connection.
pub fn greet(names: &Names) -> Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.cmd("INFO").arg("server").cmd("INFO").arg("replication");
    probe(&mut pipeline, names);
    pipeline.cmd("GET").arg(names.id()).cmd("TIME");
    pipeline.cmd("XREVRANGE").arg(names.log()).arg("+").arg("-").arg("COUNT").arg(1);
    pipeline.cmd("XRANGE").arg(names.log()).arg("-").arg("+").arg("COUNT").arg(1);
    pipeline
}

/// Reads the replies to [`greet`], which was sent at `sent`.
pub fn greeted(mut replies: Replies, sent: Now) -> Result<Greeting, Failure> {
    // An ACL may forbid INFO. Then each connection counts as one to another server.
    let mut info = || match replies.next("INFO") {
        Ok(reply) => reply.text(),
        Err(Failure::Refused(_)) => Ok(String::new()),
        Err(other) => Err(other),
    };
    let (server, replication) = (info()?, info()?);
    let is_replica = field(&replication, "role").is_some_and(|role| role != "master");
    let run = |info: &str, name| field(info, name).and_then(Run::new);
    let server = run(&server, "run_id").zip(run(&replication, "master_replid"));
    match replies.next("SETRANGE").and_then(Reply::number) {
        // A replica in a cluster names its primary.
        Err(Failure::Refused(error)) if error.refusal() == Refusal::Moved => return Err(Failure::Refused(error)),
        _ if is_replica => return Err(Failure::Replica),
        probed => probed?,
    };
    let id = replies.next("GET")?.bytes()?.and_then(|id| id.try_into().ok()).map(LogId);
    let time = replies.next("TIME")?.time()?;
    let newest = replies.next("XREVRANGE")?.items()?.pop();
    let oldest = replies.next("XRANGE")?.items()?.pop();
    let server = server.map(|(run, history)| Server { run, history });
    Ok(Greeting { sent, server, id, ends: oldest.zip(newest), time })
}

/// Makes a log with this name, which is also its first entry.
pub fn create(names: &Names, id: LogId) -> Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.cmd("MULTI").cmd("SET").arg(names.id()).arg(&id.0[..]);
    pipeline.cmd("XADD").arg(names.log()).arg("*").arg(FIELD).arg(&Entry::Id(id).encode()[..]);
    pipeline.cmd("EXEC");
    pipeline
}

/// Reads the replies to [`create`].
pub fn created(mut replies: Replies) -> Result<(), Failure> {
    for command in ["MULTI", "SET", "XADD"] {
        replies.next(command)?.status()?;
    }
    replies.next("EXEC")?.list().map(drop)
}

/// Reads the log from a position on, as far as one reply goes.
pub fn scan(names: &Names, from: Position) -> Pipeline {
    let mut pipeline = redis::pipe();
    range(&mut pipeline, names, from, SCAN);
    pipeline
}

/// Reads the replies to [`scan`].
pub fn scanned(mut replies: Replies) -> Result<LogReply, Failure> {
    read(&mut replies, SCAN)
}

/// Reads the log from the last known entry on, and asks whether the server accepts writes.
pub fn poll(names: &Names, from: Position) -> Pipeline {
    let mut pipeline = redis::pipe();
    probe(&mut pipeline, names);
    range(&mut pipeline, names, from, POLL);
    pipeline
}

/// Reads the replies to [`poll`].
pub fn polled(mut replies: Replies) -> Result<LogReply, Failure> {
    replies.next("SETRANGE")?.number()?;
    read(&mut replies, POLL)
}

/// Appends the entries of a batch to the log, if there is a log, and then reads the log.
pub fn publish(names: &Names, batch: &Batch) -> Pipeline {
    let mut pipeline = redis::pipe();
    for entry in batch.entries() {
        pipeline.cmd("XADD").arg(names.log()).arg("NOMKSTREAM").arg("MAXLEN").arg("~").arg(LOG_LENGTH);
        pipeline.arg("*").arg(FIELD).arg(&entry.encode()[..]);
    }
    range(&mut pipeline, names, batch.ticket.from(), POLL);
    pipeline
}

/// Reads the replies to [`publish`]. A position is `None` if there was no log.
pub fn published(mut replies: Replies, batch: &Batch) -> Result<(Vec<Option<Position>>, LogReply), Failure> {
    let positions = batch.entries().map(|_| replies.next("XADD")?.position()).collect::<Result<_, _>>()?;
    Ok((positions, read(&mut replies, POLL)?))
}

/// Deletes the log, which makes room in a full server. The next pod that joins makes a new log.
pub fn delete_log(names: &Names) -> Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.cmd("DEL").arg(names.log());
    pipeline
}

/// Asks for a shared body, then whether a pod fetches it, and then for the log. The order matters: an entry that is not
/// in the reply came after the body was read. Without `flight`, nobody waits for a fetch.
pub fn take(names: &Names, body: &str, flight: Option<&str>, from: Position) -> Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.cmd("GET").arg(body);
    if let Some(flight) = flight {
        pipeline.cmd("GET").arg(flight);
    }
    range(&mut pipeline, names, from, POLL);
    pipeline
}

/// Reads the replies to [`take`]: the body, whether a pod fetches it, and the log.
pub fn taken(mut replies: Replies, with_flight: bool) -> Result<(Option<Vec<u8>>, bool, LogReply), Failure> {
    let body = replies.next("GET")?.bytes()?;
    let fetched = with_flight && replies.next("GET")?.bytes()?.is_some();
    Ok((body, fetched, read(&mut replies, POLL)?))
}

/// Stores a sealed body in its slot, until `end` by the server's clock.
pub fn share(body: &str, sealed: &[u8], end: Wall) -> Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.cmd("SET").arg(body).arg(sealed).arg("PXAT").arg(end.0);
    pipeline
}

/// Says in an empty slot that the pod which fetched for all has no body to share.
pub fn share_nothing(body: &str, end: Wall) -> Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.cmd("SET").arg(body).arg("").arg("NX").arg("PXAT").arg(end.0);
    pipeline
}

/// Reads the reply to [`share`] or [`share_nothing`].
pub fn shared(mut replies: Replies) -> Result<(), Failure> {
    replies.next("SET")?.done().map(drop)
}

/// Marks that a pod fetches a session for all pods, unless another pod has done so.
pub fn mark(flight: &str) -> Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.cmd("SET").arg(flight).arg("1").arg("NX").arg("PX").arg(FLIGHT);
    pipeline
}

/// Reads the reply to [`mark`]: whether the mark was set.
pub fn marked(mut replies: Replies) -> Result<bool, Failure> {
    replies.next("SET")?.done()
}

// Asks whether the server accepts writes. The command changes nothing, and fails if the server refuses writes or has no
// memory left.
fn probe(pipeline: &mut Pipeline, names: &Names) {
    pipeline.cmd("SETRANGE").arg(names.id()).arg(0).arg("");
}

fn range(pipeline: &mut Pipeline, names: &Names, from: Position, most: usize) {
    pipeline.cmd("XRANGE").arg(names.log()).arg(from.to_string()).arg("+").arg("COUNT").arg(most);
    pipeline.cmd("TIME");
}

fn read(replies: &mut Replies, most: usize) -> Result<LogReply, Failure> {
    let items = replies.next("XRANGE")?.items()?;
    let time = replies.next("TIME")?.time()?;
    Ok(LogReply { is_whole: items.len() < most, items, time })
}

/// A field of a reply to INFO.
pub(super) fn field<'i>(info: &'i str, name: &str) -> Option<&'i str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

// About as many entries as the log keeps: nine minutes of 120 entries a second, and 2.7 MB in the server.
const LOG_LENGTH: usize = 65_536;
// How long the mark of a pod that fetches stays, in milliseconds, because the pod may have died.
const FLIGHT: u64 = 1000;
// The most entries in a reply to a poll. A pod applies 1000 entries in about a millisecond.
const POLL: usize = 1000;
const SCAN: usize = 5000;

#[cfg(test)]
mod tests;
