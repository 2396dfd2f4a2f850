use super::*;
use crate::audit::line::Fields;

/// A chain of lines with these events.
fn chain(events: &[&str]) -> Vec<String> {
    let mut tip = Tip::NONE;
    let mut lines = Vec::new();
    for event in events {
        let (line, next) = tip.extend(Fields::of_event(event));
        lines.push(line);
        tip = next;
    }
    lines
}

fn verified(files: &[String]) -> (u64, Vec<String>) {
    let (mut verifier, mut said) = (Verifier::default(), Vec::new());
    for (number, file) in files.iter().enumerate() {
        let mut tell = |finding: Finding| said.push(finding.to_string());
        verifier.read(&format!("f{number}"), file.as_bytes(), &mut tell).expect("read");
    }
    (verifier.breaks, said)
}

fn file(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_whole_chain_has_no_finding_in_one_file_or_in_several() {
    let lines = chain(&["open", "begin", "end", "begin", "end"]);
    assert_eq!(verified(&[file(&lines)]), (0, vec![]));
    assert_eq!(verified(&[file(&lines[..2]), String::new(), file(&lines[2..])]), (0, vec![]));
    let (breaks, said) = verified(&[file(&lines[2..])]);
    assert!(breaks == 0 && said.len() == 1 && said[0].starts_with("f0:1: the chain begins before"), "{said:?}");
}

#[test]
fn every_change_of_a_line_that_another_follows_is_found_where_it_is() {
    let lines = chain(&["open", "begin", "end", "begin", "end"]);
    let changed = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = lines.clone();
        change(&mut lines);
        verified(&[file(&lines)])
    };
    for (what, change, place) in [
        (
            "changed",
            &(|l: &mut Vec<String>| l[1] = l[1].replace("begin", "begun")) as &dyn Fn(&mut Vec<String>),
            "f0:3: BREAK: line 2 before",
        ),
        ("removed", &|l| drop(l.remove(2)), "f0:3: BREAK: line 4 follows line 2"),
        ("moved", &|l| l.swap(1, 2), "f0:2: BREAK: line 3 follows line 1"),
        ("repeated", &|l| l.insert(2, l[1].clone()), "f0:3: BREAK: line 2 follows line 2"),
        ("no line", &|l| l[1] = "{}".to_owned(), "f0:2: BREAK: this is no audit line"),
        ("added", &|l| l.insert(2, "x".to_owned()), "f0:3: BREAK: this is no audit line"),
        ("a field twice", &|l| l[2] = l[2].replace("{", "{\"n\":9,"), "f0:3: BREAK: this is no audit line"),
        ("long", &|l| l.insert(3, "x".repeat(70_000)), "f0:4: BREAK: the line has 70001 bytes"),
    ] {
        let (breaks, said) = changed(change);
        assert!(breaks > 0 && said[0].starts_with(place), "{what}: {said:?}");
    }
}

#[test]
fn a_torn_line_is_said_and_is_no_break() {
    let lines = chain(&["open", "begin"]);
    let torn = format!("{}{{\"event\":\"e", file(&lines));
    let (breaks, said) = verified(std::slice::from_ref(&torn));
    assert!(breaks == 0 && said[0].starts_with("f0:3: the file ends in a torn line (11 bytes)"), "{said:?}");

    let tip = Line::parse(lines[1].as_bytes()).expect("a line").tip;
    for (marked, is_whole) in [(11, true), (12, true), (10, false), (0, false)] {
        let (next, _) = tip.extend(Fields::of_event("open").number("torn", marked));
        let (breaks, said) = verified(&[format!("{torn}\n{next}\n")]);
        assert_eq!(breaks == 0, is_whole, "{marked}: {said:?}");
        assert!(said[0].starts_with("f0:3: "), "{said:?}");
    }
    let (next, _) = tip.extend(Fields::of_event("open").number("torn", 11));
    let (breaks, said) = verified(&[file(&lines) + &next]);
    assert!(breaks == 1 && said[0].contains("is gone"), "{said:?}");
}

