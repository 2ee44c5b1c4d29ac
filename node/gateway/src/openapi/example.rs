//! One example of each type of the API, nothing left out of it.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use skein_catalog::{Addresses, MemberRole, Role};
use skein_proto::{
    AliasName, Digest, ErrorCode, FunctionId, InvocationId, Manifest, MeshId, NodeId, NodeName, Progress,
};
use uuid::Uuid;

use super::shape::Example;
use crate::api::{
    ActivationSummary, AliasReport, AliasRequest, AliasStatus, ArtifactStored, ConsensusRole, ConsensusStatus, Done,
    ErrorPage, FunctionDetail, FunctionList, FunctionState, FunctionSummary, KeyCreated, KeyList, KeyRequest,
    KeySummary, MeshStatus, MoveReport, MoveRequest, NodeList, NodeLoad, NodeState, NodeStatus, Problem, PublishReport,
    PublishRequest, PublishTimings, RollbackRequest, TokenCreated, TokenRequest, VersionList, VersionSummary, Warning,
};

const PUBLISHED_MS: u64 = 1_795_000_000_000;
const EXPIRES_MS: u64 = 1_795_003_600_000;

macro_rules! example {
    ($type:ident, $value:expr) => {
        impl Example for $type {
            const NAME: &'static str = stringify!($type);

            fn example() -> Self {
                $value
            }
        }
    };
}

mod placing;

/// A name of this file's own.
fn name<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_value(text.into()).expect("a literal that follows the rule for names")
}

fn digest() -> Digest {
    Digest::of(b"example")
}

fn manifest() -> Manifest {
    let mut manifest = Manifest::named(name("shop"), name("price"));
    manifest.description = "prices a cart".to_owned();
    manifest.category = "pricing".to_owned();
    manifest.tags = vec!["checkout".to_owned()];
    manifest.args = vec!["--fast".to_owned()];
    manifest.entry = Some("handle".to_owned());
    manifest.grants.invoke = vec!["shop/*".to_owned()];
    manifest.grants.http = vec!["https://api.example.com".to_owned()];
    manifest.grants.env = BTreeMap::from([("CURRENCY".to_owned(), "EUR".to_owned())]);
    manifest
}

fn aliases() -> Vec<AliasName> {
    vec![AliasName::default()]
}

fn nodes() -> Vec<NodeName> {
    vec![name("node-1")]
}

fn version() -> VersionSummary {
    VersionSummary {
        number: 3,
        digest: digest(),
        size: 98_304,
        note: "rounds half up".to_owned(),
        author: "0a1b2c3d4e5f".to_owned(),
        published_ms: PUBLISHED_MS,
        index: 42,
        aliases: aliases(),
        holders: nodes(),
        manifest: manifest(),
    }
}

fn function() -> FunctionSummary {
    FunctionSummary {
        app: name("shop"),
        name: name("price"),
        state: FunctionState::Live,
        latest: 3,
        versions: 3,
        aliases: BTreeMap::from([(AliasName::default(), 3)]),
        description: "prices a cart".to_owned(),
        category: "pricing".to_owned(),
        tags: vec!["checkout".to_owned()],
        author: "0a1b2c3d4e5f".to_owned(),
        published_ms: PUBLISHED_MS,
    }
}

fn node() -> NodeStatus {
    NodeStatus {
        name: name("node-1"),
        id: NodeId(1),
        state: NodeState::Alive,
        consensus: ConsensusRole::Leader,
        role: MemberRole::Auto,
        is_draining: false,
        is_self: true,
        addresses: Addresses {
            mesh: "127.0.0.1:7070".to_owned(),
            http: "127.0.0.1:7080".to_owned(),
            admin: "127.0.0.1:7090".to_owned(),
        },
        labels: BTreeMap::from([("zone".to_owned(), "eu".to_owned())]),
        applied_index: 42,
        load: NodeLoad {
            in_flight: 2,
            queued: 0,
            queue_age_ms: 0,
            cpu_permille: 120,
            memory_mib: 48,
            memory_budget_mib: 1_024,
            activations: 5,
        },
    }
}

fn consensus() -> ConsensusStatus {
    ConsensusStatus {
        has_quorum: true,
        leader: Some(name("node-1")),
        term: 2,
        committed_index: 42,
        voters: nodes(),
        learners: nodes(),
    }
}

fn activation() -> ActivationSummary {
    ActivationSummary {
        app: name("shop"),
        name: name("price"),
        version: 3,
        state: "ready".to_owned(),
        in_flight: 2,
        queued: 0,
        calls: 1_024,
    }
}

fn warning() -> Warning {
    Warning { message: "node-3 is down".to_owned(), advice: "start it again, or remove it".to_owned() }
}

example!(Done, Done { index: 42 });
example!(ArtifactStored, ArtifactStored { digest: digest(), size: 98_304 });
example!(
    PublishRequest,
    PublishRequest {
        manifest: manifest(),
        digest: digest(),
        note: "rounds half up".to_owned(),
        alias: Some(AliasName::default()),
        expected: Some(2),
        wait: true,
    }
);
example!(
    PublishReport,
    PublishReport {
        app: name("shop"),
        name: name("price"),
        version: 3,
        digest: digest(),
        size: 98_304,
        index: 42,
        alias: Some(AliasName::default()),
        holders: nodes(),
        copies_missing: 1,
        serving: nodes(),
        pending: nodes(),
        timings: PublishTimings { inspect_us: 900, store_us: 4_000, commit_us: 3_000, serve_us: 40_000 },
    }
);
example!(
    FunctionList,
    FunctionList { functions: vec![function()], total: 1, next: Some("shop/price".to_owned()), index: 42 }
);
example!(
    FunctionDetail,
    FunctionDetail {
        app: name("shop"),
        name: name("price"),
        id: FunctionId(7),
        state: FunctionState::Live,
        aliases: BTreeMap::from([(AliasName::default(), AliasStatus { version: 3, before: vec![2] })]),
        version_count: 3,
        versions: vec![version()],
        index: 42,
    }
);
example!(VersionList, VersionList { versions: vec![version()], total: 3, next: Some(2), index: 42 });
example!(MoveRequest, Self { from: name("node-1"), to: name("node-2") });

