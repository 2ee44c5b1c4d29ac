//! Apps: which there are, and where their functions may run.

use bytes::Bytes;
use skein_catalog::{Binding, Catalog, Command};
use skein_proto::{AppName, ErrorCode, Failure};

use super::{Asked, asked::to_json};
use crate::{
    api::{AppList, AppRequest, AppStatus, Done},
    body::Inbound,
    problem::Refusal,
};

/// `GET /v1/apps`.
pub(super) async fn list(asked: Asked) -> Result<Bytes, Refusal> {
    let catalog = asked.catalog().await?;
    let own = asked.own_app();
    let apps = catalog.apps().filter(|app| own.is_none_or(|own| own == *app));
    to_json(&AppList { apps: apps.map(|app| status(&catalog, app)).collect(), index: catalog.index() })
}

/// `GET /v1/apps/{app}`.
pub(super) async fn show(asked: Asked) -> Result<Bytes, Refusal> {
    let app: AppName = asked.param("app")?;
    let catalog = asked.catalog().await?;
    if !catalog.apps().any(|known| *known == app) {
        let message = format!("there is no app `{app}`; `skein app create {app}` makes it");
        return Err(Failure::not_executed(ErrorCode::NotFound, message).into());
    }
    to_json(&status(&catalog, &app))
}

/// `POST /v1/apps`.
pub(super) async fn create(asked: Asked, body: Inbound) -> Result<Bytes, Refusal> {
    let AppRequest { name, binding } = asked.json(body).await?;
    changed(&asked, name.clone(), Command::CreateApp { app: name, binding }).await
}

/// `PUT /v1/apps/{app}/binding`.
pub(super) async fn bind(asked: Asked, body: Inbound) -> Result<Bytes, Refusal> {
    let (app, binding): (AppName, Binding) = (asked.param("app")?, asked.json(body).await?);
    changed(&asked, app.clone(), Command::BindApp { app, binding }).await
}

/// `DELETE /v1/apps/{app}`.
pub(super) async fn remove(asked: Asked) -> Result<Bytes, Refusal> {
    let command = Command::RemoveApp { app: asked.param("app")? };
    let applied = asked.propose(asked.request_id()?, command).await?;
    to_json(&Done { index: applied.index })
}

async fn changed(asked: &Asked, app: AppName, command: Command) -> Result<Bytes, Refusal> {
    let applied = asked.propose(asked.request_id()?, command).await?;
    let now = status(&asked.admin.parts.consensus.catalog(), &app);
    to_json(&AppStatus { index: applied.index, ..now })
}

fn status(catalog: &Catalog, app: &AppName) -> AppStatus {
    let binding = catalog.binding(app).cloned().unwrap_or_default();
    let members = catalog.members().filter(|member| binding.allows(member));
    AppStatus {
        name: app.clone(),
        bound_to: binding.to_string(),
        nodes: members.map(|member| member.name.clone()).collect(),
        binding,
        functions: catalog.functions_of(app),
        index: catalog.index(),
    }
}
