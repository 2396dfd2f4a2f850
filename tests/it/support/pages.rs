//! Reads the files of this repository, and the tables in its pages.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// The folder of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file, by its path in the repository.
pub fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The cells of the tables in a text, without their heads.
pub fn rows(text: &str, cells: usize) -> Vec<Vec<&str>> {
    let rows = text.lines().filter(|line| line.starts_with("| `") || line.starts_with("| ["));
    let rows: Vec<Vec<&str>> = rows.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect();
    for row in &rows {
        assert_eq!(row.len(), cells, "{row:?}");
    }
    rows
}

/// The text between backticks.
pub fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The indented blocks of a page, each without its indentation. An empty line between indented ones is dropped.
pub fn blocks(text: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let (mut inside, mut blank) = (false, true);
    for line in text.lines() {
        if line.trim().is_empty() {
            blank = true;
            continue;
        }
        let indented = line.starts_with("    ");
        if indented && inside {
            let block = blocks.last_mut().expect("inside one");
            block.push('\n');
            block.push_str(line.trim());
        } else if indented && blank {
            blocks.push(line.trim().to_owned());
        }
        inside = indented && (inside || blank);
        blank = false;
    }
    blocks
}

/// Every call that `docs/calls.md` lists, as method and template.
pub fn calls() -> BTreeSet<String> {
    let text = page("docs/calls.md");
    let (table, _) = text.split_once("\n## ").expect("the table comes first");
    rows(table, 7).iter().map(|row| quoted(row[0]).remove(0)).collect()
}
