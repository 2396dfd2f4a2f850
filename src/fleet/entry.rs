//! One entry of the log: its bytes, and its position. Pure.
//!
//! Pods of different versions share one log during an upgrade. So decoding is strict, and each entry has exactly one
//! form. Bytes that cannot be decoded become a [`Foreign`] entry, which the reader must treat as the worst entry
//! possible.

use std::fmt;
use std::time::Duration;

use crate::session::invalidation::tag_id::TagId;

/// The number of one write or purge, unique in the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// The random name of one log. A log that was lost and made again has another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogId(pub [u8; 16]);

/// The meaning of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// A write to `tag` is about to be sent. Unless its end follows within `longest`, its outcome is unknown.
    Begin { tag: TagId, write: WriteId, longest: Duration },
    /// Sezzle answered, and has finished the write.
    Answered { tag: TagId, write: WriteId },
    /// The write ended, and may still take effect.
    Unknown { tag: TagId, write: WriteId },
    /// No part of the write was sent.
    NotSent { tag: TagId, write: WriteId },
    /// A webhook or an operator reports a change.
    Changed { tag: TagId, write: WriteId },
    /// Everything may have changed.
    All {
        write: WriteId,
        /// How long from now nothing that is fetched may be stored.
        doubt: Duration,
    },
    /// The log has this name from here on.
    Id(LogId),
}

impl Entry {
    /// Bytes of an entry.
    pub const SIZE: usize = 29;

    /// The entry as it stands in the log. Durations are rounded up to milliseconds.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        const NOTHING: TagId = TagId([0; 16]);
        let (kind, TagId(tag), WriteId(write), time) = match *self {
            Self::Begin { tag, write, longest } => (BEGIN, tag, write, longest),
            Self::Answered { tag, write } => (ANSWERED, tag, write, Duration::ZERO),
            Self::Unknown { tag, write } => (UNKNOWN, tag, write, Duration::ZERO),
            Self::NotSent { tag, write } => (NOT_SENT, tag, write, Duration::ZERO),
            Self::Changed { tag, write } => (CHANGED, tag, write, Duration::ZERO),
            Self::All { write, doubt } => (ALL, NOTHING, write, doubt),
            Self::Id(LogId(id)) => (ID, TagId(id), WriteId(0), Duration::ZERO),
        };
        let mut bytes = [0; Self::SIZE];
        let fields = [kind].into_iter().chain(tag).chain(write.to_be_bytes()).chain(millis(time).to_be_bytes());
        for (place, byte) in bytes.iter_mut().zip(fields) {
            *place = byte;
        }
        bytes
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// When the bytes are not exactly what [`Entry::encode`] makes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Foreign> {
        // The comparison with the one right form also finds a field that has to be zero and is not.
        Self::fields(bytes).filter(|entry| entry.encode() == bytes).ok_or_else(|| Foreign::of(bytes))
    }

    fn fields(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (id, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let time = Duration::from_millis(u32::from_be_bytes(*rest.first_chunk()?).into());
        let (tag, write) = (TagId(*id), WriteId(u64::from_be_bytes(*number)));
        match *kind {
            BEGIN => Some(Self::Begin { tag, write, longest: time }),
            ANSWERED => Some(Self::Answered { tag, write }),
            UNKNOWN => Some(Self::Unknown { tag, write }),
            NOT_SENT => Some(Self::NotSent { tag, write }),
            CHANGED => Some(Self::Changed { tag, write }),
            ALL => Some(Self::All { write, doubt: time }),
            ID => Some(Self::Id(LogId(*id))),
            _ => None,
        }
    }

    /// The write or purge that this entry is about.
    pub fn write(&self) -> Option<WriteId> {
        match *self {
            Self::Begin { write, .. }
            | Self::Answered { write, .. }
            | Self::Unknown { write, .. }
            | Self::NotSent { write, .. }
            | Self::Changed { write, .. }
            | Self::All { write, .. } => Some(write),
            Self::Id(_) => None,
        }
    }

    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Begin { .. } => "begin",
            Self::Answered { .. } => "answered",
            Self::Unknown { .. } => "unknown",
            Self::NotSent { .. } => "not-sent",
            Self::Changed { .. } => "changed",
            Self::All { .. } => "all",
            Self::Id(_) => "id",
        }
    }
}

