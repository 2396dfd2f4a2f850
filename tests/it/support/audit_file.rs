//! The audit file of a test's sidecar.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::process::{Ended, Folder, run};

pub const CAPTURE: &str = r#"{"capture_amount":{"amount_in_cents":100,"currency":"USD"},"partial_capture":true}"#;

/// The path of the audit file in a folder.
pub fn file(folder: &Folder) -> PathBuf {
    folder.path().join("audit.log")
}

/// The whole lines of an audit file, parsed.
pub fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The lines about calls.
pub fn of_calls(file: &Path) -> Vec<Value> {
    lines(file).into_iter().filter(|line| line["event"] == "begin" || line["event"] == "end").collect()
}

/// Runs `audit verify`.
pub async fn verify(files: &[&Path]) -> Ended {
    let files = files.iter().map(|file| file.to_str().expect("UTF-8"));
    run(&["audit", "verify"].into_iter().chain(files).collect::<Vec<_>>(), &[]).await
}

/// Fails unless the files are one chain. Returns what the command said.
pub async fn verified(files: &[&Path]) -> String {
    let ended = verify(files).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
    ended.stdout
}
