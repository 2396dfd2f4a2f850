use std::time::Duration;

use redis::{Value, parse_redis_value};

use super::*;
use crate::clock::Mono;
use crate::fleet::entry::WriteId;
use crate::fleet::failure::ErrorReply;
use crate::fleet::log::{Limits, Log, Step};
use crate::session::invalidation::tag_id::TagId;

const ID: LogId = LogId([0xab; 16]);
const INFO_SERVER: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:0123abcd\r\ntcp_port:6379\r\n";
const INFO_REPLICATION: &str = "# Replication\r\nrole:master\r\nmaster_replid:feed\r\nmaster_replid2:0000\r\n";

fn names() -> Names {
    Names::new("szs1:{ff}")
}

/// The commands, each as its arguments with spaces between them. Bytes that are no text are hexadecimal.
fn shown(pipeline: &Pipeline) -> Vec<String> {
    let arg = |arg: &[u8]| match str::from_utf8(arg) {
        Ok(text) if !text.chars().any(char::is_control) => format!("{text:?}").trim_matches('"').to_owned(),
        _ => hex::encode(arg),
    };
    let command = |command: &redis::Cmd| {
        let args = command.args_iter().map(|one| match one {
            redis::Arg::Simple(bytes) => arg(bytes),
            _ => "?".to_owned(),
        });
        args.collect::<Vec<_>>().join(" ")
    };
    pipeline.cmd_iter().map(command).collect()
}

fn bulk(bytes: &[u8]) -> Value {
    Value::BulkString(bytes.to_vec())
}

fn time() -> Value {
    Value::Array(vec![bulk(b"1764000000"), bulk(b"123456")])
}

fn error(text: &str) -> Value {
    parse_redis_value(format!("-{text}\r\n").as_bytes()).expect("an error")
}

fn item(id: &str, entry: Entry) -> Value {
    Value::Array(vec![bulk(id.as_bytes()), Value::Array(vec![bulk(FIELD), bulk(&entry.encode())])])
}

fn items(items: &[Value]) -> Value {
    Value::Array(items.to_vec())
}

fn refused<T>(code: &str, rest: Option<&str>) -> Result<T, Failure> {
    Err(Failure::Refused(ErrorReply::new(code, rest)))
}

#[test]
fn a_connection_says_who_asks() {
    let secret = Secret::new("p w".to_owned());
    let all = |username, password, database| {
        authenticate(username, password, database).as_ref().map(shown).unwrap_or_default()
    };
    assert_eq!(all(None, None, 0), [""; 0]);
    assert_eq!(all(None, Some(&secret), 0), ["AUTH p w"]);
    assert_eq!(all(Some("u"), Some(&secret), 3), ["AUTH u p w", "SELECT 3"]);
    let read = |values, with_password, database| authenticated(Replies::new(values), with_password, database);
    assert_eq!(read(vec![Value::Okay, Value::Okay], true, 3), Ok(()));
    assert_eq!(read(vec![Value::Okay], false, 3), Ok(()));
    let echo = error("ERR unknown command 'AUTH', with args beginning with: 'p w'");
    assert_eq!(read(vec![echo], true, 0), refused("ERR", None), "the text may repeat the password");
    assert_eq!(read(vec![Value::Okay, error("ERR no such db")], true, 3), refused("ERR", Some("no such db")));
}

#[test]
fn a_sentinel_says_where_the_server_is() {
    assert_eq!(shown(&locate("shop")), ["SENTINEL get-master-addr-by-name shop"]);
    let read = |value| located(Replies::new(vec![value]));
    let list = |words: &[&str]| Value::Array(words.iter().map(|word| bulk(word.as_bytes())).collect());
    let at = HostPort { host: "10.0.0.1".to_owned(), port: 6379 };
    assert_eq!(read(list(&["10.0.0.1", "6379"])), Ok(Some(at)));
    assert_eq!(read(Value::Nil), Ok(None));
    for words in [&["10.0.0.1"][..], &["10.0.0.1", "x"], &["", "6379"], &["a", "1", "b"], &[]] {
        assert_eq!(read(list(words)), Err(Failure::Malformed("SENTINEL")), "{words:?}");
    }
    assert_eq!(read(error("NOAUTH no")), refused("NOAUTH", Some("no")));
}

#[test]
fn the_greeting_asks_for_all_that_a_join_needs() {
    assert_eq!(
        shown(&greet(&names())),
        [
            "INFO server",
            "INFO replication",
            "SETRANGE szs1:{ff}:id 0 ",
            "GET szs1:{ff}:id",
            "TIME",
            "XREVRANGE szs1:{ff}:log + - COUNT 1",
            "XRANGE szs1:{ff}:log - + COUNT 1",
        ]
    );
}

