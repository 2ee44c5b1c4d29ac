//! Holds the repository to the rules of this crate.

use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand, Package};
use skein_tidy::levels::{self, Edge};
use skein_tidy::{Finding, Source, documents, style};

/// The top of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("tests/tidy is two folders down").to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn assert_none(findings: &[Finding]) {
    let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{} broken rules:\n{}", lines.len(), lines.join("\n"));
}

/// Our packages, each with its folder from the top.
fn packages() -> Vec<(Package, String)> {
    let manifest = root().join("Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().expect("cargo metadata works here");
    let folder = |package: &Package| {
        let folder = package.manifest_path.parent().expect("a manifest is in a folder").as_std_path();
        folder.strip_prefix(root()).expect("a member is below the top").to_string_lossy().into_owned()
    };
    metadata
        .packages
        .into_iter()
        .map(|package| (folder(&package), package))
        .map(|(at, package)| (package, at))
        .collect()
}

/// Every Rust file of ours.
fn sources() -> Vec<Source> {
    let mut folders: Vec<_> =
        ["bench", "consensus", "examples", "mesh", "node", "tests"].iter().map(|folder| root().join(folder)).collect();
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("below the top").to_string_lossy().into_owned();
                let text = read(&name);
                sources.push(Source::new(name, text));
            }
        }
    }
    assert!(sources.len() > 30, "only {} files found: is the top of the repository right?", sources.len());
    sources
}

#[test]
fn crates_use_only_lower_levels_and_big_dependencies_have_one_door() {
    let mut findings = Vec::new();
    let packages = packages();
    assert!(packages.len() >= levels::ROOMS.len(), "a crate in ROOMS is gone: take it out of the table");
    for (package, folder) in &packages {
        findings.extend(levels::check_room(&package.name, folder));
        let manifest = read(&format!("{folder}/Cargo.toml"));
        for dependency in &package.dependencies {
            let edge = Edge {
                user: package.name.to_string(),
                folder: folder.clone(),
                used: dependency.name.clone(),
                is_dev: dependency.kind == DependencyKind::Development,
                line: manifest.lines().position(|line| line.starts_with(&dependency.name)).map_or(1, |at| at + 1),
            };
            findings.extend(levels::check(&edge));
        }
    }
    assert_none(&findings);
}

#[test]
fn every_file_follows_the_rules() {
    let sources = sources();
    for source in &sources {
        let lines = style::lines_outside_tests(source);
        if lines > style::FILE_LINES_LISTED {
            println!("{}: {lines} lines: could it be two?", source.path);
        }
    }
    assert_none(&sources.iter().flat_map(style::check).collect::<Vec<_>>());
}

#[test]
fn decision_records_are_numbered_without_a_gap() {
    let names: Vec<_> = std::fs::read_dir(root().join("docs/decisions"))
        .expect("docs/decisions is there")
        .map(|entry| entry.expect("a readable folder").file_name().to_string_lossy().into_owned())
        .collect();
    assert!(!names.is_empty());
    assert_none(&documents::check_decisions(&names));
}

#[test]
fn the_readme_and_ci_name_the_same_commands() {
    assert_none(&documents::check_commands(&read("README.md"), &read(".ci/run")));
}
