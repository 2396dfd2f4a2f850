//! The questions of `check --online` to the fleet's server, and the verdict on its replies. Pure.

use std::fmt;

use redis::Pipeline;

use super::commands::field;
use super::failure::Failure;
use super::names::Names;
use super::replies::{FIELD, Replies, Reply};
use crate::text::printable;

/// The facts that a server states of itself. All are unknown if an ACL forbids `INFO`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Redis or Valkey, with its version.
    pub engine: Option<String>,
    /// The version of Redis whose commands the server has: major and minor.
    pub version: Option<(u32, u32)>,
    /// The start of the run id.
    pub run: Option<String>,
    pub replicas: Option<u32>,
    /// Whether the server refuses writes while it has no replica.
    pub needs_replicas: bool,
    /// `maxmemory-policy`.
    pub policy: Option<String>,
}

/// Asks for these facts, and tries each further command that the link uses. No command has an effect.
pub fn inspect(names: &Names) -> Pipeline {
    let (log, nothing) = (names.log(), names.nothing());
    let mut pipeline = redis::pipe();
    for section in SECTIONS {
        pipeline.cmd("INFO").arg(section);
    }
    pipeline.cmd("MULTI").cmd("SET").arg(&nothing).arg("").arg("XX").cmd("EXEC");
    pipeline.cmd("XADD").arg(&nothing).arg("NOMKSTREAM").arg("*").arg(FIELD).arg("");
    pipeline.cmd("XRANGE").arg(log).arg("+").arg("+").cmd("DEL").arg(nothing);
    pipeline
}

/// Reads the replies to [`inspect`].
///
/// # Errors
/// When the server refuses a command that the link needs.
pub fn inspected(mut replies: Replies) -> Result<Inspection, Failure> {
    let mut info = String::new();
    for _ in SECTIONS {
        match replies.next("INFO").and_then(Reply::text) {
            Ok(text) => info.push_str(&text),
            Err(Failure::Refused(_)) => {}
            Err(other) => return Err(other),
        }
    }
    for command in ["MULTI", "SET", "EXEC", "XADD", "XRANGE", "DEL"] {
        replies.next(command)?;
    }
    let text = |name| field(&info, name).map(|text| printable(text, LONGEST));
    let redis = text("redis_version");
    let version = redis.as_ref().and_then(|version| {
        let mut numbers = version.split('.').map(|number| number.parse().ok());
        Some((numbers.next()??, numbers.next()??))
    });
    let engine = text("valkey_version").map(|version| format!("Valkey {version}"));
    Ok(Inspection {
        engine: engine.or_else(|| redis.map(|version| format!("Redis {version}"))),
        version,
        run: text("run_id").map(|run| run.chars().take(RUN_SHOWN).collect()),
        replicas: text("connected_slaves").and_then(|number| number.parse().ok()),
        // The server has this field only if it refuses writes without enough replicas.
        needs_replicas: text("min_slaves_good_slaves").is_some(),
        policy: text("maxmemory_policy"),
    })
}

impl Inspection {
    /// The mistakes in the server's configuration, each with its remedy.
    pub fn warnings(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.engine.is_none() {
            found.push(
                "the server's ACL forbids INFO: no session can be shared, and after each break of the connection nothing \
                 stored is confirmed; allow +info"
                    .to_owned(),
            );
        }
        if self.version.is_some_and(|version| version < LEAST) {
            found.push("the server is too old: the fleet needs Redis 6.2, or any Valkey".to_owned());
        }
        if let Some(policy) = self.policy.as_ref().filter(|policy| policy.starts_with("allkeys-")) {
            found.push(format!(
                "with maxmemory-policy {policy} a full server may evict the log, and then nothing stored is confirmed; \
                 set volatile-ttl"
            ));
        }
        if self.replicas.is_some_and(|replicas| replicas > 0) && !self.needs_replicas {
            found.push(
                "the server has replicas, and goes on when it loses them: after a failover, sidecars that still use it \
                 would not hear of the others; set min-replicas-to-write 1 and min-replicas-max-lag 2"
                    .to_owned(),
            );
        }
        found
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.engine.as_deref().unwrap_or("unknown"))?;
        if let Some(run) = &self.run {
            write!(f, ", run id {run}…")?;
        }
        match self.replicas {
            None => {}
            Some(0) => f.write_str(", primary without replicas")?,
            Some(replicas) => write!(f, ", primary with {replicas} replicas")?,
        }
        self.policy.iter().try_for_each(|policy| write!(f, ", maxmemory-policy {policy}"))
    }
}

const SECTIONS: [&str; 3] = ["server", "replication", "memory"];
const LEAST: (u32, u32) = (6, 2);
const RUN_SHOWN: usize = 8;
const LONGEST: usize = 40;

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;
    use crate::fleet::failure::ErrorReply;

    fn read(info: [&str; 3], tried: &[Value]) -> Result<Inspection, Failure> {
        let info = info.map(|text| match text {
            "" => error("NOPERM no"),
            text => Value::BulkString(text.as_bytes().to_vec()),
        });
        inspected(Replies::new(info.into_iter().chain(tried.iter().cloned()).collect()))
    }

    fn error(text: &str) -> Value {
        redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).expect("an error")
    }

    fn allowed() -> Vec<Value> {
        vec![Value::Nil; 6]
    }

    #[test]
    fn a_server_is_described() {
        let server = "redis_version:7.2.4\r\nvalkey_version:9.1.2\r\nrun_id:0123456789abcdef\r\n";
        let replication = "role:master\r\nconnected_slaves:2\r\nmin_slaves_good_slaves:2\r\n";
        let found = read([server, replication, "maxmemory_policy:noeviction\r\n"], &allowed()).expect("read");
        let expected = Inspection {
            engine: Some("Valkey 9.1.2".to_owned()),
            version: Some((7, 2)),
            run: Some("01234567".to_owned()),
            replicas: Some(2),
            needs_replicas: true,
            policy: Some("noeviction".to_owned()),
        };
        let shown = "Valkey 9.1.2, run id 01234567…, primary with 2 replicas, maxmemory-policy noeviction";
        assert_eq!((found.to_string().as_str(), found.warnings(), found), (shown, Vec::new(), expected));
        let found = read(["redis_version:x\u{1b}[0m\r\n", "", ""], &allowed()).expect("read");
        assert_eq!((found.engine.as_deref(), found.version), (Some("Redis x?[0m"), None));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let of = |server, replication, memory| {
            let found = read([server, replication, memory], &allowed()).expect("read");
            found.warnings().join("\n")
        };
        let (good, alone, kept) =
            ("redis_version:6.2.0\r\n", "connected_slaves:0\r\n", "maxmemory_policy:volatile-ttl\r\n");
        assert_eq!(of(good, alone, kept), "");
        assert!(of("redis_version:6.0.16\r\n", alone, kept).contains("too old"));
        assert!(of(good, "connected_slaves:1\r\n", kept).contains("min-replicas-to-write"));
        assert!(of(good, alone, "maxmemory_policy:allkeys-lru\r\n").contains("volatile-ttl"));
        assert!(of("", "", "").contains("+info"));
    }

    #[test]
    fn a_command_that_the_link_needs_and_may_not_use_is_a_failure() {
        for place in 0..allowed().len() {
            let mut tried = allowed();
            tried[place] = error("NOPERM no");
            let refused = Err(Failure::Refused(ErrorReply::new("NOPERM", Some("no"))));
            assert_eq!(read(["", "", ""], &tried), refused, "{place}");
        }
    }
}
