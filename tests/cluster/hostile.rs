//! Hostile functions on a real node: each gets its own error, and neither the node nor its other functions notice.

use std::{fs, path::Path, thread, time::Duration};

use skein_harness::{ECHO, Load, Mesh, wasm};

use crate::SKEIN;

/// Ten of `node/engine/tests/hostile`, and what a caller is told: the status and the code.
const HOSTILE: [(&str, u16, &str); 10] = [
    ("loops/nested-empty", 504, "deadline-exceeded"),
    ("loops/start-section", 504, "deadline-exceeded"),
    ("loops/memory-fill", 504, "deadline-exceeded"),
    ("host/poll-relative-longest", 504, "deadline-exceeded"),
    ("host/flood-stdout", 502, "output-exceeded"),
    ("memory/grow-in-steps", 502, "memory-exceeded"),
    ("recursion/direct", 502, "function-trapped"),
    ("memory/touch-all-and-trap", 502, "function-trapped"),
    ("traps/null-function", 502, "function-trapped"),
    ("host/exit-negative", 502, "function-failed"),
];

/// Calls of each, several at a time.
const CALLS: usize = 12;

#[test]
fn hostile_functions_end_with_their_own_errors_and_their_neighbour_never_fails() {
    let mesh = Mesh::start(SKEIN, 1);
    mesh.publish_wat(0, "echo", ECHO).ok();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/hostile");
    for (name, ..) in HOSTILE {
        let function = name.replace('/', "-");
        let text = fs::read_to_string(folder.join(format!("{name}.wat"))).unwrap();
        mesh.file(&format!("{function}/f.wasm"), &wasm(&text));
        let limits = "[limits]\ndeadline = \"300ms\"\nmemory = \"16MiB\"\npayload = \"64KiB\"\n";
        let toml = format!("name = \"{function}\"\ncode = \"f.wasm\"\n{limits}");
        let file = mesh.file(&format!("{function}/function.toml"), toml.as_bytes());
        mesh.skein(0, &["publish", file.trim_end_matches("/function.toml")]).ok();
    }
    let neighbour = Load {
        gateways: vec![mesh.nodes[0].http().to_owned()],
        key: mesh.nodes[0].key(),
        path: "/fn/default/echo".to_owned(),
        body: "still here".to_owned(),
        rate: 50,
    }
    .start();
    neighbour.run_for(Duration::from_secs(1));
    thread::scope(|scope| {
        for (name, status, code) in HOSTILE {
            let gateway = mesh.gateway(0);
            scope.spawn(move || {
                for _ in 0..CALLS {
                    let answer = gateway.post(&format!("/fn/default/{}", name.replace('/', "-")), "x");
                    assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{name}");
                }
            });
        }
    });
    neighbour.run_for(Duration::from_secs(1));
    let report = neighbour.stop();
    assert!(
        report.failed.is_empty() && report.succeeded >= 100,
        "{} right, wrong: {:?}",
        report.succeeded,
        report.failed
    );
    assert_eq!(mesh.skein(0, &["invoke", "echo", "-d", "x"]).ok().text(), "x");
    let status = mesh.try_status(0).expect("the node answers");
    assert_eq!(status["nodes"][0]["state"], "alive", "{status}");
    let metrics = mesh.admin(0).get("/metrics").text();
    let stops: f64 = metric(&metrics, "skein_engine_stops_total").iter().map(|(_, value)| value).sum();
    assert!(stops >= (4 * CALLS) as f64, "{stops} stops:\n{metrics}");
    for kind in ["stack-overflow", "unreachable", "null-function"] {
        let traps = metric(&metrics, "skein_engine_traps_total");
        let counted = traps.iter().find(|(labels, _)| labels.contains(kind)).map_or(0.0, |(_, value)| *value);
        assert!(counted >= CALLS as f64, "{counted} traps of kind {kind}:\n{metrics}");
    }
}

/// The samples of a family: labels and value.
fn metric<'t>(text: &'t str, family: &str) -> Vec<(&'t str, f64)> {
    let samples = text.lines().filter_map(|line| line.strip_prefix(family)?.rsplit_once(' '));
    samples.map(|(labels, value)| (labels, value.parse().unwrap())).collect()
}
