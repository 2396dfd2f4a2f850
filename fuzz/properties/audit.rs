//! Whatever an audit file holds: its check says nothing that could do harm at a terminal, and finds the same however the
//! lines are spelt. A line that is gone or stands twice is found.

use sezzle_sidecar::audit::{Finding, Verifier};

pub fn holds(data: &[u8]) {
    let (verified, findings) = verify(data);
    let lines: Vec<&[u8]> = data.split_inclusive(|byte| *byte == b'\n').collect();
    let breaks = findings.iter().filter(|finding| finding.is_break).count();
    assert_eq!(verified.breaks, breaks as u64);
    assert!(verified.lines <= lines.len() as u64);
    assert_eq!(verified.range().is_some(), verified.lines > 0);
    for finding in &findings {
        assert!((1..=lines.len() as u64).contains(&finding.line), "{finding}");
        assert!(!finding.to_string().chars().any(char::is_control), "{finding:?}");
    }

    let audit_lines: Vec<usize> = (0..lines.len()).filter(|index| is_audit_line(lines[*index])).collect();
    assert_eq!(audit_lines.len() as u64, verified.lines);
    let respelt: Vec<u8> = lines.iter().flat_map(|line| respelt(line)).collect();
    let (again, said) = verify(&respelt);
    assert_eq!((again.lines, again.range()), (verified.lines, verified.range()));
    assert_eq!(said, findings, "the same lines in another spelling");

    if breaks > 0 {
        return;
    }
    // Without the last line, or without some of the first, the file is that of another time.
    for inner in audit_lines.iter().skip(1).rev().skip(1) {
        let without: Vec<u8> =
            (0..lines.len()).filter(|index| index != inner).flat_map(|index| lines[index]).copied().collect();
        assert!(verify(&without).0.breaks > 0, "nobody misses line {}", inner + 1);
        let twice: Vec<u8> = (0..lines.len())
            .flat_map(|index| std::iter::repeat_n(lines[index], if index == *inner { 2 } else { 1 }))
            .flatten()
            .copied()
            .collect();
        assert!(verify(&twice).0.breaks > 0, "line {} may stand twice", inner + 1);
    }
}

fn verify(data: &[u8]) -> (Verifier, Vec<Finding>) {
    let (mut verifier, mut findings) = (Verifier::default(), Vec::new());
    verifier.read("audit.log", data, &mut |finding| findings.push(finding)).expect("bytes can be read");
    (verifier, findings)
}

fn is_audit_line(line: &[u8]) -> bool {
    verify(line).0.lines == 1
}

/// The line as another library for JSON would write it. A line that is none stays as it is.
fn respelt(line: &[u8]) -> Vec<u8> {
    // Another spelling must not be longer than a line may be.
    if line.len() > 2048 || !is_audit_line(line) {
        return line.to_vec();
    }
    let json: serde_json::Value = serde_json::from_slice(line).expect("a line is JSON");
    let members = json.as_object().expect("a line is an object").iter().rev();
    let members: Vec<String> = members.map(|(name, value)| format!("{}  : {}", escaped(name), spelt(value))).collect();
    let end = if line.ends_with(b"\n") { "\n" } else { "" };
    format!("{{ {} }}{end}", members.join(" ,\t")).into_bytes()
}

fn spelt(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), escaped)
}

/// A text with each character that is no letter or digit as an escape.
fn escaped(text: &str) -> String {
    let unit = |unit: u16| match char::from_u32(unit.into()) {
        Some(plain) if plain.is_ascii_alphanumeric() => plain.to_string(),
        Some(_) | None => format!("\\u{unit:04x}"),
    };
    format!("\"{}\"", text.encode_utf16().map(unit).collect::<String>())
}
