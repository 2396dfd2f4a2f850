//! W3C Trace Context: the trace that the caller's header names. Pure.

use uuid::Uuid;

/// The content of a `traceparent` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace's id; never zero.
    pub trace_id: u128,
    /// The id of the caller's span; never zero.
    pub span_id: u64,
    /// Whether the caller records its own part of the trace.
    pub sampled: bool,
}

impl TraceParent {
    /// Parses the header's value. Returns `None` for a value that Trace Context Level 1, 3.2.2 forbids: the request
    /// then belongs to no trace.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, more) = value.split_at_checked(LENGTH)?;
        let [version, trace_id, span_id, flags] = {
            let mut fields = known.split(|byte| *byte == b'-');
            [fields.next()?, fields.next()?, fields.next()?, fields.next()?]
        };
        let version = hex(version, 2).filter(|version| *version != 0xff)?;
        // Later versions may add fields after another hyphen. The sidecar ignores such fields.
        if !more.is_empty() && (version == 0 || more.first() != Some(&b'-')) {
            return None;
        }
        let trace_id = hex(trace_id, 32).filter(|id| *id != 0)?;
        let span_id = hex(span_id, 16).and_then(|id| u64::try_from(id).ok()).filter(|id| *id != 0)?;
        Some(Self { trace_id, span_id, sampled: hex(flags, 2)? & 1 == 1 })
    }
}

/// `00-` and then 32, 16 and 2 digits, with hyphens between them.
const LENGTH: usize = 55;

/// Parses `count` lower-case hexadecimal digits.
fn hex(digits: &[u8], count: usize) -> Option<u128> {
    if digits.len() != count {
        return None;
    }
    digits.iter().try_fold(0, |sum: u128, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(sum << 4 | u128::from(value))
    })
}

/// A trace id as 32 digits. The buffer must have room for them.
pub fn trace_id_text(id: u128, buffer: &mut [u8]) -> &str {
    // A trace id is no UUID, but is written like one.
    Uuid::from_u128(id).simple().encode_lower(buffer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
    const SPAN: u64 = 0x00f0_67aa_0ba9_02b7;

    #[test]
    fn what_is_read_and_what_is_not() {
        let good = |sampled| Some(TraceParent { trace_id: TRACE, span_id: SPAN, sampled });
        for (value, expected) in [
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", good(true)),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", good(false)),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fe", good(false)),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff", good(true)),
            // A later version may be longer.
            ("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", good(true)),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-holds", good(true)),
            ("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ", None),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", None),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0G", None),
            ("0g-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e47360-0f067aa0ba902b7-01", None),
            ("00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", None),
            ("00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None),
            ("", None),
        ] {
            assert_eq!(TraceParent::parse(value.as_bytes()), expected, "{value}");
        }
        assert_eq!(TraceParent::parse(&[0xff; 55]), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace_id in 1..=u128::MAX, span_id in 1..=u64::MAX, flags in any::<u8>()) {
            let read = TraceParent::parse(format!("00-{trace_id:032x}-{span_id:016x}-{flags:02x}").as_bytes());
            prop_assert_eq!(read, Some(TraceParent { trace_id, span_id, sampled: flags & 1 == 1 }));
            let mut buffer = Uuid::encode_buffer();
            prop_assert_eq!(trace_id_text(trace_id, &mut buffer), format!("{trace_id:032x}"));
        }

        #[test]
        fn anything_else_never_panics(value in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = TraceParent::parse(&value);
        }
    }
}
