//! Reads the server's replies, strictly: a reply of a form that its command does not have is an error. Pure.

use redis::Value;

use super::entry::{Item, Position};
use super::failure::{ErrorReply, Failure};

/// The replies to one pipeline, read one after the other.
#[derive(Debug)]
pub struct Replies(std::vec::IntoIter<Value>);

impl Replies {
    pub fn new(values: Vec<Value>) -> Self {
        Self(values.into_iter())
    }

    /// The reply to `command`, which is the next one.
    ///
    /// # Errors
    /// When the reply is an error, or is missing.
    pub fn next(&mut self, command: &'static str) -> Result<Reply, Failure> {
        match self.0.next() {
            Some(Value::ServerError(error)) => Err(Failure::Refused(ErrorReply::new(error.code(), error.details()))),
            Some(value) => Ok(Reply { command, value }),
            None => Err(Failure::Malformed(command)),
        }
    }
}

/// The reply to a command, which was no error.
#[derive(Debug)]
pub struct Reply {
    command: &'static str,
    value: Value,
}

impl Reply {
    /// Reads any status: the server has carried out the command, or has queued it.
    pub fn status(self) -> Result<(), Failure> {
        match self.value {
            Value::Okay | Value::SimpleString(_) => Ok(()),
            _ => self.malformed(),
        }
    }

    /// Whether the server has carried out a command that has a condition.
    pub fn done(self) -> Result<bool, Failure> {
        if self.value == Value::Nil { Ok(false) } else { self.status().map(|()| true) }
    }

    pub fn number(self) -> Result<i64, Failure> {
        match self.value {
            Value::Int(number) => Ok(number),
            _ => self.malformed(),
        }
    }

    /// `None` if there is no such key.
    pub fn bytes(self) -> Result<Option<Vec<u8>>, Failure> {
        match self.value {
            Value::BulkString(bytes) => Ok(Some(bytes)),
            Value::Nil => Ok(None),
            _ => self.malformed(),
        }
    }

    pub fn text(self) -> Result<String, Failure> {
        let command = self.command;
        let bytes = self.bytes()?.ok_or(Failure::Malformed(command))?;
        String::from_utf8(bytes).map_err(|_| Failure::Malformed(command))
    }

    pub fn list(self) -> Result<Vec<Reply>, Failure> {
        let command = self.command;
        match self.value {
            Value::Array(values) => Ok(values.into_iter().map(|value| Reply { command, value }).collect()),
            _ => self.malformed(),
        }
    }

    /// A list that may be missing as a whole.
    pub fn optional_list(self) -> Result<Option<Vec<Reply>>, Failure> {
        if self.value == Value::Nil { Ok(None) } else { self.list().map(Some) }
    }

    /// The position of an appended entry; `None` if there is no log to append to.
    pub fn position(self) -> Result<Option<Position>, Failure> {
        let command = self.command;
        let Some(id) = self.bytes()? else { return Ok(None) };
        Position::parse(&id).map(Some).ok_or(Failure::Malformed(command))
    }

    /// The server's clock in milliseconds.
    pub fn time(self) -> Result<u64, Failure> {
        let command = self.command;
        let [seconds, micros] = fixed(self.list()?, command)?;
        let number = |reply: Reply| reply.text()?.parse::<u64>().map_err(|_| Failure::Malformed(command));
        Ok(number(seconds)?.saturating_mul(1000).saturating_add(number(micros)? / 1000))
    }

    /// Entries of the log.
    pub fn items(self) -> Result<Vec<Item>, Failure> {
        self.list()?.into_iter().map(Self::item).collect()
    }

    fn item(self) -> Result<Item, Failure> {
        let command = self.command;
        let [id, fields] = fixed(self.list()?, command)?;
        let id = id.bytes()?.unwrap_or_default();
        let mut fields: Vec<_> = fields.list()?.into_iter().map(Self::bytes).collect::<Result<_, _>>()?;
        // An entry of this protocol has one field. Other entries are foreign, and all their bytes tell them apart.
        let bytes = match fields.as_mut_slice() {
            [Some(name), Some(bytes)] if name == FIELD => std::mem::take(bytes),
            // No entry begins with zero.
            _ => [0].into_iter().chain(fields.into_iter().flatten().flatten()).collect(),
        };
        Item::read(&id, &bytes).ok_or(Failure::Malformed(command))
    }

    fn malformed<T>(self) -> Result<T, Failure> {
        Err(Failure::Malformed(self.command))
    }
}

/// A list of exactly `N` replies.
fn fixed<const N: usize>(list: Vec<Reply>, command: &'static str) -> Result<[Reply; N], Failure> {
    list.try_into().map_err(|_| Failure::Malformed(command))
}

