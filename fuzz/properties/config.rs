//! Whatever a configuration holds: it is taken or refused line by line, and no secret is ever shown.
//!
//! Input: a TOML file, a line `---`, then lines `NAME=value` of variables without their prefix.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::{env, fs, process, thread};

use sezzle_sidecar::config::{self, Loaded, Problems};

/// The value of both keys.
const KEY: &str = "kept-from-every-eye";

pub fn holds(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n').peekable();
    // The line may be the first one.
    let (file, variables) = match data.windows(5).position(|window| window == b"\n---\n") {
        Some(at) => (&data[..at + 1], &data[at + 5..]),
        None if parts.next() == Some(b"---") => (&b""[..], parts.next().unwrap_or_default()),
        None => (data, &b""[..]),
    };
    let path = env::temp_dir().join(format!("sezzle-sidecar-fuzz-{}-{:?}.toml", process::id(), thread::current().id()));
    fs::write(&path, file).expect("writable");
    let loaded = config::load(std::slice::from_ref(&path), environment(variables));
    // Each input removes its file, so that none is left behind the last one.
    fs::remove_file(&path).expect("was there");
    match loaded {
        Ok(loaded) => taken(&loaded),
        Err(problems) => refused(&problems),
    }
}

fn taken(loaded: &Loaded) {
    let shown = loaded.render();
    hidden(&shown);
    hidden(&format!("{loaded:?}"));
    let table: toml::Table = shown.parse().unwrap_or_else(|error| panic!("{error}: {shown}"));
    assert!(table.contains_key("gateway"));
    let settings = &loaded.settings;
    assert!(!settings.proxy.listen.is_empty() && settings.proxy.workers > 0);
    assert!(settings.drain.timeout > settings.drain.grace + settings.gateway.write_timeout);
    assert!(settings.limits.head >= 8192, "the parser needs as much");
    let url = &settings.gateway.url;
    assert!(url.starts_with("https://") || url.starts_with("http://"), "{url}");
}

fn refused(problems: &Problems) {
    let shown = problems.to_string();
    hidden(&shown);
    assert!(!shown.is_empty());
    assert_eq!(shown.lines().count(), problems.iter().count(), "a line each: {shown:?}");
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    // A key that was pasted in the wrong place is not shown either. No name of a setting holds this text.
    assert!(!shown.to_ascii_lowercase().contains("sz_pr"), "{shown}");
}

fn hidden(shown: &str) {
    assert!(!shown.contains(KEY), "{shown}");
}

fn environment(lines: &[u8]) -> Vec<(OsString, OsString)> {
    let keys = [("CREDENTIALS__PUBLIC_KEY", KEY), ("CREDENTIALS__PRIVATE_KEY", KEY)];
    let mut variables: Vec<(OsString, OsString)> =
        keys.iter().map(|(name, value)| (format!("SEZZLE_SIDECAR__{name}").into(), value.into())).collect();
    for line in lines.split(|byte| *byte == b'\n').take(40) {
        let Some(equals) = line.iter().position(|byte| *byte == b'=') else { continue };
        let name = [b"SEZZLE_SIDECAR__", &line[..equals]].concat();
        variables.push((OsString::from_vec(name), OsString::from_vec(line[equals + 1..].to_vec())));
    }
    variables
}
