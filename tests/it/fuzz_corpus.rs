//! The seeds and findings of fuzzing as ordinary tests: every file in `fuzz/corpus` goes through the function that a
//! fuzzer calls.

#[path = "../../fuzz/properties/amount.rs"]
mod amount;
#[path = "../../fuzz/properties/audit.rs"]
mod audit;
#[path = "../../fuzz/properties/config.rs"]
mod config;
#[path = "../../fuzz/properties/links.rs"]
mod links;
#[path = "../../fuzz/properties/route.rs"]
mod route;
#[path = "../../fuzz/properties/session_facts.rs"]
mod session_facts;
#[path = "../../fuzz/properties/simulator_control.rs"]
mod simulator_control;
#[path = "../../fuzz/properties/unseal.rs"]
mod unseal;

use std::fs;
use std::path::{Path, PathBuf};

type Property = fn(&[u8]);

/// Every fuzz target's name and function.
const TARGETS: [(&str, Property); 8] = [
    ("amount", amount::holds),
    ("audit", audit::holds),
    ("config", config::holds),
    ("links", links::holds),
    ("route", route::holds),
    ("session_facts", session_facts::holds),
    ("simulator_control", simulator_control::holds),
    ("unseal", unseal::holds),
];

fn entries(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    entries
}

#[test]
fn every_input_of_every_target_holds() {
    for (target, holds) in TARGETS {
        let inputs = entries(&format!("corpus/{target}"));
        assert!(inputs.len() >= 10, "{target} has {} inputs", inputs.len());
        for input in inputs {
            let data = fs::read(&input).expect("readable");
            // Files are small, so that a reader can see the purpose of each.
            assert!(data.len() <= 16 * 1024, "{}", input.display());
            let ran = std::panic::catch_unwind(|| holds(&data));
            assert!(ran.is_ok(), "{} does not hold", input.display());
        }
    }
}

#[test]
fn no_target_is_left_out() {
    let known: Vec<&str> = TARGETS.iter().map(|(target, _)| *target).collect();
    for folder in ["fuzz_targets", "properties", "corpus"] {
        let entries = entries(folder);
        let names: Vec<&str> =
            entries.iter().map(|path| path.file_stem().and_then(|name| name.to_str()).expect("UTF-8")).collect();
        assert_eq!(names, known, "fuzz/{folder}");
    }
}
