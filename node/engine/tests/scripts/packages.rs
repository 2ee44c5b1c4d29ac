//! Packages from npm that nobody tuned, and the web's standards: the same results as in Node.js.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use skein_script::Bundle;

use crate::support::{call, load_as, manifest, text};

/// Where the cases and their script are.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scripts").canonicalize().unwrap()
}

/// The path of Node.js, which and whose packages are fetched at the first use.
fn node() -> String {
    let fetched = Command::new("bash").arg(sources().join("fetch.sh")).output().unwrap();
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    String::from_utf8(fetched.stdout).unwrap().trim().to_owned()
}

fn gather(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        let inside = format!("{prefix}/{name}");
        if path.is_dir() {
            gather(&path, &inside, files);
        } else if ["js", "mjs", "cjs", "json"].iter().any(|known| path.extension().is_some_and(|own| own == *known)) {
            files.insert(inside, fs::read(path).unwrap());
        }
    }
}

/// Adds a package and what it depends on.
fn add(package: &str, modules: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    let manifest = format!("node_modules/{package}/package.json");
    if files.contains_key(&manifest) || !modules.join(package).is_dir() {
        return;
    }
    gather(&modules.join(package), &format!("node_modules/{package}"), files);
    let about: serde_json::Value = serde_json::from_slice(&files[&manifest]).unwrap();
    for name in about["dependencies"].as_object().into_iter().flatten().map(|(name, _)| name) {
        add(name, modules, files);
    }
}

#[test]
fn packages_that_nobody_tuned_give_what_they_give_in_node() {
    let node = node();
    let home = sources().join("../../target/scripts").canonicalize().unwrap();
    let modules = home.join("node_modules");
    let mut compared = 0;
    for entry in fs::read_dir(sources().join("cases")).unwrap().map(Result::unwrap) {
        let code = fs::read(entry.path()).unwrap();
        let name = entry.path().file_stem().unwrap().to_str().unwrap().to_owned();
        let case = home.join(format!("{name}.case.mjs"));
        fs::write(&case, &code).unwrap();
        let expected = Command::new(&node).arg(sources().join("node.mjs")).arg(&case).output().unwrap();
        assert!(expected.status.success(), "{name} in Node.js: {}", String::from_utf8_lossy(&expected.stderr));
        let mut files = BTreeMap::from([("index.js".to_owned(), code)]);
        add(&name, &modules, &mut files);
        let program = load_as(Bundle::new("index.js", files).unwrap().to_bytes(), &manifest());
        let program = program.unwrap_or_else(|error| panic!("{name}: {error}"));
        let (ours, theirs) = (text(program.run(call(""))), String::from_utf8(expected.stdout).unwrap());
        assert!(ours == theirs, "{name}\n  Skein:   {ours}\n  Node.js: {theirs}");
        compared += 1;
    }
    assert!(compared >= 10);
}
