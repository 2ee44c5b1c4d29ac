//! The OpenAPI 3.1 document, made of the route table and of one example of each type.
//!
//! Nothing is described twice: a schema is found out by asking the type itself, see [`shape()`].

mod example;
mod shape;

use http::StatusCode;
use serde_json::{Map, Value, json};

pub(crate) use shape::{Shape, shape};

use crate::{
    admin::{Access, Route, Scope, route::Request},
    api::Problem,
    auth::role_text,
};

/// The document for these routes.
pub(crate) fn document(routes: &[Route]) -> Value {
    let mut schemas = Map::new();
    let mut paths = Map::new();
    let problem = reference(&mut schemas, shape::<Problem>());
    for route in routes {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_lowercase()] = operation(route, &mut schemas, &problem);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Skein admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Manages a Skein mesh through any of its nodes. A change answers with the catalogue `index` \
                            at which it was applied; sent as `skein-min-index`, no node answers with anything older.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "key": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer", "description": "`sk_ID_SECRET`" } },
            "schemas": schemas,
        },
    })
}

fn operation(route: &Route, schemas: &mut Map<String, Value>, problem: &Value) -> Value {
    let answer = match route.answer {
        Some(answer) => reference(schemas, answer()),
        None => json!({ "type": "object" }),
    };
    let failed = json!({ "description": "A failure", "content": { Problem::MEDIA_TYPE: { "schema": problem } } });
    let mut responses = json!({ "default": failed });
    responses[route.status.as_str()] = json!({
        "description": route.status.canonical_reason().unwrap_or_default(),
        "content": { "application/json": { "schema": answer } },
    });
    let mut operation = json!({
        "operationId": route.name,
        "summary": route.summary,
        "parameters": parameters(route),
        "responses": responses,
    });
    match &route.access {
        Access::Public => operation["security"] = json!([]),
        Access::Key(role, scope) => {
            for status in [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN] {
                operation["responses"][status.as_str()] = failed.clone();
            }
            operation["description"] = json!(format!("Needs a key of role `{}` {}.", role_text(*role), scope.text()));
        }
    }
    let body = match &route.request {
        Request::None => return operation,
        Request::Bytes => ("application/octet-stream", json!({ "type": "string", "format": "binary" }), true),
        Request::Json(shape) => ("application/json", reference(schemas, shape()), true),
        Request::OptionalJson(shape) => ("application/json", reference(schemas, shape()), false),
    };
    let (media_type, schema, is_required) = body;
    operation["requestBody"] = json!({ "required": is_required, "content": { media_type: { "schema": schema } } });
    operation
}

impl Scope {
    fn text(&self) -> &'static str {
        match self {
            Scope::Mesh => "for the whole mesh",
            Scope::Path => "for the app",
            Scope::Own => "for any app",
        }
    }
}

fn parameters(route: &Route) -> Vec<Value> {
    let mut parameters = Vec::new();
    let names = route.path.split('{').skip(1).filter_map(|part| part.split('}').next());
    for name in names {
        let schema = json!({ "type": "string" });
        parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
    }
    for (name, description) in route.query {
        let kind = if matches!(*name, "limit" | "before") { "integer" } else { "string" };
        let schema = json!({ "type": kind });
        parameters.push(json!({ "name": name, "in": "query", "description": description, "schema": schema }));
    }
    parameters
}

/// A reference to the schema, which is kept under its name.
fn reference(schemas: &mut Map<String, Value>, shape: Shape) -> Value {
    let reference = json!({ "$ref": format!("#/components/schemas/{}", shape.name) });
    schemas.insert(shape.name.to_owned(), shape.schema);
    reference
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::ROUTES;

    #[test]
    fn every_route_is_described_with_its_parameters() {
        let document = document(ROUTES);
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method.as_str().to_lowercase()];
            assert_eq!(operation["operationId"], route.name);
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{}", route.name);
            let in_path = operation["parameters"].as_array().unwrap().iter().filter(|one| one["in"] == "path").count();
            assert_eq!(in_path, route.path.matches('{').count(), "{}", route.name);
        }
        let ids: std::collections::BTreeSet<_> = ROUTES.iter().map(|route| route.name).collect();
        assert_eq!(ids.len(), ROUTES.len());
    }

    #[test]
    fn every_reference_leads_to_a_schema() {
        let document = document(ROUTES);
        let text = document.to_string();
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }

    #[test]
    fn a_route_that_changes_something_needs_a_key() {
        for route in ROUTES {
            let is_public = matches!(route.access, Access::Public);
            assert!(!is_public || route.method == http::Method::GET, "{}", route.name);
        }
    }
}
