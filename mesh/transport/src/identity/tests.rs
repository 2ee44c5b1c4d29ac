//! Identities round-trip through their files, and damaged ones are refused.

use std::{fs, os::unix::fs::PermissionsExt};

use super::*;
use crate::{Authority, Validity};

fn identity(authority: &Authority, node: u64) -> Identity {
    let key = NodeKey::generate().unwrap();
    let certificate = authority.sign(&key.request().unwrap(), NodeId(node), Validity::of_a_node()).unwrap();
    Identity::new(key, &certificate, authority.certificate()).unwrap()
}

#[test]
fn a_signed_key_is_the_node_it_was_signed_for() {
    let mesh = MeshId::random();
    let authority = Authority::found(mesh).unwrap();
    let key = NodeKey::generate().unwrap();
    let digest = key.key_digest();
    let certificate = authority.sign(&key.request().unwrap(), NodeId(3), Validity::of_a_node()).unwrap();
    let identity = Identity::new(key, &certificate, authority.certificate()).unwrap();
    assert_eq!((identity.node(), identity.mesh(), identity.key_digest()), (NodeId(3), mesh, digest));
    assert_eq!(identity.ca_fingerprint(), authority.fingerprint());
}

#[test]
fn an_identity_is_private_on_disk_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::found(MeshId::random()).unwrap();
    let saved = identity(&authority, 9);
    assert!(matches!(Identity::load(dir.path()), Err(IdentityError::Absent { .. })));
    saved.save(dir.path()).unwrap();
    let loaded = Identity::load(dir.path()).unwrap();
    assert_eq!((loaded.node(), loaded.key_digest()), (NodeId(9), saved.key_digest()));
    let mode = fs::metadata(dir.path().join(IDENTITY_FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_key_is_private_on_disk_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let key = NodeKey::generate().unwrap();
    key.save(dir.path()).unwrap();
    assert_eq!(NodeKey::load(dir.path()).unwrap().key_digest(), key.key_digest());
    let mode = fs::metadata(dir.path().join(KEY_FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_damaged_identity_is_named_and_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(IDENTITY_FILE);
    identity(&Authority::found(MeshId::random()).unwrap(), 1).save(dir.path()).unwrap();
    let text = fs::read(&path).unwrap();
    for damaged in [&text[..0], &text[..60], &text[..text.len() / 2], b"\xff\xfe".as_slice()] {
        fs::write(&path, damaged).unwrap();
        assert!(matches!(Identity::load(dir.path()), Err(IdentityError::Malformed { .. })));
    }
}

#[test]
fn certificates_of_another_key_or_authority_are_refused() {
    let mesh = MeshId::random();
    let (ours, theirs) = (Authority::found(mesh).unwrap(), Authority::found(mesh).unwrap());
    let key = NodeKey::generate().unwrap();
    let certificate = ours.sign(&key.request().unwrap(), NodeId(1), Validity::of_a_node()).unwrap();
    let refused = |key, authority: &Authority| {
        matches!(Identity::new(key, &certificate, authority.certificate()), Err(IdentityError::Mismatch(_)))
    };
    assert!(refused(NodeKey::generate().unwrap(), &ours));
    assert!(refused(key, &theirs));
}

#[test]
fn an_authority_is_private_on_disk_comes_back_and_signs_on() {
    let authority = Authority::found(MeshId::random()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    assert!(Authority::load(dir.path()).unwrap().is_none());
    authority.save(dir.path()).unwrap();
    let again = Authority::load(dir.path()).unwrap().unwrap();
    let mode = fs::metadata(dir.path().join("authority.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!((again.mesh(), again.fingerprint()), (authority.mesh(), authority.fingerprint()));
    let key = NodeKey::generate().unwrap();
    let certificate = again.sign(&key.request().unwrap(), NodeId(4), Validity::of_a_node()).unwrap();
    Identity::new(key, &certificate, authority.certificate()).unwrap();
    assert!(Authority::from_pem("junk").is_err() && again.sign(b"junk", NodeId(1), Validity::of_a_node()).is_err());
}
