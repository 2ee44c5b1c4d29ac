//! Who may do what: every key against every kind of request.

use skein_catalog::{Command, Propose as _, RequestId};
use skein_gateway::api::{KeyCreated, KeyList};

use crate::fixture::{Fixture, SOON, problem};

#[tokio::test]
async fn a_call_needs_a_key_that_is_good_for_the_app() {
    let fixture = Fixture::start().await;
    for (key, expected) in [
        ("invoke", 200),
        ("invoke-shop", 200),
        ("invoke-other", 403),
        ("read", 200),
        ("publish-shop", 200),
        ("admin", 200),
        ("expired", 401),
        ("unknown", 401),
        ("forged", 401),
        ("revoked", 401),
    ] {
        let url = format!("http://{}/fn/shop/price", fixture.gateway.http_addr());
        let response = fixture.http.post(url).bearer_auth(fixture.key(key)).body("x").send().await.unwrap();
        match expected {
            401 => {
                assert!(response.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"), "{key}");
                problem(response, 401, "unauthenticated").await;
            }
            403 => drop(problem(response, 403, "forbidden").await),
            _ => assert_eq!(response.status(), expected, "{key}"),
        }
    }
    assert_eq!(fixture.invoke.count(), 5);
}

#[tokio::test]
async fn a_key_that_ends_in_the_catalogue_that_is_waited_for_lets_nobody_in() {
    let fixture = Fixture::start().await;
    let requests = [("invoke", fixture.call("/fn/shop/price")), ("read", fixture.admin_as("read", "GET", "/v1/apps"))];
    for (key, request) in requests {
        let (index, idle) = (fixture.consensus.catalog().index() + 1, fixture.consensus.watchers());
        let id = fixture.key(key).split('_').nth(1).unwrap().to_owned();
        let revoked = async {
            while fixture.consensus.watchers() == idle {
                tokio::task::yield_now().await;
            }
            fixture.consensus.apply(RequestId(uuid::Uuid::now_v7()), Command::RevokeKey { id });
        };
        let request = request.header("skein-min-index", index.to_string());
        let (response, _) = tokio::join!(request.send(), tokio::time::timeout(SOON, revoked));
        problem(response.unwrap(), 401, "unauthenticated").await;
    }
    assert_eq!(fixture.invoke.count(), 0);
    // And nobody waits without a key.
    let url = format!("http://{}/fn/shop/price", fixture.gateway.http_addr());
    let request = fixture.http.post(&url).bearer_auth(fixture.key("unknown")).header("skein-min-index", "1000000");
    problem(request.send().await.unwrap(), 401, "unauthenticated").await;
}

#[tokio::test]
async fn what_is_no_bearer_key_is_unauthenticated() {
    let fixture = Fixture::start().await;
    let url = format!("http://{}/fn/shop/price", fixture.gateway.http_addr());
    problem(fixture.http.post(&url).send().await.unwrap(), 401, "unauthenticated").await;
    let good = fixture.key("invoke").to_owned();
    for value in [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        good.clone(),
        format!("Basic {good}"),
        format!("Bearer {}", good.to_uppercase()),
        format!("Bearer {}", &good[..good.len() - 1]),
        format!("Bearer {good}0"),
        format!("Bearer {good} {good}"),
        "Bearer sk__".to_owned(),
        format!("Bearer sk_{}_{}", "a".repeat(5_000), "00".repeat(32)),
    ] {
        let response = fixture.http.post(&url).header("authorization", &value).send().await.unwrap();
        problem(response, 401, "unauthenticated").await;
    }
    assert_eq!(fixture.invoke.count(), 0);
}

#[tokio::test]
async fn an_unknown_function_is_not_told_to_who_may_not_call_it() {
    let fixture = Fixture::start().await;
    let url = format!("http://{}/fn/shop/secret", fixture.gateway.http_addr());
    let response = fixture.http.post(url).bearer_auth(fixture.key("invoke-other")).send().await.unwrap();
    problem(response, 403, "forbidden").await;
}

/// Every key against every access rule: the statuses in the order of the keys.
#[tokio::test]
async fn each_role_reaches_what_it_includes_and_a_key_of_one_app_only_that() {
    let fixture = Fixture::start().await;
    let keys = [
        "invoke",
        "invoke-shop",
        "read",
        "publish-shop",
        "publish",
        "admin",
        "expired",
        "unknown",
        "forged",
        "revoked",
    ];
    for (method, path, body, expected) in [
        ("GET", "/v1/functions", "", [403, 403, 200, 200, 200, 200, 401, 401, 401, 401]),
        ("GET", "/v1/functions/shop/price", "", [403, 403, 200, 200, 200, 200, 401, 401, 401, 401]),
        ("GET", "/v1/functions/other/price", "", [403, 403, 404, 403, 404, 404, 401, 401, 401, 401]),
        (
            "PUT",
            "/v1/functions/shop/price/aliases/canary",
            r#"{"version":1}"#,
            [403, 403, 403, 200, 200, 200, 401, 401, 401, 401],
        ),
        ("DELETE", "/v1/functions/other/price", "", [403, 403, 403, 403, 404, 404, 401, 401, 401, 401]),
        ("GET", "/v1/nodes", "", [403, 403, 200, 403, 200, 200, 401, 401, 401, 401]),
        ("GET", "/v1/status", "", [403, 403, 200, 403, 200, 200, 401, 401, 401, 401]),
        ("POST", "/v1/nodes/node-1/drain", "", [403, 403, 403, 403, 403, 200, 401, 401, 401, 401]),
        (
            "POST",
            "/v1/functions/shop/price/versions/1/migrate",
            r#"{"from":"node-1","to":"node-2"}"#,
            [403, 403, 403, 403, 403, 200, 401, 401, 401, 401],
        ),
        ("DELETE", "/v1/nodes/node-1", "", [403, 403, 403, 403, 403, 200, 401, 401, 401, 401]),
        ("GET", "/v1/keys", "", [403, 403, 403, 403, 403, 200, 401, 401, 401, 401]),
        ("POST", "/v1/tokens", "", [403, 403, 403, 403, 403, 201, 401, 401, 401, 401]),
        ("GET", "/v1/config", "", [403, 403, 403, 403, 403, 200, 401, 401, 401, 401]),
        ("GET", "/v1/errors/overloaded", "", [200; 10]),
        ("GET", "/v1/openapi.json", "", [200; 10]),
    ] {
        for (key, expected) in keys.into_iter().zip(expected) {
            let response = fixture.admin_as(key, method, path).body(body).send().await.unwrap();
            assert_eq!(response.status().as_u16(), expected, "{method} {path} as {key}");
            if expected >= 400 {
                assert_eq!(response.headers()["content-type"], "application/problem+json");
            }
        }
    }
}

#[tokio::test]
async fn a_new_key_works_until_it_is_revoked_and_its_secret_is_shown_once() {
    let fixture = Fixture::start().await;
    let body = r#"{"role":"invoke","app":"shop","note":"till","ttl_ms":60000}"#;
    let response = fixture.admin("POST", "/v1/keys").body(body).send().await.unwrap();
    assert_eq!(response.status(), 201);
    let made: KeyCreated = response.json().await.unwrap();
    assert_eq!(made.index, fixture.consensus.catalog().index());
    assert!(!format!("{made:?}").contains(&made.key));
    let url = format!("http://{}/fn/shop/price", fixture.gateway.http_addr());
    let call = || fixture.http.post(&url).bearer_auth(&made.key).send();
    assert_eq!(call().await.unwrap().status(), 200);

    let text = fixture.admin("GET", "/v1/keys").send().await.unwrap().text().await.unwrap();
    assert!(!text.contains(&made.key) && !text.contains("hash"));
    let list: KeyList = serde_json::from_str(&text).unwrap();
    let listed = list.keys.iter().find(|key| key.id == made.id).unwrap();
    assert_eq!((listed.note.as_str(), listed.is_expired), ("till", false));
    assert!(list.keys.iter().any(|key| key.is_expired));

    let path = format!("/v1/keys/{}", made.id);
    assert_eq!(fixture.admin("DELETE", &path).send().await.unwrap().status(), 200);
    problem(call().await.unwrap(), 401, "unauthenticated").await;
    problem(fixture.admin("DELETE", &path).send().await.unwrap(), 404, "not-found").await;
}
