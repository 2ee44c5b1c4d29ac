//! Publishing, aliases, rollback, deletion, resolving.

use super::*;

fn set(version: u64, expected: Option<u64>) -> Command {
    Command::SetAlias { app: app(), name: function("price"), alias: alias("live"), version, expected }
}

fn rollback(to: Option<u64>) -> Command {
    Command::Rollback { app: app(), name: function("price"), alias: alias("live"), to }
}

fn moved(now: u64, before: Option<u64>) -> Outcome {
    Outcome::Alias { now, before }
}

/// `shop/price` with three versions, `live` on each in turn.
fn three_versions() -> Bench {
    let mut bench = Bench::default();
    for number in 1..=3 {
        assert_eq!(bench.publish("price", Some("live")), number);
    }
    bench
}

fn check(bench: &Bench, reference: &str, expected: &str) {
    let shown = match bench.catalog.resolve(&reference.parse().unwrap()) {
        Ok(resolved) => resolved.id.to_string(),
        Err(failure) => format!("{}: {}", failure.code, failure.message),
    };
    assert_eq!(shown, expected, "{reference}");
}

#[test]
fn references_resolve_or_say_what_is_known() {
    let bench = three_versions();
    check(&bench, "shop/price", "1@3");
    check(&bench, "shop/price@2", "1@2");
    check(&bench, "shop/price@4", "version-not-found: shop/price has no version 4; versions: 3, 2, 1");
    check(&bench, "shop/price:beta", "alias-not-found: shop/price has no alias beta; aliases: live");
    check(&bench, "shop/prise", "function-not-found: no function shop/prise; app shop has: price");
    check(&bench, "price", "function-not-found: no function default/price: app default has none; apps: shop");
}