/// Replies to a greeting, with one of them replaced.
fn replies(place: usize, value: Value) -> Vec<Value> {
    let entry = item("5-0", Entry::Id(ID));
    let mut all = vec![
        bulk(INFO_SERVER.as_bytes()),
        bulk(INFO_REPLICATION.as_bytes()),
        Value::Int(16),
        bulk(&ID.0),
        time(),
        items(std::slice::from_ref(&entry)),
        items(&[entry]),
    ];
    if let Some(replaced) = all.get_mut(place) {
        *replaced = value;
    }
    all
}

fn read(place: usize, value: Value) -> Result<Greeting, Failure> {
    greeted(Replies::new(replies(place, value)), Now::default())
}

#[test]
fn a_greeting_is_read_or_refused() {
    let whole = read(9, Value::Nil).expect("read");
    let entry = Item { at: Position { ms: 5, seq: 0 }, entry: Ok(Entry::Id(ID)) };
    let server = Run::new("0123abcd").zip(Run::new("feed")).map(|(run, history)| Server { run, history });
    let expected =
        Greeting { sent: Now::default(), server, id: Some(ID), ends: Some((entry, entry)), time: 1_764_000_000_123 };
    assert_eq!(whole, expected);
    let unnamed = Greeting { server: None, ..expected.clone() };
    let without_log = Greeting { ends: None, ..expected.clone() };
    let without_id = Greeting { id: None, ..expected };
    let rows = [
        (0, error("NOPERM no"), Ok(unnamed.clone())),
        (1, error("NOPERM no"), Ok(unnamed.clone())),
        (1, bulk(b"role:master\r\n"), Ok(unnamed)),
        (1, bulk(b"role:slave\r\nmaster_replid:feed\r\n"), Err(Failure::Replica)),
        (0, Value::Int(1), Err(Failure::Malformed("INFO"))),
        (2, error("MOVED 1 b:1"), refused("MOVED", Some("1 b:1"))),
        (2, error("READONLY a replica"), refused("READONLY", Some("a replica"))),
        (2, Value::Nil, Err(Failure::Malformed("SETRANGE"))),
        (3, Value::Nil, Ok(without_id.clone())),
        (3, bulk(b"short"), Ok(without_id)),
        (4, Value::Nil, Err(Failure::Malformed("TIME"))),
        (5, items(&[]), Ok(without_log.clone())),
        (6, items(&[]), Ok(without_log)),
        (6, error("WRONGTYPE no"), refused("WRONGTYPE", Some("no"))),
    ];
    for (place, value, expected) in rows {
        assert_eq!(read(place, value.clone()), expected, "{place}: {value:?}");
    }
    for (probe, expected) in
        [(error("READONLY a replica"), Err(Failure::Replica)), (error("MOVED 1 b:1"), refused("MOVED", Some("1 b:1")))]
    {
        let mut of_replica = replies(1, bulk(b"role:slave\r\nmaster_replid:feed\r\n"));
        of_replica[2] = probe;
        assert_eq!(greeted(Replies::new(of_replica), Now::default()), expected);
    }
    let mut short = replies(9, Value::Nil);
    short.pop();
    assert_eq!(greeted(Replies::new(short), Now::default()), Err(Failure::Malformed("XRANGE")));
}

#[test]
fn a_log_is_made_with_its_name() {
    let entry = hex::encode(Entry::Id(ID).encode());
    let id = hex::encode(ID.0);
    assert_eq!(
        shown(&create(&names(), ID)),
        [
            "MULTI".to_owned(),
            format!("SET szs1:{{ff}}:id {id}"),
            format!("XADD szs1:{{ff}}:log * e {entry}"),
            "EXEC".to_owned()
        ]
    );
    let queued = Value::SimpleString("QUEUED".to_owned());
    let done = items(&[Value::Okay, bulk(b"5-0")]);
    let read = |values: [Value; 4]| created(Replies::new(values.to_vec()));
    assert_eq!(read([Value::Okay, queued.clone(), queued.clone(), done]), Ok(()));
    let aborted = error("EXECABORT discarded");
    assert_eq!(read([Value::Okay, error("OOM full"), queued.clone(), aborted]), refused("OOM", Some("full")));
    assert_eq!(read([Value::Okay, queued.clone(), queued, Value::Nil]), Err(Failure::Malformed("EXEC")));
}

#[test]
fn polls_and_scans_read_on_from_a_position() {
    let from = Position { ms: 7, seq: 2 };
    assert_eq!(
        shown(&poll(&names(), from)),
        ["SETRANGE szs1:{ff}:id 0 ", "XRANGE szs1:{ff}:log 7-2 + COUNT 1000", "TIME"]
    );
    assert_eq!(shown(&scan(&names(), from)), ["XRANGE szs1:{ff}:log 7-2 + COUNT 5000", "TIME"]);
    let one = item("7-2", Entry::Id(ID));
    let page = |count| Replies::new(vec![Value::Int(16), items(&vec![one.clone(); count]), time()]);
    let read = polled(page(999)).expect("read");
    assert_eq!((read.items.len(), read.is_whole, read.time), (999, true, 1_764_000_000_123));
    assert!(!polled(page(1000)).expect("read").is_whole);
    let scanned = scanned(Replies::new(vec![items(&vec![one.clone(); 4999]), time()]));
    assert!(scanned.is_ok_and(|read| read.is_whole));
    let refusing = Replies::new(vec![error("NOREPLICAS no"), items(&[one]), time()]);
    assert_eq!(polled(refusing), refused("NOREPLICAS", Some("no")), "readers learn that writers cannot publish");
}