/// The name of the only field of an entry.
pub const FIELD: &[u8] = b"e";

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;
    use crate::fleet::entry::{Entry, WriteId};
    use crate::session::invalidation::tag_id::TagId;

    /// The one reply that these bytes of the protocol are.
    fn reply(bytes: &[u8]) -> Result<Reply, Failure> {
        Replies::new(vec![parse_redis_value(bytes).expect("a value")]).next("X")
    }

    fn malformed<T>() -> Result<T, Failure> {
        Err(Failure::Malformed("X"))
    }

    #[test]
    fn a_reply_has_the_form_of_its_command() {
        let nil = b"$-1\r\n";
        for bytes in [&b"+OK\r\n"[..], b"+QUEUED\r\n"] {
            assert_eq!(reply(bytes).and_then(Reply::status), Ok(()));
        }
        assert_eq!(reply(b":7\r\n").and_then(Reply::number), Ok(7));
        assert_eq!(reply(b"$2\r\n\xff\x00\r\n").and_then(Reply::bytes), Ok(Some(vec![0xff, 0])));
        assert_eq!(reply(nil).and_then(Reply::bytes), Ok(None));
        assert_eq!(reply(b"$2\r\nab\r\n").and_then(Reply::text), Ok("ab".to_owned()));
        assert_eq!(reply(b"$3\r\n1-2\r\n").and_then(Reply::position), Ok(Some(Position { ms: 1, seq: 2 })));
        assert_eq!(reply(nil).and_then(Reply::position), Ok(None));
        assert_eq!(reply(b"*2\r\n$2\r\n12\r\n$6\r\n345678\r\n").and_then(Reply::time), Ok(12_345));
        assert!(reply(b"*-1\r\n").and_then(Reply::optional_list).is_ok_and(|list| list.is_none()));

        assert_eq!(reply(b":1\r\n").and_then(Reply::status), malformed());
        assert_eq!(reply(b"+OK\r\n").and_then(Reply::number), malformed());
        assert_eq!(reply(b":1\r\n").and_then(Reply::bytes), malformed());
        assert_eq!(reply(nil).and_then(Reply::text), malformed());
        assert_eq!(reply(b"$1\r\n\xff\r\n").and_then(Reply::text), malformed());
        assert_eq!(reply(b"$2\r\n1-\r\n").and_then(Reply::position), malformed());
        for bytes in [&b"*1\r\n$1\r\n1\r\n"[..], b"*2\r\n$1\r\nx\r\n$1\r\n1\r\n", b"*2\r\n$1\r\n1\r\n:1\r\n", nil] {
            assert_eq!(reply(bytes).and_then(Reply::time), malformed());
        }
    }

    #[test]
    fn an_error_is_no_reply_and_neither_is_a_missing_one() {
        let refused = |code, rest| Err::<(), _>(Failure::Refused(ErrorReply::new(code, rest)));
        let read = |bytes| reply(bytes).and_then(Reply::status);
        assert_eq!(read(b"-OOM command not allowed\r\n"), refused("OOM", Some("command not allowed")));
        assert_eq!(read(b"-READONLY no\r\n"), refused("READONLY", Some("no")));
        assert_eq!(read(b"-MOVED 1 a:1\r\n"), refused("MOVED", Some("1 a:1")));
        assert_eq!(read(b"-LOADING\r\n"), refused("LOADING", None));
        assert_eq!(Replies::new(Vec::new()).next("X").and_then(Reply::status), malformed());
    }

    fn items(entries: &[(&str, &[&[u8]])]) -> Result<Vec<Item>, Failure> {
        let bulk = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
        let entry = |(id, fields): &(&str, &[&[u8]])| {
            let fields = fields.iter().map(|field| bulk(field)).collect();
            Value::Array(vec![bulk(id.as_bytes()), Value::Array(fields)])
        };
        Replies::new(vec![Value::Array(entries.iter().map(entry).collect())]).next("X")?.items()
    }

    #[test]
    fn what_is_no_entry_of_this_protocol_is_foreign_and_stays_distinct() {
        let entry = Entry::Changed { tag: TagId([7; 16]), write: WriteId(1) };
        let bytes = entry.encode();
        let (head, tail) = bytes.split_at(10);
        let read = items(&[
            ("1-0", &[FIELD, &bytes]),
            ("1-1", &[b"f", &bytes]),
            ("1-2", &[FIELD, &bytes, FIELD, &bytes]),
            ("1-3", &[head, tail]),
            ("1-4", &[]),
        ])
        .expect("items");
        assert_eq!(read.iter().map(|item| item.entry.is_ok()).collect::<Vec<_>>(), [true, false, false, false, false]);
        assert_eq!(read[0], Item { at: Position { ms: 1, seq: 0 }, entry: Ok(entry) });
        for (index, item) in read.iter().enumerate() {
            assert!(read[..index].iter().all(|other| other.entry != item.entry), "{item:?}");
        }
        assert_eq!(items(&[("1", &[FIELD, &bytes])]), malformed());
        for bytes in
            [&b"*1\r\n*1\r\n$3\r\n1-1\r\n"[..], b"*1\r\n*2\r\n$3\r\n1-1\r\n$-1\r\n", b"$-1\r\n", b"*1\r\n*-1\r\n"]
        {
            assert_eq!(reply(bytes).and_then(Reply::items), malformed());
        }
    }
}