#[test]
fn the_same_code_published_again_is_a_new_version() {
    let bench = three_versions();
    let record = bench.catalog.function(&app(), &function("price")).unwrap();
    assert_eq!(record.versions.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(record.newest().unwrap().number, 3);
    assert_eq!(record.versions[&3].index, 3);
    assert_eq!(bench.catalog.digests(), HashSet::from([Digest::of(b"price")]));
}

#[test]
fn a_publication_expects_the_newest_version() {
    let mut bench = Bench::default();
    bench.refused(publish("price", None, Some(1)), ErrorCode::Conflict, "no version yet");
    assert!(matches!(bench.tell(publish("price", None, Some(0))), Outcome::Published(id) if id.number == 1));
    bench.refused(publish("price", None, Some(0)), ErrorCode::Conflict, "newest version of shop/price is 1, not 0");
}

#[test]
fn a_publication_without_holders_or_over_a_limit_is_refused() {
    fn with(change: impl FnOnce(&mut Manifest, &mut u64, &mut Vec<NodeId>, &mut String)) -> Command {
        let mut command = publish("price", None, None);
        if let Command::PublishVersion { manifest, size, holders, note, .. } = &mut command {
            change(manifest, size, holders, note);
        }
        command
    }
    let mut bench = Bench::default();
    bench.refused(with(|_, _, holders, _| holders.clear()), ErrorCode::ArtifactUnavailable, "no node holds sha256:");
    bench.refused(with(|_, _, holders, _| *holders = vec![NodeId(1); 65]), ErrorCode::BadRequest, "65 holders");
    bench.refused(with(|_, size, _, _| *size = Limits::ARTIFACT_BYTES_MAX + 1), ErrorCode::TooLarge, "artifact");
    bench.refused(with(|_, _, _, note| *note = "n".repeat(4_097)), ErrorCode::TooLarge, "note");
    bench.refused(
        with(|manifest, _, _, _| manifest.limits.concurrency = 0),
        ErrorCode::BadManifest,
        "limits.concurrency",
    );
    bench.refused(
        with(|manifest, _, _, _| manifest.description = "d".repeat(300_000)),
        ErrorCode::TooLarge,
        "manifest",
    );
}

#[test]
fn an_alias_moves_by_compare_and_set() {
    let mut bench = three_versions();
    assert_eq!(bench.tell(set(1, Some(3))), moved(1, Some(3)));
    bench.refused(set(2, Some(3)), ErrorCode::Conflict, "shop/price:live points at 1, not at 3");
    bench.refused(set(9, None), ErrorCode::VersionNotFound, "versions: 3, 2, 1");
    let beta = |expected| Command::SetAlias {
        app: app(),
        name: function("price"),
        alias: alias("beta"),
        version: 2,
        expected,
    };
    bench.refused(beta(Some(1)), ErrorCode::Conflict, "is not set");
    assert_eq!(bench.tell(beta(Some(0))), moved(2, None));
    assert_eq!(bench.tell(beta(None)), moved(2, Some(2)));
}

#[test]
fn each_rollback_goes_one_move_further_back() {
    let mut bench = three_versions();
    assert_eq!(bench.tell(rollback(None)), moved(2, Some(3)));
    assert_eq!(bench.tell(rollback(None)), moved(1, Some(2)));
    bench.refused(rollback(None), ErrorCode::Conflict, "no earlier move to go back on");
    assert_eq!(bench.tell(set(3, None)), moved(3, Some(1)));
    assert_eq!(bench.tell(rollback(None)), moved(1, Some(3)));
}

#[test]
fn a_rollback_to_a_version_undoes_what_came_after_it() {
    let mut bench = three_versions();
    assert_eq!(bench.tell(rollback(Some(1))), moved(1, Some(3)));
    bench.refused(rollback(None), ErrorCode::Conflict, "name a version to return to: 3, 2, 1");
    assert_eq!(bench.tell(rollback(Some(1))), moved(1, Some(1)));
    // Never pointed at: a move like any other.
    assert_eq!(bench.tell(rollback(Some(2))), moved(2, Some(1)));
    assert_eq!(bench.tell(rollback(None)), moved(1, Some(2)));
    bench.refused(rollback(Some(7)), ErrorCode::VersionNotFound, "no version 7");
}

#[test]
fn a_rollback_names_the_known_aliases_and_functions() {
    let mut bench = three_versions();
    let wrong = Command::Rollback { app: app(), name: function("price"), alias: alias("prod"), to: None };
    bench.refused(wrong, ErrorCode::AliasNotFound, "aliases: live");
    let wrong = Command::Rollback { app: app(), name: function("tax"), alias: alias("live"), to: None };
    bench.refused(wrong, ErrorCode::FunctionNotFound, "app shop has: price");
}

#[test]
fn an_alias_remembers_sixteen_moves() {
    let mut bench = Bench::default();
    for _ in 0..20 {
        bench.publish("price", Some("live"));
    }
    let record = bench.catalog.function(&app(), &function("price")).unwrap();
    assert_eq!(record.aliases[&alias("live")], (5..=20).collect::<Vec<_>>());
}

#[test]
fn aliases_of_a_function_are_bounded() {
    let mut bench = Bench::default();
    for number in 0..64 {
        bench.publish("price", Some(&format!("a{number}")));
    }
    bench.refused(publish("price", Some("one-more"), None), ErrorCode::Conflict, "64 aliases");
}

#[test]
fn a_deleted_function_leaves_nothing_and_its_id_is_not_used_again() {
    let mut bench = three_versions();
    let delete = || Command::DeleteFunction { app: app(), name: function("price") };
    bench.done(delete());
    assert_eq!(bench.catalog.functions().count(), 0);
    assert!(bench.catalog.digests().is_empty());
    assert!(bench.catalog.version(VersionId { function: skein_proto::FunctionId(1), number: 1 }).is_none());
    bench.refused(delete(), ErrorCode::FunctionNotFound, "apps: none");
    bench.publish("price", Some("live"));
    check(&bench, "shop/price", "2@1");
    let id = skein_proto::FunctionId(2);
    assert_eq!(bench.catalog.function_by_id(id).unwrap().alias(&alias("live")), Some(1));
}