// Zero is no kind, so that a zeroed entry cannot be decoded.
const BEGIN: u8 = 1;
const ANSWERED: u8 = 2;
const UNKNOWN: u8 = 3;
const NOT_SENT: u8 = 4;
const CHANGED: u8 = 5;
const ALL: u8 = 6;
const ID: u8 = 7;

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

/// An entry that this version cannot read: damaged, forged, or of a later version. The length and the first bytes tell
/// two such entries apart, and are all that is kept of a long entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Foreign {
    length: usize,
    first: [u8; 32],
}

impl Foreign {
    fn of(bytes: &[u8]) -> Self {
        let mut first = [0; 32];
        for (place, byte) in first.iter_mut().zip(bytes) {
            *place = *byte;
        }
        Self { length: bytes.len(), first }
    }
}

/// The id of an entry in the stream, in the order of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Milliseconds of the server's clock. They never run backwards within one log.
    pub ms: u64,
    /// The number among the entries of one millisecond.
    pub seq: u64,
}

impl Position {
    /// Reads `ms-seq`, in the one form that the server writes.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let dash = text.iter().position(|byte| *byte == b'-')?;
        let (ms, seq) = text.split_at_checked(dash)?;
        Some(Self { ms: number(ms)?, seq: number(seq.split_first()?.1)? })
    }

    /// The position as 16 bytes, in the same order as positions.
    pub fn to_bytes(self) -> [u8; 16] {
        ((u128::from(self.ms) << 64) | u128::from(self.seq)).to_be_bytes()
    }

    /// Reads what [`Position::to_bytes`] made.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let [ms, seq] = [64, 0].map(|shift| u128::from_be_bytes(bytes) >> shift & u128::from(u64::MAX));
        // Both fit after the mask.
        Self { ms: u64::try_from(ms).unwrap_or(u64::MAX), seq: u64::try_from(seq).unwrap_or(u64::MAX) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// A number in decimal digits, without a sign, a space or a zero in front.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 1 && digits.first() == Some(&b'0') {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte.wrapping_sub(b'0')))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// One entry as it was read from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Item {
    pub at: Position,
    pub entry: Result<Entry, Foreign>,
}

