//! The table of the admin API: the router, the access rules and the OpenAPI document are all made of it.

use std::{future::Future, pin::Pin};

use bytes::Bytes;
use http::{Method, StatusCode};
use skein_catalog::{Binding, Role};

use super::{Asked, apps, calls, functions, health, keys, nodes, publish};
use crate::{
    api,
    body::Inbound,
    openapi::{Shape, shape},
    problem::Refusal,
};

/// What answers: JSON, or a refusal.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Bytes, Refusal>> + Send>>;

/// One operation.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) name: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) access: Access,
    pub(crate) query: &'static [(&'static str, &'static str)],
    pub(crate) request: Request,
    /// The status of its success.
    pub(crate) status: StatusCode,
    pub(crate) answer: Option<fn() -> Shape>,
    pub(crate) handler: fn(Asked, Inbound) -> Answer,
}

/// What the body is.
pub(crate) enum Request {
    /// There is none.
    None,
    /// Bytes.
    Bytes,
    /// JSON.
    Json(fn() -> Shape),
    /// JSON that may be left out.
    OptionalJson(fn() -> Shape),
}

/// Who may do it.
pub(crate) enum Access {
    /// Anybody.
    Public,
    /// The holder of a key of at least this role.
    Key(Role, Scope),
}

/// Which apps the key must be good for.
pub(crate) enum Scope {
    /// All.
    Mesh,
    /// The one in the path.
    Path,
    /// Any; what it gets to see is its own.
    Own,
}

const fn route(
    method: Method,
    path: &'static str,
    name: &'static str,
    access: Access,
    handler: fn(Asked, Inbound) -> Answer,
) -> Route {
    Route {
        method,
        path,
        name,
        summary: "",
        access,
        query: &[],
        request: Request::None,
        status: StatusCode::OK,
        answer: None,
        handler,
    }
}

impl Route {
    const fn says(mut self, summary: &'static str) -> Self {
        self.summary = summary;
        self
    }

    const fn query(mut self, query: &'static [(&'static str, &'static str)]) -> Self {
        self.query = query;
        self
    }

    const fn takes(mut self, request: Request) -> Self {
        self.request = request;
        self
    }

    const fn gives(mut self, answer: fn() -> Shape) -> Self {
        self.answer = Some(answer);
        self
    }

    const fn creates(mut self, answer: fn() -> Shape) -> Self {
        self.answer = Some(answer);
        self.status = StatusCode::CREATED;
        self
    }
}

const fn key(role: Role, scope: Scope) -> Access {
    Access::Key(role, scope)
}

