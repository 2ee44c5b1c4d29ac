//! The plan, as a value.

use skein_catalog::Command;

use super::*;
use crate::testing::{apply, manifest, publish};

/// A plan with room for all.
fn plan() -> Plan {
    Plan { parallel: usize::MAX, ..Plan::default() }
}

/// What the plan would prepare now, in order, as `function@version`.
fn order(plan: &mut Plan, now: Instant) -> Vec<String> {
    std::iter::from_fn(|| plan.next(now)).map(|(version, _)| version.to_string()).collect()
}

#[test]
fn at_the_start_what_aliases_point_at_is_wanted_the_newest_first() {
    let (mut plan, mut catalog) = (plan(), Catalog::default());
    publish(&mut catalog, manifest("a"), b"1", true);
    publish(&mut catalog, manifest("a"), b"2", true);
    publish(&mut catalog, manifest("b"), b"3", true);
    publish(&mut catalog, manifest("b"), b"4", false);
    plan.catalog_changed(&Catalog::default(), &catalog);
    assert_eq!(order(&mut plan, Instant::now()), ["2@1", "1@2"]);
}

#[test]
fn what_is_published_later_is_wanted_with_or_without_an_alias() {
    let (mut plan, mut catalog) = (plan(), Catalog::default());
    publish(&mut catalog, manifest("a"), b"1", false);
    let before = catalog.clone();
    publish(&mut catalog, manifest("a"), b"2", false);
    publish(&mut catalog, manifest("a"), b"3", false);
    plan.catalog_changed(&before, &catalog);
    assert_eq!(order(&mut plan, Instant::now()), ["1@3", "1@2"]);
}

#[test]
fn what_an_alias_points_at_comes_before_all_that_is_newer_and_called_by_nobody() {
    let (mut plan, mut catalog) = (plan(), Catalog::default());
    publish(&mut catalog, manifest("other"), b"0", false);
    let before = catalog.clone();
    publish(&mut catalog, manifest("a"), b"1", true);
    publish(&mut catalog, manifest("b"), b"2", false);
    publish(&mut catalog, manifest("b"), b"3", false);
    plan.catalog_changed(&before, &catalog);
    let mut fresh = Plan { parallel: 1, ..Plan::default() };
    fresh.catalog_changed(&before, &catalog);
    assert_eq!(order(&mut plan, Instant::now()), ["2@1", "3@2", "3@1"]);
    // An alias that moves takes what it points at to the front, and leaves what it pointed at among the others.
    let before = catalog.clone();
    let (app, alias) = (skein_proto::AppName::default(), skein_proto::AliasName::default());
    let set = Command::SetAlias { app, name: "b".parse().unwrap(), alias, version: 1, expected: None };
    apply(&mut catalog, set);
    fresh.catalog_changed(&before, &catalog);
    assert_eq!(fresh.wanted.len(), 3);
    fresh.parallel = usize::MAX;
    assert_eq!(order(&mut fresh, Instant::now()), ["3@1", "2@1", "3@2"]);
}

#[test]
fn a_failure_is_tried_again_later_but_not_for_ever() {
    let (mut plan, mut catalog) = (plan(), Catalog::default());
    let version = publish(&mut catalog, manifest("a"), b"1", true);
    plan.catalog_changed(&Catalog::default(), &catalog);
    let mut now = Instant::now();
    for _ in 1..ATTEMPTS_MAX {
        assert_eq!(order(&mut plan, now), ["1@1"]);
        assert_eq!(plan.retry_at(), None, "nothing is due while it is in hand");
        plan.ended(version, false, now);
        assert!(order(&mut plan, now).is_empty());
        now = plan.retry_at().unwrap();
    }
    plan.next(now);
    plan.ended(version, false, now);
    assert_eq!(plan.retry_at(), None);
}

#[test]
fn what_is_prepared_or_deleted_is_not_wanted_any_more() {
    let (mut plan, mut catalog) = (plan(), Catalog::default());
    let first = publish(&mut catalog, manifest("a"), b"1", true);
    publish(&mut catalog, manifest("b"), b"2", true);
    plan.catalog_changed(&Catalog::default(), &catalog);
    let before = catalog.clone();
    apply(&mut catalog, Command::DeleteFunction { app: Default::default(), name: "b".parse().unwrap() });
    plan.catalog_changed(&before, &catalog);
    assert_eq!(order(&mut plan, Instant::now()), ["1@1"]);
    plan.ended(first, true, Instant::now());
    assert!(plan.wanted.is_empty() && plan.in_hand.is_empty());
}

#[test]
fn the_plan_is_bounded_and_gives_up_the_oldest() {
    let (mut plan, mut catalog) = (plan(), Catalog::default());
    for number in 0..=WANTED_MAX {
        publish(&mut catalog, manifest(&format!("f{number}")), b"1", true);
    }
    plan.catalog_changed(&Catalog::default(), &catalog);
    assert_eq!(plan.wanted.len(), WANTED_MAX);
    assert!(plan.wanted.keys().all(|(_, Reverse(index), ..)| *index > 1));
}

#[test]
fn what_is_bound_to_other_nodes_is_not_wanted_until_it_comes_here() {
    let (mut plan, mut catalog) = (plan(), Catalog::default());
    publish(&mut catalog, manifest("a"), b"1", true);
    let bind = |catalog: &mut Catalog, zone: Option<&str>| {
        let labels = zone.map(|zone| ("zone".to_owned(), zone.to_owned())).into_iter().collect();
        let binding = skein_catalog::Binding { labels, ..Default::default() };
        apply(catalog, Command::BindApp { app: Default::default(), binding });
    };
    plan.catalog_changed(&Catalog::default(), &catalog);
    let before = catalog.clone();
    bind(&mut catalog, Some("eu"));
    plan.catalog_changed(&before, &catalog);
    assert!(order(&mut plan, Instant::now()).is_empty());
    let before = catalog.clone();
    bind(&mut catalog, None);
    plan.catalog_changed(&before, &catalog);
    assert_eq!(order(&mut plan, Instant::now()), ["1@1"]);
}

#[test]
fn while_as_many_are_in_hand_as_may_be_nothing_is_due() {
    let (mut plan, mut catalog) = (Plan { parallel: 1, ..Plan::default() }, Catalog::default());
    let failing = publish(&mut catalog, manifest("a"), b"1", true);
    publish(&mut catalog, manifest("b"), b"2", true);
    plan.catalog_changed(&Catalog::default(), &catalog);
    let mut now = Instant::now();
    assert_eq!(order(&mut plan, now), ["2@1"], "one at a time");
    plan.ended(VersionId { function: FunctionId(2), number: 1 }, true, now);
    assert_eq!(order(&mut plan, now), ["1@1"]);
    plan.ended(failing, false, now);
    let before = catalog.clone();
    publish(&mut catalog, manifest("c"), b"3", true);
    plan.catalog_changed(&before, &catalog);
    now = plan.retry_at().unwrap();
    // The newest takes the only place: what failed is due and must not be waited for.
    assert_eq!(order(&mut plan, now - RETRY_FIRST), ["3@1"]);
    assert_eq!(plan.retry_at(), None);
    assert!(order(&mut plan, now).is_empty());
}
