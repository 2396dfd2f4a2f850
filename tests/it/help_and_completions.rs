//! `--help` reads as a manual page, and shells complete the command line.

use std::fs;
use std::path::{Path, PathBuf};

use sezzle_sidecar::config;

use crate::support::process::{BINARY, Ended, Folder, Process, run};

const COMMANDS: [&str; 14] = [
    "run",
    "check",
    "healthcheck",
    "wait",
    "demo",
    "simulate",
    "explain",
    "purge",
    "status",
    "log-level",
    "audit",
    "certificate",
    "completions",
    "version",
];

/// Every page, by the arguments that show it.
async fn pages() -> Vec<(String, String)> {
    let mut pages = vec![("--help".to_owned(), run(&["--help"], &[]).await.stdout)];
    for command in COMMANDS {
        pages.push((format!("help {command}"), run(&["help", command], &[]).await.stdout));
        let same = run(&[command, "--help"], &[]).await.stdout;
        assert_eq!(pages.last().expect("just pushed").1, same, "{command}");
    }
    pages
}

#[tokio::test]
async fn every_command_has_a_manual_page() {
    let pages = pages().await;
    for (name, page) in &pages {
        assert!(page.contains("\nUsage: sezzle-sidecar"), "{name}:\n{page}");
        // `version` has nothing to explain.
        if name != "help version" {
            for section in ["Exit codes:", "Examples:"] {
                assert!(page.contains(&format!("\n{section}\n")), "{section} in {name}:\n{page}");
            }
        }
        let wide = |line: &&str| line.chars().count() > 80 && !line.starts_with("Usage: ");
        let wide = page.lines().filter(wide).collect::<Vec<_>>();
        assert!(wide.is_empty(), "{name}: {wide:?}");
    }
    let (_, main) = &pages[0];
    for word in COMMANDS {
        assert!(main.contains(&format!("\n  {word} ")), "{word} in\n{main}");
    }
    let commands = main.split("\nCommands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("a list");
    assert_eq!(commands.lines().count(), COMMANDS.len() + 1, "and help: {commands}");
    for section in ["Configuration:", "Environment:", "Files:", "Exit codes:", "Examples:"] {
        assert!(main.contains(&format!("\n{section}\n")), "{section} in\n{main}");
    }
}

#[tokio::test]
async fn the_keys_in_manual_pages_and_the_variables_in_documents_are_real() {
    let known: Vec<&str> = config::reference().iter().map(|key| key.key).collect();
    let sections: Vec<&str> = known.iter().filter_map(|key| key.split('.').next()).collect();
    let manuals = pages().await;
    let mut found = 0;
    for (name, page) in manuals.iter().chain(&documents()) {
        for word in page.split(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | '_'))) {
            let word = word.trim_end_matches('.');
            if let Some(variable) = word.strip_prefix("SEZZLE_SIDECAR__").filter(|rest| !rest.is_empty()) {
                let key = variable.to_lowercase().replace("__", ".");
                let file = format!("{key}_file");
                let real = known.contains(&key.as_str()) || known.contains(&file.as_str()) || key == "section.key";
                assert!(real, "{name}: {word}");
                found += 1;
            } else if name.ends_with(".md") {
                // Documents contain other dotted names, too.
            } else if let Some((section, rest)) = word.split_once('.')
                && sections.contains(&section)
                && !matches!(rest, "toml" | "pem" | "key" | "log" | "log.1" | "log.2")
            {
                assert!(known.contains(&word), "{name}: {word}");
                found += 1;
            }
        }
    }
    assert!(found > 30, "{found}");
}

/// Pages of `docs`, and the README.
fn documents() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(root.join("docs")).expect("docs").map(|entry| entry.expect("an entry").path());
    let read = |path: PathBuf| (path.display().to_string(), fs::read_to_string(path).expect("a page"));
    pages.chain([root.join("README.md")]).map(read).collect()
}

