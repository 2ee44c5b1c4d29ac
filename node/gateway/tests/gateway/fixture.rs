//! A gateway on loopback with a small catalogue: `shop/price` at version 1, and a key for every case.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use skein_catalog::{Addresses, Command, KeyRecord, MemberRole, RequestId, Role};
use skein_gateway::{Gateway, GatewayConfig, MintedKey, Parts, api::Problem, mint};
use skein_proto::{AliasName, AppName, Digest, Manifest, MeshId, NodeId};
use uuid::Uuid;

use crate::fakes::{FakeInvoke, FakeOperations, FakePropose};

/// Largest payload of `shop/price`.
pub(crate) const PAYLOAD_BYTES: u64 = 1_000;
/// Longest wait for anything that should happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) struct Fixture {
    pub(crate) gateway: Gateway,
    pub(crate) invoke: Arc<FakeInvoke>,
    pub(crate) consensus: Arc<FakePropose>,
    pub(crate) operations: Arc<FakeOperations>,
    pub(crate) http: reqwest::Client,
    keys: BTreeMap<&'static str, String>,
}

/// The keys of the fixture: name, role, app, end.
const KEYS: [(&str, Role, Option<&str>, Option<u64>); 8] = [
    ("invoke", Role::Invoke, None, None),
    ("invoke-shop", Role::Invoke, Some("shop"), None),
    ("invoke-other", Role::Invoke, Some("other"), None),
    ("read", Role::Read, None, None),
    ("publish-shop", Role::Publish, Some("shop"), None),
    ("publish", Role::Publish, None, None),
    ("admin", Role::Admin, None, None),
    ("expired", Role::Admin, None, Some(2_000)),
];

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(configure: impl FnOnce(&mut GatewayConfig)) -> Self {
        let consensus = Arc::new(FakePropose::new());
        let keys = fill(&consensus);
        let (invoke, operations) = (Arc::new(FakeInvoke::new()), Arc::new(FakeOperations::new()));
        let parts = Parts {
            invoke: invoke.clone(),
            consensus: consensus.clone(),
            operations: operations.clone(),
            metrics_text: Arc::new(|| "skein_up 1\n".to_owned()),
        };
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let mut config = GatewayConfig::new(any, any);
        configure(&mut config);
        let gateway = Gateway::serve(config, parts).await.unwrap();
        let http = reqwest::Client::builder().no_proxy().timeout(SOON).build().unwrap();
        Self { gateway, invoke, consensus, operations, http, keys }
    }

    pub(crate) fn key(&self, name: &str) -> &str {
        &self.keys[name]
    }

    /// A call of `shop/price` or whatever the path says, with a key that may.
    pub(crate) fn call(&self, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}{path}", self.gateway.http_addr());
        self.http.post(url).bearer_auth(self.key("invoke"))
    }

    /// A request of the admin API with the administrator's key.
    pub(crate) fn admin(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.admin_as("admin", method, path)
    }

    pub(crate) fn admin_as(&self, key: &str, method: &str, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}{path}", self.gateway.admin_addr());
        self.http.request(method.parse().unwrap(), url).bearer_auth(self.key(key))
    }
}

fn fill(consensus: &FakePropose) -> BTreeMap<&'static str, String> {
    let apply = |command| consensus.apply(RequestId(Uuid::now_v7()), command);
    apply(Command::Found { mesh: MeshId::random() });
    apply(Command::AddMember {
        name: "node-1".parse().unwrap(),
        key: Digest::of(b"node-1"),
        addresses: Addresses { mesh: "a:1".to_owned(), http: "a:2".to_owned(), admin: "a:3".to_owned() },
        role: MemberRole::Auto,
        token: None,
    });
    publish(consensus, "shop", "price");
    let mut keys = BTreeMap::new();
    for (at, (name, role, app, expires_ms)) in KEYS.into_iter().enumerate() {
        let at = u8::try_from(at).unwrap();
        let MintedKey { id, text, hash } = mint([at; 6], [at; 32]);
        let app: Option<AppName> = app.map(|app| app.parse().unwrap());
        let key = KeyRecord { hash, role, app, note: name.to_owned(), created_ms: 1_000, expires_ms };
        apply(Command::CreateKey { id, key });
        keys.insert(name, text);
    }
    let unknown = mint([0xee; 6], [0xee; 32]).text;
    keys.insert("unknown", unknown);
    // The right id with another's secret.
    let forged = format!("sk_060606060606_{}", "00".repeat(32));
    keys.insert("forged", forged);
    let MintedKey { id, text, hash } = mint([0xdd; 6], [0xdd; 32]);
    let key =
        KeyRecord { hash, role: Role::Admin, app: None, note: String::new(), created_ms: 1_000, expires_ms: None };
    apply(Command::CreateKey { id: id.clone(), key });
    apply(Command::RevokeKey { id });
    keys.insert("revoked", text);
    keys
}

/// Publishes the next version and moves `live` to it.
pub(crate) fn publish(consensus: &FakePropose, app: &str, name: &str) {
    let mut manifest = Manifest::named(app.parse().unwrap(), name.parse().unwrap());
    manifest.limits.payload_bytes = PAYLOAD_BYTES;
    manifest.category = "pricing".to_owned();
    let command = Command::PublishVersion {
        manifest: Box::new(manifest),
        digest: Digest::of(b"code"),
        size: 4,
        holders: vec![NodeId(1)],
        note: String::new(),
        author: "fixture".to_owned(),
        alias: Some(AliasName::default()),
        expected: None,
    };
    consensus.apply(RequestId(Uuid::now_v7()), command);
}

/// The problem in a response, after checking that it is one in form and of this status and code.
pub(crate) async fn problem(response: reqwest::Response, status: u16, code: &str) -> Problem {
    let (seen, url) = (response.status().as_u16(), response.url().to_string());
    let content_type = response.headers().get("content-type").cloned();
    let text = response.text().await.unwrap();
    assert_eq!((seen, url.as_str()), (status, url.as_str()), "{text}");
    assert_eq!(content_type.unwrap(), Problem::MEDIA_TYPE, "{url}");
    let problem: Problem = serde_json::from_str(&text).unwrap();
    assert_eq!((problem.status, problem.code.as_str()), (status, code), "{url}: {text}");
    assert_eq!(problem.kind, format!("urn:skein:error:{code}"));
    assert!(!problem.title.is_empty() && !problem.detail.is_empty() && !problem.advice.is_empty(), "{text}");
    problem
}

/// A command that changes nothing but the index.
pub(crate) fn noop() -> Command {
    Command::RevokeKey { id: "nobody".to_owned() }
}
