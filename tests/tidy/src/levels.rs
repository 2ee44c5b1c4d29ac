//! Who may use whom, and which crate is the one door to a big dependency.

use crate::Finding;

/// One crate of the workspace: its level, its folder, and the crates of ours it may use.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// The crate.
    pub name: &'static str,
    /// Its level: it may use only crates of lower ones.
    pub level: u8,
    /// Its folder.
    pub folder: &'static str,
    /// The crates of ours it may use.
    pub may_use: &'static [&'static str],
}

/// Every crate there is. `ARCHITECTURE.md` says what each owns.
pub const ROOMS: &[Room] = &[
    room("skein-proto", 0, "mesh/proto", &[]),
    room("skein-script", 0, "node/script", &[]),
    room("skein-catalog", 1, "consensus/catalog", &["skein-proto"]),
    room("skein-engine", 1, "node/engine", &["skein-proto", "skein-script"]),
    room("skein-placement", 1, "node/placement", &["skein-proto"]),
    room("skein-egress", 2, "node/egress", &["skein-proto", "skein-engine"]),
    room("skein-transport", 2, "mesh/transport", &["skein-proto"]),
    room("skein-membership", 3, "mesh/membership", &["skein-proto", "skein-catalog", "skein-transport"]),
    room("skein-artifacts", 3, "mesh/artifacts", &["skein-proto", "skein-transport"]),
    room("skein-client", 3, "mesh/client", &["skein-proto", "skein-transport"]),
    room("skein-raft", 3, "consensus/raft", &["skein-proto", "skein-catalog", "skein-transport"]),
    room(
        "skein-router",
        4,
        "mesh/router",
        &["skein-proto", "skein-catalog", "skein-placement", "skein-membership", "skein-transport"],
    ),
    room("skein-runtime", 4, "node/runtime", &["skein-proto", "skein-catalog", "skein-placement", "skein-engine"]),
    room("skein-gateway", 5, "node/gateway", &["skein-proto", "skein-catalog", "skein-artifacts"]),
    room("skein", 6, "node/skein", ALL),
    room("skein-harness", 7, "tests/harness", ALL),
    room(
        "skein-sim",
        7,
        "tests/sim",
        &[
            "skein-proto",
            "skein-catalog",
            "skein-membership",
            "skein-placement",
            "skein-raft",
            "skein-router",
            "skein-runtime",
            "skein-transport",
        ],
    ),
    room("skein-tidy", 8, "tests/tidy", &[]),
    room("skein-bench", 8, "bench", ALL),
];

/// Everything of a lower level.
const ALL: &[&str] = &["*"];

const fn room(name: &'static str, level: u8, folder: &'static str, may_use: &'static [&'static str]) -> Room {
    Room { name, level, folder, may_use }
}

/// A big dependency and the only folders that may name it.
const DOORS: &[(&str, &[&str])] = &[
    ("openraft", &["consensus/raft"]),
    ("quinn", &["mesh/transport", "bench"]),
    // An egress speaks TLS through reqwest; its tests have a server of their own.
    ("rustls", &["mesh/transport", "node/egress", "bench"]),
    ("tokio-rustls", &["node/egress"]),
    ("rcgen", &["mesh/transport", "node/egress", "bench"]),
    // Requests for guests, with their grants, leave by one door; the others are clients of our own interfaces.
    ("reqwest", &["node/egress", "node/gateway", "node/skein", "tests/harness", "bench"]),
    ("foca", &["mesh/membership"]),
    ("wasmer", &["node/engine", "bench"]),
    ("wasmer-compiler", &["node/engine"]),
    ("wasmer-types", &["node/engine"]),
    ("wasmer-vm", &["node/engine"]),
    ("axum", &["node/gateway", "bench"]),
    ("hyper", &["node/gateway", "bench"]),
    ("hyper-util", &["node/gateway", "bench"]),
    ("ractor", &["node/runtime"]),
    ("tonic", &["bench"]),
    ("turmoil", &["tests/sim"]),
];

/// One line of a manifest: `user`, whose folder is `folder`, depends on `used`.
#[derive(Debug, Clone)]
pub struct Edge {
    /// The crate that depends.
    pub user: String,
    /// Its folder, from the top of the repository.
    pub folder: String,
    /// What it depends on.
    pub used: String,
    /// True for a dependency of its tests only.
    pub is_dev: bool,
    /// The line of the manifest.
    pub line: usize,
}