#[tokio::test]
async fn the_examples_in_manual_pages_and_documents_are_accepted() {
    let folder = Folder::new();
    let mut tried = 0;
    for (name, page) in pages().await.into_iter().chain(documents()) {
        let page = page.replace("\\\n", "");
        for line in page.lines().filter_map(|line| line.strip_prefix("    ")?.trim().strip_prefix("sezzle-sidecar ")) {
            let line =
                [" < ", " > ", " | ", " && "].iter().fold(line, |line, end| line.split(end).next().expect("one"));
            // With `--help` a command shows its page instead of running, unless its line has a mistake.
            let help = if line.starts_with("help ") { "" } else { "--help" };
            let ended = Process::shell(&format!("sezzle-sidecar {line} {help}"), folder.path(), &[]).end().await;
            assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{name}: {line}");
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried}");
}

/// The words that bash would offer at the end of a line.
async fn bash(line: &str) -> Vec<String> {
    let folder = Folder::new();
    let Ended { code, stdout, stderr } = run(&["completions", "bash"], &[]).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    folder.write("completions", &stdout);
    folder.write("sandbox.toml", "");
    // Calls the function that `complete` was given, as bash does, with the words of the line and the one under the
    // cursor.
    folder.write(
        "offer",
        "source ./completions\n\
         function=$(complete -p sezzle-sidecar | sed -n 's/.* -F \\([^ ]*\\) .*/\\1/p')\n\
         read -r -a COMP_WORDS <<< \"$LINE\"\n\
         case $LINE in *' ') COMP_WORDS+=('') ;; esac\n\
         COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE=$LINE COMP_POINT=${#LINE}\n\
         $function sezzle-sidecar \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"\n\
         printf '%s\\n' \"${COMPREPLY[@]}\"\n",
    );
    let Ended { code, stdout, stderr } =
        Process::shell(&format!("LINE='{line}' exec bash offer"), folder.path(), &[]).end().await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{line}");
    stdout.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn bash_completes_commands_options_and_their_values() {
    let commands = bash("sezzle-sidecar ").await;
    for command in COMMANDS {
        assert!(commands.iter().any(|offered| offered == command), "{command} in {commands:?}");
    }
    for (line, expected) in [
        ("sezzle-sidecar hea", &["healthcheck"][..]),
        ("sezzle-sidecar wait --m", &["--max"]),
        ("sezzle-sidecar check --co", &["--config"]),
        ("sezzle-sidecar demo --f", &["--fleet"]),
        ("sezzle-sidecar status --j", &["--json"]),
        ("sezzle-sidecar log-level d", &["debug"]),
        ("sezzle-sidecar run --config san", &["sandbox.toml"]),
        ("sezzle-sidecar --config san", &["sandbox.toml"]),
        ("sezzle-sidecar completions ", &["-h", "--help", "bash", "elvish", "fish", "powershell", "zsh"]),
        ("sezzle-sidecar nothing-of-ours-", &[]),
    ] {
        let offered = bash(line).await;
        let offered: Vec<&str> = offered.iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
        assert_eq!(offered, expected, "{line}");
    }
}

#[tokio::test]
async fn every_shell_has_a_completion_script() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let Ended { code, stdout, stderr } = run(&["completions", shell], &[]).await;
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{shell}");
        for word in ["healthcheck", "wait", "max"] {
            assert!(stdout.contains(word), "{word} for {shell}");
        }
        assert!(!stdout.contains(&fs::canonicalize(BINARY).expect("a path").display().to_string()), "{shell}");
    }
    for wrong in [&["completions"][..], &["completions", "tcsh"], &["--config", "a.toml", "completions", "bash"]] {
        assert_eq!(run(wrong, &[]).await.code, Some(64), "{wrong:?}");
    }
}

#[tokio::test]
#[ignore = "needs zsh and fish: tests/run"]
async fn zsh_and_fish_take_their_scripts() {
    let folder = Folder::new();
    for shell in ["zsh", "fish"] {
        folder.write(shell, &run(&["completions", shell], &[]).await.stdout);
    }
    for (line, offers) in [
        (
            "zsh -f -c 'autoload -U compinit && compinit -u -D && source ./zsh && echo ${_comps[sezzle-sidecar]}'",
            "_sezzle-sidecar",
        ),
        ("HOME=$PWD fish -c 'source ./fish; complete -C \"sezzle-sidecar hea\"'", "healthcheck"),
        ("HOME=$PWD fish -c 'source ./fish; complete -C \"sezzle-sidecar wait --m\"'", "--max"),
    ] {
        let Ended { code, stdout, stderr } = Process::shell(line, folder.path(), &[]).end().await;
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{line}");
        assert!(stdout.starts_with(offers), "{line}: {stdout}");
    }
}