#[test]
fn a_body_is_read_before_the_log_and_put_until_its_end() {
    let from = Position { ms: 7, seq: 2 };
    let (body, flight) = ("szs1:{ff}:b:x", "szs1:{ff}:f:x");
    assert_eq!(
        shown(&take(&names(), body, Some(flight), from)),
        ["GET szs1:{ff}:b:x", "GET szs1:{ff}:f:x", "XRANGE szs1:{ff}:log 7-2 + COUNT 1000", "TIME"]
    );
    let alone = ["GET szs1:{ff}:b:x", "XRANGE szs1:{ff}:log 7-2 + COUNT 1000", "TIME"];
    assert_eq!(shown(&take(&names(), body, None, from)), alone, "who waits for nobody asks for no mark");
    assert_eq!(shown(&share(body, b"sealed", Wall(99))), ["SET szs1:{ff}:b:x sealed PXAT 99"]);
    assert_eq!(shown(&share_nothing(body, Wall(99))), ["SET szs1:{ff}:b:x  NX PXAT 99"]);
    assert_eq!(shown(&mark(flight)), ["SET szs1:{ff}:f:x 1 NX PX 1000"]);
    let one = item("7-2", Entry::Id(ID));
    let replies = |body, flight| Replies::new(vec![body, flight, items(std::slice::from_ref(&one)), time()]);
    let (body, fetched, read) = taken(replies(bulk(b"sealed"), Value::Nil), true).expect("read");
    assert_eq!((body.as_deref(), fetched), (Some(&b"sealed"[..]), false));
    assert_eq!((read.items.len(), read.is_whole), (1, true));
    let nothing = taken(replies(Value::Nil, bulk(b"1")), true).map(|(body, fetched, _)| (body, fetched));
    assert_eq!(nothing, Ok((None, true)));
    assert_eq!(taken(replies(error("WRONGTYPE no"), Value::Nil), true), refused("WRONGTYPE", Some("no")));
    let nothing = taken(Replies::new(vec![Value::Nil, items(std::slice::from_ref(&one)), time()]), false);
    assert_eq!(nothing.map(|(body, fetched, _)| (body, fetched)), Ok((None, false)));
    let done = |value| Replies::new(vec![value]);
    assert_eq!(shared(done(Value::Okay)), Ok(()));
    assert_eq!(shared(done(error("OOM full"))), refused("OOM", Some("full")));
    assert_eq!((marked(done(Value::Okay)), marked(done(Value::Nil))), (Ok(true), Ok(false)));
    assert_eq!(marked(done(Value::Int(1))), Err(Failure::Malformed("SET")));
}

#[test]
fn a_batch_is_appended_to_a_log_that_exists() {
    let limits = Limits {
        lease: Duration::from_millis(300),
        max_ttl: Duration::from_secs(60),
        window: Duration::from_secs(165),
    };
    let mut log = Log::new(limits, WriteId(1));
    let greeting = read(9, Value::Nil).expect("read");
    let now = Now { mono: Mono(Duration::from_secs(1000)), ..Now::default() };
    assert!(matches!(log.greet(&greeting), Step::Scan(..)));
    let (entry, time) = (greeting.ends.expect("a log").0, greeting.time);
    let page = LogReply { items: vec![entry], is_whole: true, time };
    log.rejoin(&greeting, &page.page(), now.mono).expect("joined");
    let tag = TagId([7; 16]);
    log.purge(tag, now.mono);
    let batch = log.publish(500, now).expect("a batch");
    let own = Entry::Changed { tag, write: WriteId(1) };
    assert_eq!(
        shown(&publish(&names(), &batch)),
        [
            &format!("XADD szs1:{{ff}}:log NOMKSTREAM MAXLEN ~ 65536 * e {}", hex::encode(own.encode())),
            "XRANGE szs1:{ff}:log 5-0 + COUNT 1000",
            "TIME",
        ]
    );
    let range = items(&[item("5-0", Entry::Id(ID)), item("6-0", own)]);
    let read = |added| published(Replies::new(vec![added, range.clone(), self::time()]), &batch);
    let (positions, page) = read(bulk(b"6-0")).expect("read");
    assert_eq!((&positions[..], page.items.len()), (&[Some(Position { ms: 6, seq: 0 })][..], 2));
    assert_eq!(read(Value::Nil).expect("read").0, [None], "there is no log");
    assert_eq!(read(error("OOM full")), refused("OOM", Some("full")));
    assert_eq!(shown(&delete_log(&names())), ["DEL szs1:{ff}:log"]);
}
