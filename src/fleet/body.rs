//! A stored session as another pod reads it: its parts, and their bytes. Pure.
//!
//! Decoding is strict, as for the log: each body has exactly one form, and bytes of another form are refused.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::entry::Position;
use super::life::Times;
use crate::clock::Wall;
use crate::session::invalidation::tag_id::TagId;

/// A stored session, with all that another pod needs to serve it. The status is always 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedBody {
    pub facts: Facts,
    pub answer: Answer,
}

/// The facts by which another pod decides about a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The position up to which the log was read before the body was checked and stored.
    pub position: Position,
    pub times: Times,
    /// The tags of the body.
    pub tags: Vec<TagId>,
}

/// The answer that callers get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Sezzle's own `ETag`. The `ETag` in the headers may be the sidecar's.
    pub etag: Option<HeaderValue>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Largest answer that is shared, in bytes, headers included.
pub const MAX_ANSWER: usize = 256 * 1024;

// A session has four tags at most: itself, its order, and two tokens.
const MAX_TAGS: usize = 16;

impl Facts {
    /// The bytes of the facts. `None` if a fact has no room: more tags than any body has, or an age or a life of many
    /// days.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let Times { date, expiration, age, life, end } = self.times;
        let mut bytes = self.position.to_bytes().to_vec();
        bytes.push(u8::from(date.is_some()) | u8::from(expiration.is_some()) << 1);
        for wall in [date.unwrap_or_default(), expiration.unwrap_or_default(), end] {
            bytes.extend_from_slice(&wall.0.to_be_bytes());
        }
        // An age is rounded up and a life down, so that rounding lengthens nothing.
        let age = age.as_nanos().div_ceil(1_000_000);
        for millis in [age, life.as_millis()] {
            bytes.extend_from_slice(&u32::try_from(millis).ok()?.to_be_bytes());
        }
        bytes.push(u8::try_from(self.tags.len()).ok().filter(|_| self.tags.len() <= MAX_TAGS)?);
        bytes.extend(self.tags.iter().flat_map(|TagId(id)| id));
        Some(bytes)
    }

    /// Reads facts, and returns what follows them.
    pub fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut rest = Rest(bytes);
        let position = Position::from_bytes(rest.array()?);
        let [present] = rest.array()?;
        let [date, expiration, end] =
            [rest.array()?, rest.array()?, rest.array()?].map(|wall| Wall(i64::from_be_bytes(wall)));
        let [age, life] =
            [rest.array()?, rest.array()?].map(|millis| Duration::from_millis(u32::from_be_bytes(millis).into()));
        let [tags] = rest.array()?;
        let tags = (0..tags).map(|_| rest.array().map(TagId)).collect::<Option<_>>()?;
        let times = Times {
            date: (present & 1 != 0).then_some(date),
            expiration: (present & 2 != 0).then_some(expiration),
            age,
            life,
            end,
        };
        let facts = Self { position, times, tags };
        // The comparison with the one right form also finds a field that has to be zero and is not.
        let form = facts.encode()?;
        (bytes.strip_prefix(&*form) == Some(rest.0)).then_some((facts, rest.0))
    }
}

impl Answer {
    /// The bytes of the answer. `None` if they are more than [`MAX_ANSWER`].
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.body.len().saturating_add(ROOM_FOR_HEADERS));
        put(&mut bytes, self.etag.as_ref().map_or(&[][..], HeaderValue::as_bytes))?;
        bytes.push(u8::try_from(self.headers.len()).ok()?);
        for (name, value) in &self.headers {
            put(&mut bytes, name.as_str().as_bytes())?;
            put(&mut bytes, value.as_bytes())?;
        }
        bytes.extend_from_slice(&self.body);
        (bytes.len() <= MAX_ANSWER).then_some(bytes)
    }

    /// Reads an answer. `None` if the bytes are not exactly what [`Answer::encode`] makes.
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        let mut rest = Rest(bytes);
        let etag = rest.text()?;
        let etag = if etag.is_empty() { None } else { Some(HeaderValue::from_bytes(etag).ok()?) };
        let [count] = rest.array()?;
        let mut headers = HeaderMap::with_capacity(count.into());
        for _ in 0..count {
            let (name, value) = (rest.text()?, rest.text()?);
            headers.try_append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?).ok()?;
        }
        let answer = Self { etag, headers, body: bytes.slice_ref(rest.0) };
        (answer.encode()? == *bytes).then_some(answer)
    }
}

const ROOM_FOR_HEADERS: usize = 512;

/// Appends the length of a text, in two bytes, and the text. `None` if the text has more than 65,535 bytes.
fn put(bytes: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    bytes.extend_from_slice(&u16::try_from(text.len()).ok()?.to_be_bytes());
    bytes.extend_from_slice(text);
    Some(())
}

/// The bytes that are still to be read.
struct Rest<'b>(&'b [u8]);

impl<'b> Rest<'b> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn text(&mut self) -> Option<&'b [u8]> {
        let length = u16::from_be_bytes(self.array()?);
        let (text, rest) = self.0.split_at_checked(length.into())?;
        self.0 = rest;
        Some(text)
    }
}

#[cfg(test)]
pub mod tests {
    use http::header::{CONTENT_TYPE, DATE, ETAG};
    use proptest::prelude::*;

