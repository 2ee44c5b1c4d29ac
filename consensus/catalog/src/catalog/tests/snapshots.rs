//! What a snapshot keeps, and what is refused as one.

use proptest::prelude::*;

use super::*;

fn full() -> Catalog {
    let mut bench = Bench { at_ms: 5, ..Bench::default() };
    bench.done(Command::Found { mesh: MeshId(Uuid::from_u128(7)) });
    bench.tell(join("goose", "k1", None));
    bench.done(token("t", 1_000));
    bench.tell(join("gander", "k2", Some("t")));
    bench.tell(join("gosling", "k3", Some("t")));
    bench.voters(&[1, 2, 3]);
    bench.done(Command::RemoveMember { node: NodeId(2), secured: None });
    bench.done(key("root", Role::Admin));
    for name in ["price", "tax", "price"] {
        bench.publish(name, Some("live"));
    }
    bench.tell(Command::RevokeKey { id: "nobody".into() });
    bench.catalog
}

fn message(bytes: &[u8]) -> String {
    Catalog::from_snapshot(bytes).unwrap_err().to_string()
}

#[test]
fn a_snapshot_restores_equal_and_is_the_same_bytes_again() {
    for catalog in [Catalog::default(), full()] {
        let bytes = catalog.to_snapshot().unwrap();
        let restored = Catalog::from_snapshot(&bytes).unwrap();
        assert_eq!(restored, catalog);
        assert_eq!(restored.to_snapshot().unwrap(), bytes);
    }
}

#[test]
fn a_snapshot_of_a_newer_release_is_refused_by_its_format() {
    let mut bytes = full().to_snapshot().unwrap().to_vec();
    bytes[8] = 4;
    assert_eq!(message(&bytes), "the snapshot has format 4; this release reads up to 3");
    bytes[8] = 0;
    assert_eq!(message(&bytes), "the snapshot does not match its checksum");
}

#[test]
fn nothing_and_something_else_are_no_snapshots() {
    assert_eq!(message(b""), "not a snapshot of a catalogue");
    assert_eq!(message(b"SKEINCAT"), "not a snapshot of a catalogue");
    assert_eq!(message(&[0; 200]), "not a snapshot of a catalogue");
}

#[test]
fn a_snapshot_that_contradicts_itself_is_refused() {
    let mut catalog = full();
    let price = catalog.function(&app(), &function("price")).unwrap();
    let mut broken = (**price).clone();
    broken.aliases.insert(alias("live"), vec![9]);
    catalog.insert_function(broken);
    assert!(message(&catalog.to_snapshot().unwrap()).contains("an alias points at nothing"));
    let reused = Catalog { node_last: 1, ..full() };
    assert!(message(&reused.to_snapshot().unwrap()).contains("used twice"));
    let silent = Catalog { voters: [NodeId(1)].into(), ..full() };
    assert!(message(&silent.to_snapshot().unwrap()).contains("does not vote"));
    let reused = Catalog { function_last: 0, ..full() };
    assert!(message(&reused.to_snapshot().unwrap()).contains("out of order"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_truncated_or_lengthened_snapshot_is_refused(cut in any::<prop::sample::Index>(), more in 1_usize..9) {
        let mut bytes = full().to_snapshot().unwrap().to_vec();
        prop_assert!(Catalog::from_snapshot(&bytes[..cut.index(bytes.len())]).is_err());
        bytes.resize(bytes.len() + more, 0);
        prop_assert!(Catalog::from_snapshot(&bytes).is_err());
    }

    #[test]
    fn a_snapshot_with_a_flipped_bit_is_refused(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut bytes = full().to_snapshot().unwrap().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(Catalog::from_snapshot(&bytes).is_err());
    }

    #[test]
    fn garbage_is_refused(garbage in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(Catalog::from_snapshot(&garbage).is_err());
        let mut dressed = b"SKEINCAT\x01\0\0\0".to_vec();
        dressed.extend_from_slice(&garbage);
        prop_assert!(Catalog::from_snapshot(&dressed).is_err());
    }
}
