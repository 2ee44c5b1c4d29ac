//! How the messages look, byte by byte.

use std::collections::BTreeMap;

use skein_proto::{Failure, FunctionId, NodeId, Start, Usage, VersionId, codec};

use super::*;

fn request() -> ClientRequest {
    ClientRequest {
        invocation: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        reference: "shop/price".parse().unwrap(),
        payload: Bytes::from_static(b"hi"),
        headers: vec![("a".into(), "b".into())],
        deadline_ms: 500,
        traceparent: None,
        index_min: 0,
        is_idempotent: true,
        was_lost: false,
    }
}

fn reply() -> ClientReply {
    let version = VersionId { function: FunctionId(7), number: 3 };
    let payload = Bytes::from_static(b"ok");
    let reply = Reply { payload, version, node: NodeId(2), start: Start::Cold, usage: Usage::default() };
    ClientReply { reply, node_name: "goose".into() }
}

fn check<T: Serialize>(message: &T, golden: &str) {
    assert_eq!(data_encoding::HEXLOWER.encode(&codec::encode(message).unwrap()), golden);
}

#[test]
fn a_request_has_these_golden_bytes() {
    check(&request(), GOLDEN_REQUEST);
    let bytes = data_encoding::HEXLOWER.decode(GOLDEN_REQUEST.as_bytes()).unwrap();
    assert_eq!(codec::decode::<ClientRequest>(&bytes).unwrap(), request());
}

#[test]
fn a_reply_has_these_golden_bytes() {
    check(&reply(), GOLDEN_REPLY);
    let bytes = data_encoding::HEXLOWER.decode(GOLDEN_REPLY.as_bytes()).unwrap();
    assert_eq!(codec::decode::<ClientReply>(&bytes).unwrap(), reply());
    let older = data_encoding::HEXLOWER.decode(GOLDEN_OLDER_REPLY.as_bytes()).unwrap();
    assert_eq!(codec::decode::<ClientReply>(&older).unwrap(), reply());
}

#[test]
fn an_older_client_may_leave_out_what_has_a_default() {
    #[derive(Serialize)]
    struct Older {
        invocation: InvocationId,
        reference: FunctionRef,
        payload: Bytes,
        deadline_ms: u64,
    }
    let ClientRequest { invocation, reference, payload, deadline_ms, .. } = request();
    let older = codec::encode(&Older { invocation, reference, payload, deadline_ms }).unwrap();
    let plain = ClientRequest { headers: Vec::new(), is_idempotent: false, ..request() };
    assert_eq!(codec::decode::<ClientRequest>(&older).unwrap(), plain);
}

#[test]
fn a_truncated_or_foreign_message_is_refused() {
    let bytes = codec::encode(&request()).unwrap();
    for cut in 0..bytes.len() {
        let failure: Failure = codec::decode::<ClientRequest>(&bytes[..cut]).unwrap_err().into();
        assert_eq!(failure.code, skein_proto::ErrorCode::Malformed);
    }
    let foreign = codec::encode(&BTreeMap::from([("reference", "not a reference")])).unwrap();
    assert!(codec::decode::<ClientRequest>(&foreign).is_err());
}

#[test]
fn a_request_is_shown_without_its_payload() {
    let shown = format!("{:?}", request());
    assert!(shown.contains("shop/price") && shown.contains("payload_bytes: 2"), "{shown}");
}

#[test]
fn the_question_which_nodes_there_are_has_these_golden_bytes() {
    check(&NodesRequest {}, "80");
    let nodes = vec![NodeAddress { name: "goose".into(), mesh: "h:1".into() }];
    check(&NodesReply { nodes }, "81a56e6f6465739182a46e616d65a5676f6f7365a46d657368a3683a31");
}

#[test]
fn of_headers_without_number_one_more_is_kept_than_are_taken() {
    let bytes = codec::encode(&ClientRequest { headers: Vec::new(), ..request() }).unwrap();
    // An empty list, which becomes one of a million pairs of empty strings.
    let at = bytes.windows(8).position(|window| window == b"\xa7headers").unwrap() + 8;
    let many =
        [&bytes[..at], &b"\xdd\x00\x0f\x42\x40"[..], &b"\x92\xa0\xa0".repeat(1_000_000), &bytes[at + 1..]].concat();
    let decoded = codec::decode::<ClientRequest>(&many).unwrap();
    assert_eq!(decoded.headers.len(), HEADERS_MAX + 1);
    assert!(decoded.headers.capacity() < 1_000);
    assert_eq!(ClientRequest { headers: Vec::new(), ..decoded }, ClientRequest { headers: Vec::new(), ..request() });
    let lie = [&bytes[..at], &b"\xdd\xff\xff\xff\xff"[..]].concat();
    assert!(codec::decode::<ClientRequest>(&lie).is_err(), "what is announced and does not arrive");
}

const GOLDEN_REQUEST: &str = "88aa696e766f636174696f6ec41001890a5dac96774bbcceb302099a8057a97265666572656e6365af73686f702f70726963653a6c697665a77061796c6f6164c4026869a7686561646572739192a161a162ab646561646c696e655f6d73cd01f4ab7472616365706172656e74c0a9696e6465785f6d696e00ad69735f6964656d706f74656e74c3";
const GOLDEN_REPLY: &str = "82a57265706c7985a77061796c6f6164c4026f6ba776657273696f6e82a866756e6374696f6e07a66e756d62657203a46e6f646502a57374617274a4636f6c64a575736167658ba871756575655f757300a873746172745f757300a76c6f61645f757300ae696e7374616e74696174655f757300a672756e5f757300a7776169745f757300a872657365745f757300ac6d656d6f72795f627974657300a96c6f675f627974657300a86f7574626f756e6400a474696572c0a96e6f64655f6e616d65a5676f6f7365";
/// What a node of the first release says, which knows fewer figures.
const GOLDEN_OLDER_REPLY: &str = "82a57265706c7985a77061796c6f6164c4026f6ba776657273696f6e82a866756e6374696f6e07a66e756d62657203a46e6f646502a57374617274a4636f6c64a5757361676586a871756575655f757300a873746172745f757300ae696e7374616e74696174655f757300a672756e5f757300ac6d656d6f72795f627974657300a96c6f675f627974657300a96e6f64655f6e616d65a5676f6f7365";