    use super::*;

    pub fn facts() -> Facts {
        let second = Duration::from_secs(1);
        let (date, end) = (Wall(1_764_000_000_000), Wall(1_764_000_060_123));
        let times = Times { date: Some(date), expiration: None, age: second, life: second * 60, end };
        Facts {
            position: Position { ms: 1_764_000_000_000, seq: 3 },
            times,
            tags: vec![TagId([7; 16]), TagId([9; 16])],
        }
    }

    pub fn answer() -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(DATE, HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT"));
        headers.insert(ETAG, HeaderValue::from_static("\"a;sidecar-1b2d3f40\""));
        headers.append("x-twice", HeaderValue::from_static("1"));
        headers.append("x-twice", HeaderValue::from_static(""));
        Answer { etag: Some(HeaderValue::from_static("\"a\"")), headers, body: Bytes::from_static(b"{\"uuid\": null}") }
    }

    fn read(bytes: &[u8]) -> Option<Answer> {
        Answer::decode(&Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn an_answer_has_one_form() {
        let none = Answer { etag: None, headers: HeaderMap::new(), body: Bytes::new() };
        for answer in [answer(), none] {
            assert_eq!(read(&answer.encode().expect("it fits")), Some(answer));
        }
        let wrong: [(&str, &[u8]); 6] = [
            ("nothing", b""),
            ("an etag that breaks off", b"\0\x05\"a\""),
            ("a header that breaks off", b"\0\0\x01\0\x04date\0\x02n"),
            ("a name in upper case", b"\0\0\x01\0\x04Date\0\x03now{}"),
            ("a name that is none", b"\0\0\x01\0\x02a:\0\x03now{}"),
            ("a value with a line break", b"\0\0\x01\0\x04date\0\x03a\nb{}"),
        ];
        for (what, bytes) in wrong {
            assert_eq!(read(bytes), None, "{what}");
        }
        assert!(read(b"\0\0\x01\0\x04date\0\x03now{}").is_some());
        let apart = b"\0\0\x03\0\x01a\0\0\0\x01b\0\0\0\x01a\0\0";
        assert_eq!(read(apart), None, "values of one name stand together");
    }

    #[test]
    fn what_is_too_large_is_not_shared() {
        let of = |body: usize, headers: usize| {
            let mut answer = Answer { etag: None, headers: HeaderMap::new(), body: vec![b'x'; body].into() };
            for _ in 0..headers {
                answer.headers.append("x-many", HeaderValue::from_static(""));
            }
            answer.encode()
        };
        assert_eq!(of(MAX_ANSWER - 3, 0).expect("it fits").len(), MAX_ANSWER);
        assert_eq!(of(MAX_ANSWER - 2, 0), None);
        assert!(of(0, 255).is_some());
        assert_eq!(of(0, 256), None);
        let mut long = answer();
        long.headers.insert(ETAG, HeaderValue::from_bytes(&[b'x'; 70_000]).expect("valid"));
        assert_eq!(long.encode(), None);
    }

    #[test]
    fn rounding_lengthens_no_life() {
        let mut exact = facts();
        exact.times.age = Duration::from_micros(1_001);
        exact.times.life = Duration::from_micros(1_999);
        let bytes = exact.encode().expect("it fits");
        let (read, _) = Facts::decode(&bytes).expect("facts");
        assert_eq!((read.times.age, read.times.life), (Duration::from_millis(2), Duration::from_millis(1)));
        exact.times.age = Duration::MAX;
        assert_eq!(exact.encode(), None, "an age that has no room is not made shorter");
        let many = Facts { tags: vec![TagId([0; 16]); MAX_TAGS + 1], ..facts() };
        assert_eq!(many.encode(), None);
    }

    #[test]
    fn a_time_that_is_absent_is_zero() {
        let mut bytes = facts().encode().expect("it fits");
        assert!(Facts::decode(&bytes).is_some());
        // The last byte of the absent expiration, and a flag without a meaning.
        for (place, bit) in [(16 + 1 + 8 + 7, 1), (16, 4)] {
            bytes[place] ^= bit;
            assert_eq!(Facts::decode(&bytes), None, "byte {place}");
            bytes[place] ^= bit;
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(answer) = read(&bytes) {
                prop_assert_eq!(answer.encode(), Some(bytes.clone()));
            }
            if let Some((facts, rest)) = Facts::decode(&bytes) {
                prop_assert_eq!([&facts.encode().unwrap(), rest].concat(), bytes);
            }
        }

        #[test]
        fn facts_are_read_back(
            position: (u64, u64), walls: (Option<i64>, Option<i64>, i64), age: u32, life: u32, tags: Vec<[u8; 16]>,
        ) {
            let times = Times {
                date: walls.0.map(Wall),
                expiration: walls.1.map(Wall),
                age: Duration::from_millis(age.into()),
                life: Duration::from_millis(life.into()),
                end: Wall(walls.2),
            };
            let position = Position { ms: position.0, seq: position.1 };
            let tags = tags.into_iter().take(MAX_TAGS).map(TagId).collect();
            let facts = Facts { position, times, tags };
            let bytes = [&facts.encode().unwrap()[..], b"rest"].concat();
            prop_assert_eq!(Facts::decode(&bytes), Some((facts, &b"rest"[..])));
        }
    }
}
