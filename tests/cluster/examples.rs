//! The examples run on the mesh as their folders promise, and as another engine has them.

use std::process::Command;

use skein_harness::{Mesh, examples, examples_dir};

use crate::SKEIN;

#[test]
fn every_example_answers_as_promised_from_every_node() {
    let examples = examples();
    assert!(examples.len() >= 5, "{examples:?}");
    let mesh = Mesh::start(SKEIN, 3);
    for (i, example) in examples.iter().enumerate() {
        let dir = example.dir.to_str().unwrap();
        mesh.skein(i % 3, &["publish", dir]).ok();
        for node in 0..3 {
            let ran = mesh.skein_with(node, &["invoke", &example.name, "--deadline", "60s", "-"], &example.input).ok();
            let answer = mesh.gateway(node).post(&format!("/fn/default/{}", example.name), example.input.clone());
            assert_eq!(answer.status, 200, "{} at node {node}: {}", example.name, answer.text());
            assert!(answer.body == ran.stdout, "{}: HTTP and QUIC differ", example.name);
            if let Some(expected) = &example.expected {
                assert_eq!(String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(expected), "{}", example.name);
            }
        }
    }
}

#[test]
fn a_renderer_nobody_here_wrote_gives_the_bytes_that_another_engine_gives() {
    let svg = examples().iter().find(|example| example.name == "svg").expect("the svg example");
    let mesh = Mesh::start(SKEIN, 1);
    mesh.skein(0, &["publish", svg.dir.to_str().unwrap()]).ok();
    let mut inputs = 0;
    for entry in std::fs::read_dir(&svg.dir).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_none_or(|extension| extension != "svg") {
            continue;
        }
        let picture = std::fs::read(entry.path()).unwrap();
        let ours = mesh.skein_with(0, &["invoke", "svg", "--deadline", "60s", "-"], &picture).ok().stdout;
        assert!(ours.starts_with(b"\x89PNG\r\n\x1a\n"), "{:?} gave no PNG", entry.path());
        let oracle = Command::new("bash")
            .arg(examples_dir().join("build.sh"))
            .args(["--oracle", "svg"])
            .stdin(std::fs::File::open(entry.path()).unwrap())
            .output()
            .unwrap();
        assert!(oracle.status.success(), "{}", String::from_utf8_lossy(&oracle.stderr));
        assert!(ours == oracle.stdout, "{:?}: the engines differ", entry.path());
        inputs += 1;
    }
    assert!(inputs >= 2);
}