impl Item {
    /// Reads an item from the id and the bytes that the server sent. `None` if the id has another form than those of a
    /// stream. Nothing in such a reply can be trusted.
    pub fn read(id: &[u8], bytes: &[u8]) -> Option<Self> {
        Some(Self { at: Position::parse(id)?, entry: Entry::decode(bytes) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TAG: TagId = TagId([7; 16]);
    const WRITE: WriteId = WriteId(0x0102_0304_0506_0708);

    fn all() -> [Entry; 7] {
        let (tag, write) = (TAG, WRITE);
        [
            Entry::Begin { tag, write, longest: Duration::from_secs(30) },
            Entry::Answered { tag, write },
            Entry::Unknown { tag, write },
            Entry::NotSent { tag, write },
            Entry::Changed { tag, write },
            Entry::All { write, doubt: Duration::from_millis(5) },
            Entry::Id(LogId([9; 16])),
        ]
    }

    #[test]
    fn an_entry_has_one_form() {
        for (index, entry) in all().iter().enumerate() {
            let bytes = entry.encode();
            assert_eq!(usize::from(bytes[0]), index + 1, "the kinds are a contract between versions");
            assert_eq!(Entry::decode(&bytes), Ok(*entry));
            for length in 0..bytes.len() {
                assert!(Entry::decode(&bytes[..length]).is_err(), "{} of {} bytes", length, bytes.len());
            }
            assert!(Entry::decode(&[&bytes[..], &[0]].concat()).is_err(), "one byte too many");
        }
        assert_eq!(
            all()[0].encode().map(|byte| format!("{byte:02x}")).concat(),
            "0107070707070707070707070707070707010203040506070800007530"
        );
    }

    #[test]
    fn a_field_that_has_no_meaning_is_zero() {
        // The kind, and the places of the fields that it does not use.
        let rows: [(u8, &[usize]); 6] =
            [(2, &[25, 28]), (3, &[25, 28]), (4, &[28]), (5, &[28]), (6, &[1, 16]), (7, &[17, 24, 25, 28])];
        for (kind, places) in rows {
            for place in places {
                let mut bytes = all()[usize::from(kind) - 1].encode();
                bytes[*place] ^= 1;
                assert!(Entry::decode(&bytes).is_err(), "kind {kind}, byte {place}");
            }
        }
    }

    #[test]
    fn a_kind_that_is_not_known_is_kept_apart_from_every_other() {
        let newer = |last| {
            let mut bytes = all()[0].encode();
            (bytes[0], bytes[28]) = (8, last);
            Entry::decode(&bytes)
        };
        assert!(newer(1).is_err());
        assert_eq!(newer(1), newer(1));
        assert_ne!(newer(1), newer(2), "the gap check compares the bytes");
        assert_ne!(Entry::decode(&[8; 40]), Entry::decode(&[8; 41]));
    }

    #[test]
    fn a_time_is_rounded_up_and_never_overflows() {
        let longest = |longest| Entry::decode(&Entry::Begin { tag: TAG, write: WRITE, longest }.encode());
        let read = |millis| Ok(Entry::Begin { tag: TAG, write: WRITE, longest: Duration::from_millis(millis) });
        assert_eq!(longest(Duration::from_micros(1_001)), read(2));
        assert_eq!(longest(Duration::MAX), read(u64::from(u32::MAX)));
    }

    #[test]
    fn a_position_is_read_in_the_servers_form_only() {
        let read = |text: &str| Position::parse(text.as_bytes()).map(|at| (at.ms, at.seq));
        assert_eq!(read("0-0"), Some((0, 0)));
        assert_eq!(read("1764412345678-12"), Some((1_764_412_345_678, 12)));
        assert_eq!(read("18446744073709551615-18446744073709551615"), Some((u64::MAX, u64::MAX)));
        for text in
            ["", "-", "1", "1-", "-1", "01-1", "1-01", "+1-1", "1--1", "1-1 ", "1-1-1", "18446744073709551616-0"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_entry_or_foreign(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(entry) = Entry::decode(&bytes) {
                prop_assert_eq!(&entry.encode()[..], &bytes[..]);
            }
            let _ = Position::parse(&bytes);
        }

        #[test]
        fn bytes_that_look_like_an_entry_are_read_back(
            kind in 0_u8..9, tag: [u8; 16], write: u64, ms: u32, zeros: [bool; 3],
        ) {
            let (tag, write, ms) =
                (if zeros[0] { [0; 16] } else { tag }, if zeros[1] { 0 } else { write }, if zeros[2] { 0 } else { ms });
            let bytes = [&[kind][..], &tag, &write.to_be_bytes(), &ms.to_be_bytes()].concat();
            match Entry::decode(&bytes) {
                Ok(entry) => prop_assert_eq!(&entry.encode()[..], &bytes[..]),
                Err(_) => prop_assert!(!(1..=7).contains(&kind) || !zeros[0] || !zeros[1] || !zeros[2]),
            }
        }

        #[test]
        fn positions_keep_their_order_as_text_and_as_bytes(a: (u64, u64), b: (u64, u64)) {
            let [a, b] = [a, b].map(|(ms, seq)| Position { ms, seq });
            prop_assert_eq!(Position::parse(a.to_string().as_bytes()), Some(a));
            prop_assert_eq!(Position::from_bytes(a.to_bytes()), a);
            prop_assert_eq!(a.cmp(&b), a.to_bytes().cmp(&b.to_bytes()));
        }
    }
}