/// All operations under `/v1`.
pub(crate) static ROUTES: &[Route] = &[
    route(Method::PUT, "/v1/artifacts/{digest}", "put_artifact", key(Role::Publish, Scope::Own), |asked, body| {
        Box::pin(publish::put_artifact(asked, body))
    })
    .says("Store code bytes; their SHA-256 must be the digest in the path")
    .takes(Request::Bytes)
    .creates(shape::<api::ArtifactStored>),
    route(Method::GET, "/v1/functions", "list_functions", key(Role::Read, Scope::Own), |asked, _| {
        Box::pin(functions::list(asked))
    })
    .says("Search functions; a key of one app sees that app's")
    .query(&[
        ("q", "words that must all match; `app:`, `name:`, `category:`, `tag:`, `description:`, `state:`, `author:` and `alias:` look at one field"),
        ("limit", "most functions in the answer"),
        ("after", "the `next` of the page before"),
    ])
    .gives(shape::<api::FunctionList>),
    route(Method::GET, "/v1/functions/{app}/{name}", "show_function", key(Role::Read, Scope::Path), |asked, _| {
        Box::pin(functions::show(asked))
    })
    .says("A function with its aliases and newest versions")
    .gives(shape::<api::FunctionDetail>),
    route(Method::DELETE, "/v1/functions/{app}/{name}", "delete_function", key(Role::Publish, Scope::Path), |asked, _| {
        Box::pin(functions::delete(asked))
    })
    .says("Delete a function with its versions and aliases")
    .gives(shape::<api::Done>),
    route(Method::GET, "/v1/functions/{app}/{name}/versions", "list_versions", key(Role::Read, Scope::Path), |asked, _| {
        Box::pin(functions::versions(asked))
    })
    .says("The versions of a function, newest first")
    .query(&[("limit", "most versions in the answer"), ("before", "the `next` of the page before")])
    .gives(shape::<api::VersionList>),
    route(Method::POST, "/v1/functions/{app}/{name}/versions", "publish", key(Role::Publish, Scope::Path), |asked, body| {
        Box::pin(publish::publish(asked, body))
    })
    .says("Make the next version of an artifact that was put before")
    .takes(Request::Json(shape::<api::PublishRequest>))
    .creates(shape::<api::PublishReport>),
    route(Method::POST, "/v1/functions/{app}/{name}/versions/{number}/migrate", "move_version", key(Role::Admin, Scope::Mesh), |asked, body| {
        Box::pin(functions::migrate(asked, body))
    })
    .says("Move a live version from one node to another, without a failed call")
    .takes(Request::Json(shape::<api::MoveRequest>))
    .gives(shape::<api::MoveReport>),
    route(Method::PUT, "/v1/functions/{app}/{name}/aliases/{alias}", "set_alias", key(Role::Publish, Scope::Path), |asked, body| {
        Box::pin(functions::set_alias(asked, body))
    })
    .says("Point an alias at a version")
    .takes(Request::Json(shape::<api::AliasRequest>))
    .gives(shape::<api::AliasReport>),
    route(Method::POST, "/v1/functions/{app}/{name}/aliases/{alias}/rollback", "rollback", key(Role::Publish, Scope::Path), |asked, body| {
        Box::pin(functions::rollback(asked, body))
    })
    .says("Return an alias to what it pointed at before")
    .takes(Request::OptionalJson(shape::<api::RollbackRequest>))
    .gives(shape::<api::AliasReport>),
    route(Method::GET, "/v1/apps", "list_apps", key(Role::Read, Scope::Own), |asked, _| Box::pin(apps::list(asked)))
        .says("The apps and where their functions may run; a key of one app sees that app")
        .gives(shape::<api::AppList>),
    route(Method::POST, "/v1/apps", "create_app", key(Role::Admin, Scope::Mesh), |asked, body| {
        Box::pin(apps::create(asked, body))
    })
    .says("Declare an app, bound to nodes by their labels and names")
    .takes(Request::Json(shape::<api::AppRequest>))
    .creates(shape::<api::AppStatus>),
    route(Method::GET, "/v1/apps/{app}", "show_app", key(Role::Read, Scope::Path), |asked, _| {
        Box::pin(apps::show(asked))
    })
    .says("An app and where its functions may run")
    .gives(shape::<api::AppStatus>),
    route(Method::DELETE, "/v1/apps/{app}", "remove_app", key(Role::Admin, Scope::Mesh), |asked, _| {
        Box::pin(apps::remove(asked))
    })
    .says("Remove an app that owns no function")
    .gives(shape::<api::Done>),
    route(Method::PUT, "/v1/apps/{app}/binding", "bind_app", key(Role::Admin, Scope::Mesh), |asked, body| {
        Box::pin(apps::bind(asked, body))
    })
    .says("Bind an app to other nodes; what runs elsewhere ends there, new calls go to the bound ones")
    .takes(Request::Json(shape::<Binding>))
    .gives(shape::<api::AppStatus>),
    route(Method::GET, "/v1/invocations/{id}/why", "why", key(Role::Read, Scope::Own), |asked, _| {
        Box::pin(calls::why(asked))
    })
    .says("Where a recent call went, why there, cold or warm, and where its time went")
    .gives(shape::<api::WhyReport>),
    route(Method::GET, "/v1/nodes", "list_nodes", key(Role::Read, Scope::Mesh), |asked, _| Box::pin(nodes::list(asked)))
        .says("The members: alive, leading, how loaded")
        .gives(shape::<api::NodeList>),
    route(Method::DELETE, "/v1/nodes/{node}", "remove_node", key(Role::Admin, Scope::Mesh), |asked, _| {
        Box::pin(nodes::remove(asked))
    })
    .says("Take a node off the mesh for good")
    .query(&[("force", "`true` goes on where apps would be left without a node, or code with too few copies")])
    .gives(shape::<api::Done>),
    route(Method::POST, "/v1/nodes/{node}/drain", "drain_node", key(Role::Admin, Scope::Mesh), |asked, _| {
        Box::pin(nodes::drain(asked))
    })
    .says("Have a node take no new calls")
    .query(&[("force", "`true` goes on where apps would be left without a node, or code with too few copies")])
    .gives(shape::<api::Done>),
    route(Method::POST, "/v1/nodes/{node}/resume", "resume_node", key(Role::Admin, Scope::Mesh), |asked, _| {
        Box::pin(nodes::resume(asked))
    })
    .says("Have a drained node take calls again")
    .gives(shape::<api::Done>),
    route(Method::GET, "/v1/status", "status", key(Role::Read, Scope::Mesh), |asked, _| Box::pin(nodes::status(asked)))
        .says("The mesh on one page, as this node sees it")
        .gives(shape::<api::MeshStatus>),
    route(Method::GET, "/v1/keys", "list_keys", key(Role::Admin, Scope::Mesh), |asked, _| Box::pin(keys::list(asked)))
        .says("The keys, without their secrets")
        .gives(shape::<api::KeyList>),
    route(Method::POST, "/v1/keys", "create_key", key(Role::Admin, Scope::Mesh), |asked, body| {
        Box::pin(keys::create(asked, body))
    })
    .says("Make a key; its text is in this answer and nowhere else")
    .takes(Request::Json(shape::<api::KeyRequest>))
    .creates(shape::<api::KeyCreated>),
    route(Method::DELETE, "/v1/keys/{id}", "revoke_key", key(Role::Admin, Scope::Mesh), |asked, _| {
        Box::pin(keys::revoke(asked))
    })
    .says("Make a key worthless")
    .gives(shape::<api::Done>),
    route(Method::POST, "/v1/tokens", "create_token", key(Role::Admin, Scope::Mesh), |asked, body| {
        Box::pin(keys::create_token(asked, body))
    })
    .says("Make a join token; its text is in this answer and nowhere else")
    .takes(Request::OptionalJson(shape::<api::TokenRequest>))
    .creates(shape::<api::TokenCreated>),
    route(Method::GET, "/v1/config", "config", key(Role::Admin, Scope::Mesh), |asked, _| Box::pin(health::config(asked)))
        .says("This node's effective configuration, with its sources"),
    route(Method::GET, "/v1/errors/{code}", "explain", Access::Public, |asked, _| Box::pin(health::explain(asked)))
        .says("What an error code means and what to do")
        .gives(shape::<api::ErrorPage>),
    route(Method::GET, "/v1/openapi.json", "openapi", Access::Public, |asked, _| Box::pin(health::openapi(asked)))
        .says("This description"),
];