/// Checks one dependency against the levels, the table of edges and the doors.
pub fn check(edge: &Edge) -> Option<Finding> {
    let manifest = format!("{}/Cargo.toml", edge.folder);
    let found = |advice: String| Some(Finding::new(&manifest, edge.line, advice));
    if let Some((name, folders)) = DOORS.iter().find(|(name, _)| *name == edge.used) {
        let is_inside = folders.contains(&edge.folder.as_str());
        return if is_inside {
            None
        } else {
            found(format!(
                "{name} may be named only in {}: use what that crate offers, or widen its API",
                folders.join(" and ")
            ))
        };
    }
    let used = ROOMS.iter().find(|room| room.name == edge.used)?;
    let Some(user) = ROOMS.iter().find(|room| room.name == edge.user) else {
        return found(format!("{} has no level: add it to ROOMS in tests/tidy and to ARCHITECTURE.md", edge.user));
    };
    if edge.is_dev && used.name == "skein-harness" && user.name == "skein" {
        return None; // The whole-program tests are targets of the binary's package; docs/decisions/0009 says why.
    }
    if used.level >= user.level {
        return found(format!(
            "{} (level {}) may use only lower levels, {} is on level {}: move the shared part down",
            user.name, user.level, used.name, used.level
        ));
    }
    if !user.may_use.contains(&used.name) && user.may_use != ALL {
        return found(format!(
            "{} may not use {}: pass it in through a seam; a new edge wants a decision record and a line in ROOMS",
            user.name, used.name
        ));
    }
    None
}

/// Checks that a crate stands where the table says.
pub fn check_room(name: &str, folder: &str) -> Option<Finding> {
    let manifest = format!("{folder}/Cargo.toml");
    match ROOMS.iter().find(|room| room.name == name) {
        Some(room) if room.folder == folder => None,
        Some(room) => Some(Finding::new(&manifest, 1, format!("{name} belongs in {}", room.folder))),
        None => Some(Finding::new(
            &manifest,
            1,
            format!("{name} has no level: add it to ROOMS in tests/tidy and to ARCHITECTURE.md's code map"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_line(user: &str, used: &str, is_dev: bool, expected: &str) {
        let folder = ROOMS.iter().find(|room| room.name == user).map_or("mesh/unknown", |room| room.folder);
        let edge = Edge { user: user.into(), folder: folder.into(), used: used.into(), is_dev, line: 12 };
        let found = check(&edge).map(|finding| finding.to_string()).unwrap_or_default();
        assert!(if expected.is_empty() { found.is_empty() } else { found.contains(expected) }, "{edge:?}: {found}");
    }

    #[test]
    fn a_crate_uses_only_lower_levels_and_listed_edges() {
        check_line("skein-router", "skein-membership", false, "");
        check_line("skein", "skein-gateway", false, "");
        check_line(
            "skein-proto",
            "skein-catalog",
            false,
            "mesh/proto/Cargo.toml:12: skein-proto (level 0) may use only",
        );
        check_line("skein-membership", "skein-artifacts", false, "only lower levels");
        check_line("skein-runtime", "skein-artifacts", false, "may not use skein-artifacts");
        check_line("skein-runtime", "skein-artifacts", true, "may not use skein-artifacts");
        check_line("skein-new", "skein-proto", false, "has no level");
        check_line("skein", "skein-harness", true, "");
        check_line("skein", "skein-harness", false, "only lower levels");
    }

    #[test]
    fn a_big_dependency_has_one_door() {
        check_line("skein-raft", "openraft", false, "");
        check_line("skein-bench", "quinn", false, "");
        check_line("skein", "openraft", false, "openraft may be named only in consensus/raft");
        check_line("skein-runtime", "wasmer", true, "only in node/engine");
        check_line("skein-runtime", "reqwest", false, "reqwest may be named only in node/egress and node/gateway");
        check_line("skein-router", "serde", false, "");
    }

    #[test]
    fn a_crate_stands_where_the_table_says() {
        assert_eq!(check_room("skein-proto", "mesh/proto"), None);
        assert!(check_room("skein-proto", "node/proto").is_some_and(|found| found.advice.contains("mesh/proto")));
        assert!(check_room("skein-new", "node/new").is_some());
    }

    #[test]
    fn the_table_obeys_its_own_levels() {
        for user in ROOMS {
            for used in user.may_use.iter().filter(|used| **used != "*") {
                let used = ROOMS.iter().find(|room| room.name == *used).expect("a listed crate");
                assert!(used.level < user.level, "{} uses {}", user.name, used.name);
            }
        }
    }
}