example!(
    MoveReport,
    Self {
        app: name("shop"),
        name: name("price"),
        version: 3,
        from: name("node-1"),
        to: name("node-2"),
        running: 1,
        warm_us: 2_100,
        release_us: 250,
    }
);

example!(AliasRequest, AliasRequest { version: 3, expected: Some(2) });
example!(RollbackRequest, RollbackRequest { to: Some(2) });
example!(
    AliasReport,
    AliasReport {
        app: name("shop"),
        name: name("price"),
        alias: AliasName::default(),
        version: 2,
        before: Some(3),
        index: 43,
    }
);
example!(
    KeyRequest,
    KeyRequest {
        role: Role::Publish,
        app: Some(name("shop")),
        note: "build machine".to_owned(),
        ttl_ms: Some(3_600_000),
    }
);
example!(
    KeyCreated,
    KeyCreated {
        key: "sk_ID_SECRET".to_owned(),
        id: "0a1b2c3d4e5f".to_owned(),
        role: Role::Publish,
        app: Some(name("shop")),
        expires_ms: Some(EXPIRES_MS),
        index: 42,
    }
);
example!(
    KeyList,
    KeyList {
        keys: vec![KeySummary {
            id: "0a1b2c3d4e5f".to_owned(),
            role: Role::Publish,
            app: Some(name("shop")),
            note: "build machine".to_owned(),
            created_ms: PUBLISHED_MS,
            expires_ms: Some(EXPIRES_MS),
            is_expired: false,
        }],
        index: 42,
    }
);
example!(TokenRequest, TokenRequest { ttl_ms: Some(3_600_000), role: Some(MemberRole::Worker) });
example!(TokenCreated, TokenCreated { token: "skein1.TOKEN".to_owned(), expires_ms: EXPIRES_MS });
example!(NodeList, NodeList { nodes: vec![node()] });
example!(
    MeshStatus,
    MeshStatus {
        mesh: Some(MeshId(Uuid::from_u128(0x0199_f3a0_0000_7000_8000_0000_0000_0001))),
        node: name("node-1"),
        release: "0.1.0".to_owned(),
        index: 42,
        consensus: consensus(),
        nodes: vec![node()],
        functions: 1,
        versions: 3,
        activations: vec![activation()],
        warnings: vec![warning()],
    }
);
example!(ErrorPage, ErrorPage::from(ErrorCode::Overloaded));
example!(
    Problem,
    Problem {
        kind: "urn:skein:error:function-failed".to_owned(),
        title: "The function ended with an error of its own: a non-zero exit code".to_owned(),
        status: 502,
        detail: "the function ended with exit code 3".to_owned(),
        code: ErrorCode::FunctionFailed,
        progress: Progress::Executed,
        advice: ErrorCode::FunctionFailed.advice().to_owned(),
        retry_after_ms: Some(1_000),
        exit_code: Some(3),
        log_tail: "no such currency: XYZ\n".to_owned(),
        invocation: Some(InvocationId(Uuid::from_u128(0x0199_f3a0_0000_7000_8000_0000_0000_0002))),
    }
);

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use skein_catalog::Binding;

    use super::*;
    use crate::api::{AppList, AppRequest, AppStatus, WhyReport};

    /// A null or an empty list tells the schema nothing about what belongs there.
    fn check<T: Example>() {
        fn walk(path: &str, value: &Value) {
            match value {
                Value::Null => panic!("{path} is null"),
                Value::Array(items) => {
                    assert!(!items.is_empty(), "{path} is empty");
                    items.iter().for_each(|item| walk(&format!("{path}/0"), item));
                }
                Value::Object(fields) => {
                    assert!(!fields.is_empty(), "{path} is empty");
                    fields.iter().for_each(|(name, value)| walk(&format!("{path}/{name}"), value));
                }
                Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let value = serde_json::to_value(T::example()).unwrap();
        walk(T::NAME, &value);
        let again: T = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(again).unwrap(), value, "{}", T::NAME);
    }

    #[test]
    fn examples_leave_nothing_out_and_survive_the_round_trip() {
        check::<Done>();
        check::<ArtifactStored>();
        check::<PublishRequest>();
        check::<PublishReport>();
        check::<FunctionList>();
        check::<FunctionDetail>();
        check::<VersionList>();
        check::<AliasRequest>();
        check::<RollbackRequest>();
        check::<AliasReport>();
        check::<KeyRequest>();
        check::<KeyCreated>();
        check::<KeyList>();
        check::<TokenRequest>();
        check::<TokenCreated>();
        check::<NodeList>();
        check::<MeshStatus>();
        check::<Binding>();
        check::<AppRequest>();
        check::<AppStatus>();
        check::<AppList>();
        check::<WhyReport>();
        check::<ErrorPage>();
        check::<Problem>();
    }
}
