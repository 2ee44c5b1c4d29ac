//! Frames are what they are on the wire, and nothing else is taken for one.

use data_encoding::HEXLOWER;
use proptest::prelude::*;
use skein_proto::ErrorCode;

use super::*;

fn examples() -> Vec<(Frame, &'static str)> {
    let body = Bytes::from_static(b"hi");
    vec![
        (Frame::Hello { version: 1, boot: 7 }, "0000001683a46b696e6401a776657273696f6e01a4626f6f7407"),
        (
            Frame::Call { id: 1, service: Some(Service::Invoke), deadline_ms: 500, body: body.clone() },
            "0000003285a46b696e6402a2696401a773657276696365a6696e766f6b65ab646561646c696e655f6d73cd01f4a4626f6479c4026869",
        ),
        (Frame::Reply { id: 1, body: body.clone() }, "0000001483a46b696e6403a2696401a4626f6479c4026869"),
        (
            Frame::Fail { id: 1, failure: Failure::not_executed(ErrorCode::Moved, "m") },
            "0000003f83a46b696e6404a2696401a76661696c75726583a4636f6465a56d6f766564a76d657373616765a16da870726f6772657373ac6e6f742d6578656375746564",
        ),
        (Frame::Cancel { id: 1 }, "0000000b82a46b696e6405a2696401"),
        (
            Frame::Open { service: Some(Service::Join), deadline_ms: 500, is_stream: true, key: None },
            "0000002e84a46b696e6406a773657276696365a46a6f696eab646561646c696e655f6d73cd01f4a969735f73747265616dc3",
        ),
        (
            Frame::Open {
                service: Some(Service::Client),
                deadline_ms: 500,
                is_stream: false,
                key: Some(ShownKey("sk_a_00".into())),
            },
            "0000003184a46b696e6406a773657276696365a6636c69656e74ab646561646c696e655f6d73cd01f4a36b6579a7736b5f615f3030",
        ),
        (
            Frame::Datagram { service: Some(Service::Gossip), body },
            "0000001f83a46b696e6407a773657276696365a6676f73736970a4626f6479c4026869",
        ),
        (Frame::Bye, "0000000781a46b696e6408"),
        (Frame::Probe, "0000000781a46b696e6409"),
    ]
}

#[test]
fn each_frame_has_these_golden_bytes() {
    for (frame, golden) in examples() {
        let bytes = frame.to_bytes();
        assert_eq!(HEXLOWER.encode(&bytes), golden, "{frame:?}");
        assert_eq!(take(&bytes).unwrap(), Some(frame));
    }
}

#[test]
fn kinds_and_fields_of_a_newer_release_are_skipped() {
    #[derive(Serialize)]
    struct Newer {
        kind: u8,
        id: u64,
        colour: &'static str,
    }
    let decode = |kind| Frame::decode(&rmp_serde::to_vec_named(&Newer { kind, id: 3, colour: "red" }).unwrap());
    assert_eq!(decode(CANCEL).unwrap(), Frame::Cancel { id: 3 });
    assert_eq!(decode(99).unwrap(), Frame::Unknown);
}

#[test]
fn a_service_of_a_newer_release_leaves_the_call_readable() {
    #[derive(Serialize)]
    struct Newer {
        kind: u8,
        service: &'static str,
        deadline_ms: u64,
    }
    let bytes = rmp_serde::to_vec_named(&Newer { kind: OPEN, service: "teleport", deadline_ms: 5 }).unwrap();
    assert_eq!(
        Frame::decode(&bytes).unwrap(),
        Frame::Open { service: None, deadline_ms: 5, is_stream: false, key: None }
    );
}

#[test]
fn a_length_over_the_limit_is_refused_before_its_bytes_are_there() {
    assert!(matches!(take(&u32::MAX.to_be_bytes()), Err(FrameError::TooLarge { .. })));
}

#[test]
fn a_frame_without_what_its_kind_needs_is_refused() {
    #[derive(Serialize)]
    struct Bare {
        kind: u8,
    }
    for kind in HELLO..=DATAGRAM {
        let bytes = rmp_serde::to_vec_named(&Bare { kind }).unwrap();
        assert!(matches!(Frame::decode(&bytes), Err(FrameError::Lacks(_))), "{kind}");
    }
}

#[test]
fn a_failure_is_cut_to_what_a_lane_takes() {
    let mut failure = Failure::executed(ErrorCode::FunctionFailed, "é".repeat(40_000));
    failure.log_tail = format!("{}end", "ü".repeat(40_000));
    let bytes = Frame::fail(1, failure).to_bytes();
    let Some(Frame::Fail { failure, .. }) = take(&bytes).unwrap() else { panic!("not a failure") };
    assert!(failure.log_tail.ends_with("end") && failure.message.starts_with('é'));
}

#[test]
fn a_key_is_not_shown_where_a_frame_is() {
    let key = Some(ShownKey("sk_a_00".into()));
    let open = Frame::Open { service: Some(Service::Client), deadline_ms: 5, is_stream: false, key };
    assert!(!format!("{open:?}").contains("sk_a"));
}

proptest! {
    #[test]
    fn any_bytes_are_a_frame_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = take(&bytes);
        let _ = Frame::decode(&bytes);
    }

    #[test]
    fn a_truncated_frame_never_decodes(which in 0_usize..10, cut in 0.0_f64..1.0) {
        let (frame, _) = examples().swap_remove(which);
        let bytes = frame.to_bytes();
        let cut = (bytes.len() as f64 * cut) as usize;
        prop_assert_eq!(take(&bytes[..cut]).unwrap(), None);
        prop_assert!(cut < LENGTH_BYTES || Frame::decode(&bytes[LENGTH_BYTES..cut]).is_err());
    }

    #[test]
    fn calls_round_trip(id: u64, deadline_ms: u64, body in proptest::collection::vec(any::<u8>(), 0..INLINE_BYTES_MAX)) {
        let frame = Frame::Call { id, service: Some(Service::Propose), deadline_ms, body: body.into() };
        prop_assert_eq!(take(&frame.to_bytes()).unwrap(), Some(frame));
    }
}

fn take(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
    Frame::take(&mut BytesMut::from(bytes), FRAME_BYTES_MAX)
}
