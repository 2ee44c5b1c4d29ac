//! Commands on apps and labels.

use std::collections::BTreeMap;

use super::*;

pub(super) fn labels(zone: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("zone".to_owned(), zone.to_owned())])
}

fn zone(zone: &str) -> Binding {
    Binding { labels: labels(zone), ..Binding::default() }
}

/// Nodes 1 and 2, goose in the EU and gander nowhere.
fn bench() -> Bench {
    let mut bench = Bench::default();
    bench.done(token("t", 1_000));
    bench.tell(join("goose", "k1", Some("t")));
    bench.tell(join("gander", "k2", Some("t")));
    bench.done(Command::SetLabels { node: NodeId(1), labels: labels("eu") });
    bench
}

#[test]
fn an_app_is_bound_to_the_nodes_with_its_labels() {
    let mut bench = bench();
    let places = |bench: &Bench| [1, 2].map(|node| bench.catalog.may_run(&app(), NodeId(node)));
    assert_eq!(places(&bench), [true, true], "an app that nobody declared runs anywhere");
    bench.done(Command::CreateApp { app: app(), binding: zone("eu") });
    assert_eq!(places(&bench), [true, false]);
    bench.done(Command::SetLabels { node: NodeId(2), labels: labels("eu") });
    assert_eq!(places(&bench), [true, true]);
    bench.done(Command::BindApp { app: app(), binding: zone("us") });
    assert_eq!(bench.catalog.bound_index(&app()), bench.catalog.index());
    assert_eq!(places(&bench), [false, false]);
    bench.done(Command::BindApp { app: app(), binding: Binding::default() });
    assert_eq!((places(&bench), bench.catalog.binding(&app())), ([true, true], None));
    bench.done(Command::BindApp { app: app(), binding: zone("eu") });
    bench.done(Command::RemoveMember { node: NodeId(2), secured: None });
    assert_eq!(places(&bench), [true, false], "a node that was removed is no place");
    bench.done(Command::RemoveApp { app: app() });
    assert_eq!(bench.catalog.apps().count(), 0);
}

#[test]
fn an_app_that_owns_functions_can_be_bound_and_not_removed() {
    let mut bench = bench();
    bench.refused(Command::BindApp { app: app(), binding: zone("eu") }, ErrorCode::NotFound, "apps: none");
    bench.publish("price", None);
    assert_eq!(bench.catalog.apps().collect::<Vec<_>>(), [&app()]);
    bench.done(Command::BindApp { app: app(), binding: zone("eu") });
    assert_eq!(bench.catalog.apps().count(), 1);
    bench.refused(Command::CreateApp { app: app(), binding: zone("eu") }, ErrorCode::Conflict, "skein app bind shop");
    bench.refused(Command::RemoveApp { app: app() }, ErrorCode::Conflict, "price; delete them first");
    bench.done(Command::DeleteFunction { app: app(), name: function("price") });
    assert_eq!(bench.catalog.binding(&app()), Some(&zone("eu")), "the binding outlives the functions");
    bench.done(Command::RemoveApp { app: app() });
    bench.refused(Command::RemoveApp { app: app() }, ErrorCode::NotFound, "no app shop");
}

#[test]
fn a_binding_that_means_nothing_is_refused() {
    let mut bench = bench();
    let mut refused = |binding, code, says: &str| {
        bench.refused(Command::CreateApp { app: app(), binding }, code, says);
    };
    let nodes = ["goose".parse().unwrap(), "gosling".parse().unwrap()].into();
    refused(Binding { nodes, ..Binding::default() }, ErrorCode::NotFound, "gosling; there are: goose, gander");
    refused(zone("e u"), ErrorCode::BadRequest, "KEY=VALUE");
    bench.refused(Command::SetLabels { node: NodeId(1), labels: labels("ä") }, ErrorCode::BadRequest, "KEY=VALUE");
    bench.refused(Command::SetLabels { node: NodeId(9), labels: labels("eu") }, ErrorCode::NotFound, "no member");
}
