//! A release: equal inputs give equal bytes, and the archive has what an operator needs. No test builds one, because the
//! binary takes minutes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::pages::root;
use crate::support::process::Folder;

/// The files that `deploy/release/pack` takes from the repository.
const TAKEN: [&str; 8] = ["Cargo.toml", "README.md", "CHANGELOG.md", "LICENSE", "config", "docs", "examples", "deploy"];

fn shell(folder: &Path, line: &str) -> String {
    let output = Command::new("bash").args(["-ec", line]).current_dir(folder).output().expect("bash");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Packs from a copy of the repository in this folder, after `change` there. Returns the folder of the release.
fn packed(folder: &Path, change: &str) -> PathBuf {
    let tree = folder.join("tree");
    fs::create_dir_all(&tree).expect("a folder");
    for name in TAKEN {
        let copied = Command::new("cp").arg("-R").arg(root().join(name)).arg(&tree).status();
        assert!(copied.expect("cp").success(), "{name}");
    }
    fs::write(tree.join("binary"), "#!/bin/sh\necho it runs\n").expect("written");
    fs::write(tree.join("sbom"), "{}").expect("written");
    shell(&tree, change);
    shell(&tree, "SOURCE_DATE_EPOCH=1700000000 deploy/release/pack binary sbom x86_64-linux out");
    tree.join("out")
}

#[test]
fn two_folders_give_the_same_release() {
    let folder = Folder::new();
    let deep = folder.path().join("a folder/with spaces");
    let first = packed(folder.path(), "umask 022; touch README.md");
    // Times, modes and an order of files as on another machine, and files that a run of the examples leaves.
    let change = "find . -type f -exec chmod go-rwx {} + ; find . -type f -exec touch -d '2001-02-03' {} + ; \
                  mkdir examples/python/__pycache__; touch examples/python/__pycache__/shop.pyc; \
                  mv docs old; mkdir docs; ls -r old | while read -r page; do mv \"old/$page\" docs; done; rmdir old";
    let second = packed(&deep, change);
    let names = |folder: &Path| -> BTreeSet<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
    };
    let name = format!("sezzle-sidecar-{}-x86_64-linux", env!("CARGO_PKG_VERSION"));
    let files = [format!("{name}.tar.gz"), format!("{name}.cdx.json"), "SHA256SUMS".to_owned()];
    assert_eq!(names(&first), BTreeSet::from(files.clone()));
    for file in &files {
        assert!(fs::read(first.join(file)).expect("there") == fs::read(second.join(file)).expect("there"), "{file}");
    }
}

#[test]
fn the_archive_has_what_the_pages_ask_for() {
    let folder = Folder::new();
    let release = packed(folder.path(), "true");
    shell(&release, "sha256sum --check --quiet SHA256SUMS");
    shell(&release, "tar --extract --file *.tar.gz && mv sezzle-sidecar-*-linux unpacked");
    let unpacked = release.join("unpacked");
    assert_eq!(shell(&unpacked, "./sezzle-sidecar"), "it runs\n");
    for file in [
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "config/sandbox.toml",
        "config/production.toml",
        "deploy/systemd/sezzle-sidecar.service",
        "deploy/systemd/sidecar.toml",
        "docs/installation.md",
        "examples/python/conftest.py",
    ] {
        let about = fs::metadata(unpacked.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(about.permissions().mode() & 0o777, 0o644, "{file}");
    }
    let listed = shell(&release, "tar --list --verbose --numeric-owner --utc --file *.tar.gz");
    for line in listed.lines() {
        assert!(line.contains(" 0/0 ") && line.contains(" 2023-11-14 22:13 "), "{line}");
    }
}

/// The release's binary is that of the image, with the simulator and without paths of the machine.
#[test]
fn a_release_is_built_by_the_script_of_the_image() {
    let read = |name: &str| fs::read_to_string(root().join(name)).expect("there");
    let build = read("deploy/release/build");
    for word in
        ["deploy/image/build --simulator --reproducible", "deploy/image/sbom", "deploy/release/pack", "git log -1"]
    {
        assert!(build.contains(word), "{word}");
    }
    let image = read("deploy/image/build");
    for word in ["--remap-path-prefix=", "-ffile-prefix-map=", "--features simulator"] {
        assert!(image.contains(word), "{word}");
    }
}
