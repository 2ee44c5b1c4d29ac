//! Records that are what they say, and all the ways in which they are not.

use proptest::prelude::*;
use skein_proto::MeshId;

use super::*;
use crate::{Authority, NodeKey, Validity};

struct Bench {
    authority: Authority,
}

impl Bench {
    fn new() -> Self {
        Self { authority: Authority::found(MeshId::random()).unwrap() }
    }

    fn identity(&self, node: u64) -> Identity {
        let key = NodeKey::generate().unwrap();
        let certificate = self.authority.sign(&key.request().unwrap(), NodeId(node), Validity::of_a_node()).unwrap();
        Identity::new(key, &certificate, self.authority.certificate()).unwrap()
    }
}

fn at(port: u16) -> ReachedAt {
    let address = |port: u16| format!("localhost:{port}").parse().unwrap();
    ReachedAt { mesh: address(port), http: address(port + 1), admin: address(port + 2) }
}

/// The record with one of its three parts replaced.
fn with(record: &AddressRecord, change: impl FnOnce(&mut Wire)) -> Bytes {
    let mut wire: Wire = codec::decode(record.bytes()).unwrap();
    change(&mut wire);
    codec::encode(&wire).unwrap()
}

#[test]
fn what_a_node_signed_others_of_its_mesh_read() {
    let bench = Bench::new();
    let (one, two) = (bench.identity(1), bench.identity(2));
    let signed = AddressRecord::sign(&one, 7, at(7070)).unwrap();
    let read = AddressRecord::read(signed.bytes().clone(), &two).unwrap();
    assert_eq!(read, signed);
    assert_eq!((read.node(), read.sequence(), read.reached_at()), (NodeId(1), 7, &at(7070)));
    assert_eq!(read.key(), one.key_digest());
    assert_eq!(AddressRecord::peek(signed.bytes()), Ok((NodeId(1), 7)));
    assert_eq!(AddressRecord::peek_key(signed.bytes()), Ok(one.key_digest()));
    assert!(signed.bytes().len() < 1_000, "{} bytes", signed.bytes().len());
}

#[test]
fn a_forged_signature_is_refused() {
    let bench = Bench::new();
    let (one, two, reader) = (bench.identity(1), bench.identity(2), bench.identity(3));
    let of_one = AddressRecord::sign(&one, 7, at(1)).unwrap();
    let of_two = AddressRecord::sign(&two, 7, at(1)).unwrap();
    let forged = |node| Err(AddressRecordError::Forged(NodeId(node)));
    let word =
        |node, sequence, port| codec::encode(&Word { node: NodeId(node), sequence, reached_at: at(port) }).unwrap();
    // Other words under an honest signature; another's certificate; another's signature; a later number.
    for (bytes, node) in [
        (with(&of_one, |wire| wire.word = word(1, 7, 9)), 1),
        (with(&of_one, |wire| wire.word = word(2, 7, 1)), 2),
        (with(&of_one, |wire| wire.word = word(1, 8, 1)), 1),
        (with(&of_two, |wire| wire.certificate = Bytes::copy_from_slice(one.certificate())), 2),
        (with(&of_one, |wire| wire.signature = Bytes::from(vec![0; 64])), 1),
        (with(&of_one, |wire| wire.signature = Bytes::new()), 1),
    ] {
        assert_eq!(AddressRecord::read(bytes, &reader), forged(node));
    }
}

#[test]
fn a_node_cannot_sign_for_another() {
    let bench = Bench::new();
    let (two, reader) = (bench.identity(2), bench.identity(3));
    let word = codec::encode(&Word { node: NodeId(1), sequence: 1, reached_at: at(1) }).unwrap();
    let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(two.key().secret_pkcs8_der()).unwrap();
    let wire = Wire {
        certificate: Bytes::copy_from_slice(two.certificate()),
        signature: Bytes::copy_from_slice(key.sign(&signed_bytes(&word)).as_ref()),
        word,
    };
    let bytes = codec::encode(&wire).unwrap();
    assert_eq!(AddressRecord::read(bytes, &reader), Err(AddressRecordError::Forged(NodeId(1))));
}

#[test]
fn a_record_of_another_mesh_is_refused() {
    let (ours, theirs) = (Bench::new(), Bench::new());
    let record = AddressRecord::sign(&theirs.identity(1), 1, at(1)).unwrap();
    let read = AddressRecord::read(record.bytes().clone(), &ours.identity(2));
    assert!(matches!(read, Err(AddressRecordError::Certificate(_))), "{read:?}");
}

#[test]
fn a_number_that_no_clock_gives_is_refused() {
    let bench = Bench::new();
    let record = AddressRecord::sign(&bench.identity(1), AddressRecord::SEQUENCE_MAX + 1, at(1)).unwrap();
    let read = AddressRecord::read(record.bytes().clone(), &bench.identity(2));
    assert_eq!(read, Err(AddressRecordError::Sequence(NodeId(1))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let reader = Bench::new().identity(1);
        prop_assert!(AddressRecord::read(Bytes::from(bytes.clone()), &reader).is_err());
        let _ = AddressRecord::peek(&bytes);
        let _ = AddressRecord::peek_key(&bytes);
    }

    #[test]
    fn damage_is_refused_or_harmless(place in any::<prop::sample::Index>(), bit in 0..8_u8, is_cut in any::<bool>()) {
        let bench = Bench::new();
        let record = AddressRecord::sign(&bench.identity(1), 3, at(7070)).unwrap();
        let mut bytes = record.bytes().to_vec();
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        if is_cut {
            bytes.truncate(place);
        }
        // Whatever still reads says what was signed.
        if let Ok(read) = AddressRecord::read(Bytes::from(bytes), &bench.identity(2)) {
            prop_assert_eq!((read.node(), read.sequence()), (record.node(), record.sequence()));
            prop_assert_eq!(read.reached_at(), record.reached_at());
        }
    }
}
