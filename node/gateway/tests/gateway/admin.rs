//! The admin API: reading, changing, and refusing.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use skein_catalog::{MemberRole, Propose as _};
use skein_gateway::api::{
    AliasReport, AppList, AppStatus, ArtifactStored, Done, ErrorPage, FunctionDetail, FunctionList, MoveReport,
    PublishReport, VersionList, WhyReport,
};
use skein_proto::{AliasName, Digest, ErrorCode, Failure};

use crate::{
    fakes::CALL,
    fixture::{Fixture, problem, publish},
};

const PRICE: &str = "/v1/functions/shop/price";

#[tokio::test]
async fn an_artifact_is_taken_only_under_its_own_digest() {
    let fixture = Fixture::start().await;
    let code = b"\0asm and so on".as_slice();
    let digest = Digest::of(code);
    let put = |path: String, body: Vec<u8>| fixture.admin_as("publish", "PUT", &path).body(body).send();
    let response = put(format!("/v1/artifacts/{digest}"), code.to_vec()).await.unwrap();
    assert_eq!(response.status(), 201);
    let stored: ArtifactStored = response.json().await.unwrap();
    assert_eq!(stored, ArtifactStored { digest, size: code.len() as u64 });
    assert_eq!(fixture.operations.stored.lock().unwrap().as_slice(), [code]);

    let response = put(format!("/v1/artifacts/{digest}"), b"other".to_vec()).await.unwrap();
    assert!(problem(response, 409, "conflict").await.detail.contains(&Digest::of(b"other").to_string()));
    for name in [digest.to_hex(), "sha256:00".to_owned(), "latest".to_owned()] {
        problem(put(format!("/v1/artifacts/{name}"), code.to_vec()).await.unwrap(), 400, "bad-request").await;
    }
    assert_eq!(fixture.operations.stored.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_artifact_over_the_limit_is_refused_by_its_announced_size() {
    let fixture = Fixture::start().await;
    let mut raw = crate::raw::Raw::connect(fixture.gateway.admin_addr()).await;
    let (path, key) = (format!("/v1/artifacts/{}", Digest::of(b"")), fixture.key("publish"));
    let size = (64 << 20) + 1;
    let head = format!(
        "PUT {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\nexpect: 100-continue\r\ncontent-length: {size}\r\n\r\n"
    );
    raw.send(head.as_bytes()).await;
    let response = raw.read_response().await;
    assert!(response.starts_with("HTTP/1.1 413") && response.contains("\"too-large\""), "{response}");
}

#[tokio::test]
async fn a_version_is_published_for_its_author_once_per_idempotency_key() {
    let fixture = Fixture::start().await;
    let mut body =
        json!({ "manifest": { "app": "shop", "name": "price" }, "digest": Digest::of(b"x"), "alias": "live" });
    let path = format!("{PRICE}/versions");
    let id = uuid::Uuid::now_v7();
    let post = |body: &Value| fixture.admin_as("publish-shop", "POST", &path).json(body);
    let response = post(&body).header("idempotency-key", id.to_string()).send().await.unwrap();
    assert_eq!(response.status(), 201);
    let report: PublishReport = response.json().await.unwrap();
    assert_eq!((report.version, report.index), (2, 9));
    {
        let published = fixture.operations.published.lock().unwrap();
        let (publish, author, request) = &published[0];
        assert_eq!((author.as_str(), request.0, publish.wait), ("040404040404", id, true));
    }
    problem(post(&body).header("idempotency-key", "x").send().await.unwrap(), 400, "bad-request").await;
    body["manifest"]["description"] = json!("x".repeat(16 << 10));
    problem(post(&body).send().await.unwrap(), 413, "too-large").await;
    body["manifest"]["description"] = json!("x".repeat(15 << 10));
    body["manifest"]["limits"] = json!({ "memory_bytes": 0 });
    problem(post(&body).send().await.unwrap(), 422, "bad-manifest").await;
    body["manifest"] = json!({ "app": "shop", "name": "other" });
    problem(post(&body).send().await.unwrap(), 400, "bad-request").await;
    assert_eq!(fixture.operations.published.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn malformed_bodies_and_queries_are_bad_requests() {
    let fixture = Fixture::start().await;
    let alias = format!("{PRICE}/aliases/live");
    for body in
        ["", "{", "[]", "{}", r#"{"version":"1"}"#, r#"{"version":1,"expceted":1}"#, r#"{"version":-1}"#, "\u{0}"]
    {
        problem(fixture.admin("PUT", &alias).body(body).send().await.unwrap(), 400, "bad-request").await;
    }
    let deep = "[".repeat(100_000);
    problem(fixture.admin("PUT", &alias).body(deep).send().await.unwrap(), 400, "bad-request").await;
    let big = "x".repeat((1 << 20) + 1);
    problem(fixture.admin("PUT", &alias).body(big).send().await.unwrap(), 413, "too-large").await;
    for query in ["limit=0", "limit=1001", "limit=x", "after=x", "after=A/b", "what=1"] {
        let path = format!("/v1/functions?{query}");
        problem(fixture.admin("GET", &path).send().await.unwrap(), 400, "bad-request").await;
    }
    for path in ["/v1/functions/Shop/price", "/v1/functions/shop/%ff", "/v1/functions/shop/a%2Fb"] {
        problem(fixture.admin("GET", path).send().await.unwrap(), 400, "bad-request").await;
    }
}

#[tokio::test]
async fn functions_are_found_by_query_and_paged_within_the_keys_app() {
    let fixture = Fixture::start().await;
    for (app, name) in [("shop", "cart"), ("shop", "tax"), ("blog", "feed")] {
        publish(&fixture.consensus, app, name);
    }
    let list = async |key: &str, query: &str| -> (Vec<String>, usize, Option<String>) {
        let response = fixture.admin_as(key, "GET", &format!("/v1/functions?{query}")).send().await.unwrap();
        let list: FunctionList = response.json().await.unwrap();
        let names = list.functions.iter().map(|function| format!("{}/{}", function.app, function.name));
        (names.collect(), list.total, list.next)
    };
    assert_eq!(list("read", "").await.0, ["blog/feed", "shop/cart", "shop/price", "shop/tax"]);
    assert_eq!(list("publish-shop", "").await.0, ["shop/cart", "shop/price", "shop/tax"]);
    assert_eq!(list("read", "q=app:shop+ta").await.0, ["shop/tax"]);
    assert_eq!(list("read", "q=pricing").await.1, 4);
    let (first, total, next) = list("read", "limit=3").await;
    assert_eq!((first.len(), total, next.as_deref()), (3, 4, Some("shop/price")));
    assert_eq!(list("read", "limit=3&after=shop/price").await, (vec!["shop/tax".to_owned()], 4, None));
}

#[tokio::test]
async fn apps_are_bound_by_administrators_and_seen_by_their_own_keys() {
    let fixture = Fixture::start().await;
    let answer = async |key: &str, method: &str, path: &str, body: Value| {
        fixture.admin_as(key, method, path).json(&body).send().await.unwrap()
    };
    let bound = json!({ "nodes": ["node-1"] });
    let response = answer("admin", "POST", "/v1/apps", json!({ "name": "blog", "binding": bound })).await;
    assert_eq!(response.status(), 201);
    let created: AppStatus = response.json().await.unwrap();
    assert_eq!((created.bound_to.as_str(), created.nodes.len(), created.functions), ("node-1", 1, 0));
    let response = answer("admin", "PUT", "/v1/apps/shop/binding", json!({ "labels": { "zone": "eu" } })).await;
    let shop: AppStatus = response.json().await.unwrap();
    assert_eq!((shop.bound_to.as_str(), shop.nodes.len(), shop.functions), ("nodes with zone=eu", 0, 1));
    for (key, expected) in [("read", ["blog", "shop"].as_slice()), ("publish-shop", &["shop"])] {
        let list: AppList = answer(key, "GET", "/v1/apps", json!({})).await.json().await.unwrap();
        assert_eq!(list.apps.iter().map(|app| app.name.as_str()).collect::<Vec<_>>(), expected);
    }
    let shown: AppStatus = answer("publish-shop", "GET", "/v1/apps/shop", json!({})).await.json().await.unwrap();
    assert_eq!(shown.binding, shop.binding);
    problem(answer("publish-shop", "GET", "/v1/apps/blog", json!({})).await, 403, "forbidden").await;
    problem(answer("publish-shop", "PUT", "/v1/apps/shop/binding", json!({})).await, 403, "forbidden").await;
    problem(answer("read", "GET", "/v1/apps/none", json!({})).await, 404, "not-found").await;
    problem(answer("admin", "PUT", "/v1/apps/shop/binding", json!({ "lables": {} })).await, 400, "bad-request").await;
    problem(answer("admin", "PUT", "/v1/apps/shop/binding", json!({ "nodes": ["n9"] })).await, 404, "not-found").await;
    problem(answer("admin", "DELETE", "/v1/apps/shop", json!({})).await, 409, "conflict").await;
    assert_eq!(answer("admin", "DELETE", "/v1/apps/blog", json!({})).await.status(), 200);
}

#[tokio::test]
async fn a_call_is_explained_to_those_who_may_see_its_app() {
    let fixture = Fixture::start().await;
    let why = async |key: &str, id: &str| {
        fixture.admin_as(key, "GET", &format!("/v1/invocations/{id}/why")).send().await.unwrap()
    };
    let id = CALL.to_string();
    for key in ["read", "publish-shop"] {
        let report: WhyReport = why(key, &id).await.json().await.unwrap();
        assert_eq!(report.function.as_deref(), Some("shop/price@1"));
    }
    problem(why("invoke", &id).await, 403, "forbidden").await;
    problem(why("read", &uuid::Uuid::nil().to_string()).await, 404, "not-found").await;
    problem(why("read", "x").await, 400, "bad-request").await;
}

#[tokio::test]
async fn an_alias_moves_by_compare_and_set_and_rolls_back() {
    let fixture = Fixture::start().await;
    publish(&fixture.consensus, "shop", "price");
    let live = format!("{PRICE}/aliases/live");
    let response = fixture.admin("PUT", &live).body(r#"{"version":1,"expected":1}"#).send().await.unwrap();
    problem(response, 409, "conflict").await;
    let response = fixture.admin("PUT", &live).body(r#"{"version":1,"expected":2}"#).send().await.unwrap();
    let report: AliasReport = response.json().await.unwrap();
    assert_eq!((report.version, report.before, report.index), (1, Some(2), fixture.consensus.catalog().index()));
    let response = fixture.admin("POST", &format!("{live}/rollback")).send().await.unwrap();
    assert_eq!(response.json::<AliasReport>().await.unwrap().version, 2);
    let response = fixture.admin("PUT", &live).body(r#"{"version":9}"#).send().await.unwrap();
    problem(response, 404, "version-not-found").await;
    let response = fixture.admin("POST", &format!("{PRICE}/aliases/none/rollback")).send().await.unwrap();
    problem(response, 404, "alias-not-found").await;

    // No alias moves onto code that nobody has; what is not there at all the catalogue refuses better.
    let lost =
        fixture.consensus.catalog().function(&"shop".parse().unwrap(), &"price".parse().unwrap()).unwrap().clone();
    *fixture.operations.lost.lock().unwrap() = Some(lost.versions[&1].digest);
    for request in [
        fixture.admin("PUT", &live).body(r#"{"version":1}"#),
        fixture.admin("POST", &format!("{live}/rollback")),
        fixture.admin("POST", &format!("{live}/rollback")).body(r#"{"to":1}"#),
    ] {
        problem(request.send().await.unwrap(), 503, "artifact-unavailable").await;
    }
    *fixture.operations.lost.lock().unwrap() = None;

    let detail: FunctionDetail = fixture.admin("GET", PRICE).send().await.unwrap().json().await.unwrap();
    let alias = &detail.aliases[&AliasName::default()];
    assert_eq!((alias.version, detail.version_count), (2, 2));
    assert_eq!(detail.versions[0].number, 2);
    assert_eq!(detail.versions[0].holders[0].as_str(), "node-1");
    assert!(detail.versions[1].aliases.is_empty());
    let path = format!("{PRICE}/versions?limit=1");
    let versions: VersionList = fixture.admin("GET", &path).send().await.unwrap().json().await.unwrap();
    assert_eq!((versions.total, versions.next), (2, Some(2)));
    let path = format!("{PRICE}/versions?limit=1&before=2");
    let versions: VersionList = fixture.admin("GET", &path).send().await.unwrap().json().await.unwrap();
    assert_eq!((versions.versions[0].number, versions.next), (1, None));
}

#[tokio::test]
async fn a_deleted_function_is_gone_and_a_repeated_deletion_is_answered_alike() {
    let fixture = Fixture::start().await;
    let id = uuid::Uuid::now_v7().to_string();
    let delete = || fixture.admin("DELETE", PRICE).header("idempotency-key", &id).send();
    assert_eq!(delete().await.unwrap().status(), 200);
    assert_eq!(delete().await.unwrap().status(), 200);
    problem(fixture.admin("GET", PRICE).send().await.unwrap(), 404, "function-not-found").await;
    problem(fixture.admin("DELETE", PRICE).send().await.unwrap(), 404, "function-not-found").await;
}

#[tokio::test]
async fn without_a_quorum_changes_are_refused_and_reading_goes_on() {
    let fixture = Fixture::start().await;
    fixture.consensus.has_quorum.store(false, Ordering::SeqCst);
    problem(fixture.admin("DELETE", PRICE).send().await.unwrap(), 503, "no-quorum").await;
    assert_eq!(fixture.admin("GET", PRICE).send().await.unwrap().status(), 200);
    assert_eq!(fixture.call("/fn/shop/price").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn nodes_and_tokens_are_asked_of_the_assembly() {
    let fixture = Fixture::start().await;
    for (method, path) in [("POST", "/drain"), ("POST", "/resume"), ("DELETE", "")] {
        let at = |node: &str| fixture.admin(method, &format!("/v1/nodes/{node}{path}")).send();
        assert_eq!(at("node-1").await.unwrap().json::<Done>().await.unwrap().index, 7);
        problem(at("node-9").await.unwrap(), 404, "not-found").await;
        problem(at("Node").await.unwrap(), 400, "bad-request").await;
    }
    let body = r#"{"ttl_ms":1000,"role":"worker"}"#;
    assert_eq!(fixture.admin("POST", "/v1/tokens").body(body).send().await.unwrap().status(), 201);
    let asked = fixture.operations.token.lock().unwrap().take();
    assert_eq!(asked, Some((std::time::Duration::from_secs(1), Some(MemberRole::Worker))));
    for body in [r#"{"ttl_ms":0}"#, r#"{"ttl_ms":2592000001}"#, r#"{"role":"king"}"#] {
        problem(fixture.admin("POST", "/v1/tokens").body(body).send().await.unwrap(), 400, "bad-request").await;
    }
}

#[tokio::test]
async fn a_move_names_a_version_that_is_there_and_two_nodes() {
    let fixture = Fixture::start().await;
    let migrate = |version: &str, body: &'static str| {
        fixture.admin("POST", &format!("{PRICE}/versions/{version}/migrate")).body(body).send()
    };
    let (body, unknown) = (r#"{"from":"node-1","to":"node-2"}"#, r#"{"from":"node-9","to":"node-2"}"#);
    let report: MoveReport = migrate("1", body).await.unwrap().json().await.unwrap();
    assert_eq!((report.version, report.from.as_str(), report.to.as_str()), (1, "node-1", "node-2"));
    problem(migrate("1", unknown).await.unwrap(), 404, "not-found").await;
    problem(migrate("9", body).await.unwrap(), 404, "version-not-found").await;
    problem(migrate("x", body).await.unwrap(), 400, "bad-request").await;
    problem(migrate("1", r#"{"from":"node-1"}"#).await.unwrap(), 400, "bad-request").await;
}

#[tokio::test]
async fn the_description_lists_every_route_and_each_of_them_exists_behind_its_key() {
    let fixture = Fixture::start().await;
    let url = format!("http://{}/v1/openapi.json", fixture.gateway.admin_addr());
    let document: Value = fixture.http.get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut count = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            count += 1;
            let is_public = operation["security"].as_array().is_some_and(Vec::is_empty);
            let url = format!("http://{}{}", fixture.gateway.admin_addr(), path.replace(['{', '}'], "a"));
            let request = fixture.http.request(method.to_uppercase().parse().unwrap(), url);
            let status = request.send().await.unwrap().status().as_u16();
            assert_eq!(status == 401, !is_public, "{method} {path}: {status}");
            assert_ne!(status, 405, "{method} {path}");
        }
    }
    assert_eq!(count, 27);
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems_too() {
    let fixture = Fixture::start().await;
    for path in ["/v1/nothing", "/v1/", "/fn/shop/price", "/console.html", "/v1/functions/shop"] {
        problem(fixture.admin("GET", path).send().await.unwrap(), 404, "not-found").await;
    }
    let response = fixture.admin("PATCH", PRICE).send().await.unwrap();
    let allow = response.headers()["allow"].to_str().unwrap().to_owned();
    assert!(allow.contains("GET") && allow.contains("DELETE"), "{allow}");
    problem(response, 405, "bad-request").await;
}

#[tokio::test]
async fn every_error_code_has_its_page() {
    let fixture = Fixture::start().await;
    for code in ErrorCode::ALL {
        let path = format!("/v1/errors/{code}");
        let page: ErrorPage = fixture.admin("GET", &path).send().await.unwrap().json().await.unwrap();
        assert_eq!(page, ErrorPage::from(*code));
    }
    problem(fixture.admin("GET", "/v1/errors/what").send().await.unwrap(), 404, "not-found").await;
}

#[tokio::test]
async fn health_readiness_and_metrics_need_no_key() {
    let fixture = Fixture::start().await;
    let get = |path: &str| fixture.http.get(format!("http://{}{path}", fixture.gateway.admin_addr())).send();
    assert_eq!(get("/healthz").await.unwrap().status(), 200);
    assert_eq!(get("/readyz").await.unwrap().status(), 200);
    let metrics = get("/metrics").await.unwrap();
    assert!(metrics.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    assert_eq!(metrics.text().await.unwrap(), "skein_up 1\n");
    let draining = Failure::not_executed(ErrorCode::Draining, "this node is leaving");
    *fixture.operations.readiness.lock().unwrap() = Err(draining);
    problem(get("/readyz").await.unwrap(), 503, "draining").await;
    assert_eq!(get("/healthz").await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_console_loads_nothing_from_elsewhere() {
    let fixture = Fixture::start().await;
    for (path, kind) in [("/", "text/html"), ("/console.js", "text/javascript"), ("/console.css", "text/css")] {
        let url = format!("http://{}{path}", fixture.gateway.admin_addr());
        let response = fixture.http.get(url).send().await.unwrap();
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert!(header("content-type").starts_with(kind));
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        let text = response.text().await.unwrap();
        for bad in ["http://", "https://", "innerHTML", "onclick", "<style", "eval("] {
            assert!(!text.contains(bad), "{path} has {bad}");
        }
    }
}