/// Rotated files are compressed, and one that was left so must not pass for a file that a crash cut off.
#[test]
fn what_no_cut_write_leaves_is_a_break_at_the_end_of_a_file_too() {
    let lines = chain(&["open", "begin"]);
    let whole = file(&lines);
    for (end, line) in [
        ("rubbish", 3),
        ("rubbish\nrubbish\nrub", 3),
        ("{}", 3),
        ("{\"a\":1}", 3),
        ("{\"n\":1,\"n\":2", 3),
        ("{\"event\":\"e\nrubbish", 4),
        ("{\"event\":\"e\0x", 3),
        ("{\"event\":\"e\n", 3),
    ] {
        let (breaks, said) = verified(&[format!("{whole}{end}")]);
        assert!(breaks == 1 && said[0].starts_with(&format!("f0:{line}: BREAK: this is no audit")), "{end}: {said:?}");
    }
    let (breaks, said) = verified(&[format!("{whole}{}", "{".repeat(70_000))]);
    assert!(breaks == 1 && said[0].starts_with("f0:3: BREAK: the line has 70000 bytes"), "{said:?}");
    // A file of nothing else, in front of the chain.
    let (breaks, said) = verified(&["rubbish".to_owned(), whole.clone()]);
    assert!(breaks == 1 && said[0].starts_with("f0:1: BREAK: this is no audit line"), "{said:?}");
    // A line that the sidecar marks as torn must have been one.
    let tip = Line::parse(lines[1].as_bytes()).expect("a line").tip;
    let (next, _) = tip.extend(Fields::of_event("open").number("torn", 7));
    let (breaks, said) = verified(&[format!("{whole}rubbish\n{next}\n")]);
    assert!(breaks == 1 && said[0].starts_with("f0:3: BREAK: this is no audit line"), "{said:?}");
}

#[test]
fn what_a_cut_write_leaves_is_a_torn_line() {
    let whole = file(&chain(&["open", "begin"]));
    // Each write to a full disk may leave another.
    for end in ["{", "{\"", "{\"event\":", "{\"n\":12", "{\"n\":1,\"e", "{\"ev\n{\"e", "{\"ev\n\n{", "{\"e\0\0"] {
        for before in ["", &whole] {
            let (breaks, said) = verified(&[format!("{before}{end}")]);
            assert!(breaks == 0 && said.len() == 1 && said[0].contains("ends in a torn line"), "{end}: {said:?}");
        }
    }
}

#[test]
fn a_compressed_file_is_named_as_one() {
    let whole = file(&chain(&["open"]));
    for (magic, program) in [
        (&b"\x1f\x8b\x08\0"[..], "gunzip"),
        (b"\x28\xb5\x2f\xfd\n", "unzstd"),
        (b"\xfd7zXZ\0\n\n", "unxz"),
        (b"BZh9", "bunzip2"),
    ] {
        let (mut verifier, mut said) = (Verifier::default(), Vec::new());
        for (name, content) in [("packed", magic), ("plain", whole.as_bytes())] {
            verifier.read(name, content, &mut |finding: Finding| said.push(finding.to_string())).expect("read");
        }
        assert_eq!((verifier.breaks, verifier.lines, said.len()), (1, 1, 1), "{said:?}");
        assert!(said[0].starts_with("packed:1: BREAK: the file is compressed with ") && said[0].contains(program));
    }
}

/// A file system may leave zeros in place of the bytes that a crash of the machine took.
#[test]
fn a_torn_line_may_be_longer_than_any_line() {
    let lines = chain(&["open", "begin"]);
    let zeros = "\0".repeat(100_000);
    let (breaks, said) = verified(&[file(&lines) + &zeros]);
    assert!(breaks == 0 && said[0].starts_with("f0:3: the file ends in a torn line (100000 bytes)"), "{said:?}");
    let tip = Line::parse(lines[1].as_bytes()).expect("a line").tip;
    let (next, _) = tip.extend(Fields::of_event("open").number("torn", 100_000));
    let (breaks, said) = verified(&[format!("{}{zeros}\n{next}\n", file(&lines))]);
    assert!(breaks == 0 && said[0].starts_with("f0:3: a torn line"), "{said:?}");
}

#[test]
fn what_the_sidecar_says_of_its_file_is_passed_on() {
    let lines = chain(&["open", "begin"]);
    let tip = Line::parse(lines[1].as_bytes()).expect("a line").tip;
    let (gap, _) = tip.extend(Fields::of_event("gap").number("missed", 3));
    let (breaks, said) = verified(&[file(&lines) + &gap]);
    assert_eq!((breaks, said.len()), (0, 1), "{said:?}");
    let (open, _) = tip.extend(Fields::of_event("open").text("lost", &"a".repeat(64)));
    assert_eq!(verified(&[file(&lines) + &open]).0, 1);
    let (open, _) = tip.extend(Fields::of_event("open").text("lost", "HASH"));
    let (breaks, said) = verified(&[file(&lines) + &open.replace("HASH", "\\u001b[2J\\n")]);
    assert!(breaks == 1 && said[0].contains("the hash ?[2J?"), "{said:?}");
    let (breaks, said) = verified(&[file(&lines), file(&chain(&["open"]))]);
    assert!(breaks == 1 && said[0].starts_with("f1:1: BREAK: a new chain begins here"), "{said:?}");
}
