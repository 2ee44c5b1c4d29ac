//! Functions, versions and aliases: read from the catalogue, changed by proposals.

use std::sync::Arc;

use bytes::Bytes;
use skein_catalog::{Applied, Catalog, Command, FunctionRecord, Outcome, VersionRecord};
use skein_proto::{AliasName, AppName, ErrorCode, Failure, FunctionName, VersionId};

use super::{
    Asked,
    asked::to_json,
    search::{Query, state},
};
use crate::{
    api::{
        AliasReport, AliasRequest, AliasStatus, Done, FunctionDetail, FunctionList, FunctionQuery, FunctionSummary,
        MoveRequest, RollbackRequest, VersionList, VersionQuery, VersionSummary,
    },
    body::Inbound,
    problem::Refusal,
};

/// Entries of a page whose caller says nothing.
const PAGE: usize = 100;
/// Most entries of a page.
const PAGE_MAX: usize = 1_000;

fn page(limit: Option<usize>) -> Result<usize, Refusal> {
    let limit = limit.unwrap_or(PAGE);
    if (1..=PAGE_MAX).contains(&limit) {
        Ok(limit)
    } else {
        Err(Refusal::bad_request(format!("`limit` must be from 1 to {PAGE_MAX}")))
    }
}

/// `GET /v1/functions`.
pub(super) async fn list(asked: Asked) -> Result<Bytes, Refusal> {
    let FunctionQuery { q, limit, after } = asked.query()?;
    let limit = page(limit)?;
    let after = after.map(|after| split_after(&after)).transpose()?;
    let catalog = asked.catalog().await?;
    let query = Query::new(&q);
    let own = asked.own_app();
    let mut total = 0;
    let mut functions = Vec::new();
    let mut has_more = false;
    for record in catalog.functions().filter(|record| own.is_none_or(|own| *own == record.app)) {
        let Some(function) = summary(record) else { continue };
        if !query.matches(&function) {
            continue;
        }
        total += 1;
        let is_before = after.as_ref().is_some_and(|(app, name)| (&function.app, &function.name) <= (app, name));
        if is_before {
            continue;
        }
        if functions.len() < limit {
            functions.push(function);
        } else {
            has_more = true;
        }
    }
    let last = functions.last().filter(|_| has_more);
    let next = last.map(|function| format!("{}/{}", function.app, function.name));
    to_json(&FunctionList { functions, total, next, index: catalog.index() })
}

fn split_after(after: &str) -> Result<(AppName, FunctionName), Refusal> {
    let (app, name) =
        after.split_once('/').ok_or_else(|| Refusal::bad_request("`after` is not of the form `app/name`"))?;
    Ok((app.parse()?, name.parse()?))
}

/// None for a function without versions, which the catalogue does not make.
fn summary(record: &FunctionRecord) -> Option<FunctionSummary> {
    let (latest, version) = record.versions.last_key_value()?;
    let manifest = &version.manifest;
    Some(FunctionSummary {
        app: record.app.clone(),
        name: record.name.clone(),
        state: state(record.aliases.keys()),
        latest: *latest,
        versions: record.versions.len(),
        aliases: current(record).map(|(alias, number)| (alias.clone(), number)).collect(),
        description: manifest.description.clone(),
        category: manifest.category.clone(),
        tags: manifest.tags.clone(),
        author: version.author.clone(),
        published_ms: version.published_ms,
    })
}

fn current(record: &FunctionRecord) -> impl Iterator<Item = (&AliasName, u64)> {
    record.aliases.iter().filter_map(|(alias, history)| Some((alias, *history.last()?)))
}

/// `GET /v1/functions/{app}/{name}`.
pub(super) async fn show(asked: Asked) -> Result<Bytes, Refusal> {
    let catalog = asked.catalog().await?;
    let record = find(&asked, &catalog)?;
    let aliases = current(record).map(|(alias, version)| {
        let before = record.aliases.get(alias).map(|history| history.iter().rev().skip(1).copied().collect());
        (alias.clone(), AliasStatus { version, before: before.unwrap_or_default() })
    });
    to_json(&FunctionDetail {
        app: record.app.clone(),
        name: record.name.clone(),
        id: record.id,
        state: state(record.aliases.keys()),
        aliases: aliases.collect(),
        version_count: record.versions.len(),
        versions: record
            .versions
            .values()
            .rev()
            .take(PAGE)
            .map(|version| version_of(&catalog, record, version))
            .collect(),
        index: catalog.index(),
    })
}

/// `GET /v1/functions/{app}/{name}/versions`.
pub(super) async fn versions(asked: Asked) -> Result<Bytes, Refusal> {
    let VersionQuery { limit, before } = asked.query()?;
    let limit = page(limit)?;
    let catalog = asked.catalog().await?;
    let record = find(&asked, &catalog)?;
    let mut below = record.versions.range(..before.unwrap_or(u64::MAX)).rev().map(|(_, version)| version);
    let versions: Vec<_> = below.by_ref().take(limit).map(|version| version_of(&catalog, record, version)).collect();
    let next = versions.last().map(|version| version.number).filter(|_| below.next().is_some());
    to_json(&VersionList { versions, total: record.versions.len(), next, index: catalog.index() })
}

fn find<'a>(asked: &Asked, catalog: &'a Catalog) -> Result<&'a FunctionRecord, Refusal> {
    let (app, name): (AppName, FunctionName) = (asked.param("app")?, asked.param("name")?);
    let found = catalog.function(&app, &name).map(Arc::as_ref);
    let missing = || Failure::not_executed(ErrorCode::FunctionNotFound, format!("there is no function `{app}/{name}`"));
    Ok(found.ok_or_else(missing)?)
}

fn version_of(catalog: &Catalog, record: &FunctionRecord, version: &VersionRecord) -> VersionSummary {
    let aliases = current(record).filter(|(_, number)| *number == version.number);
    let holders = version.holders.iter().filter_map(|node| Some(catalog.member(*node)?.name.clone()));
    VersionSummary {
        number: version.number,
        digest: version.digest,
        size: version.size,
        note: version.note.clone(),
        author: version.author.clone(),
        published_ms: version.published_ms,
        index: version.index,
        aliases: aliases.map(|(alias, _)| alias.clone()).collect(),
        holders: holders.collect(),
        manifest: version.manifest.clone(),
    }
}

/// `POST /v1/functions/{app}/{name}/versions/{number}/migrate`.
pub(super) async fn migrate(asked: Asked, body: Inbound) -> Result<Bytes, Refusal> {
    let request: MoveRequest = asked.json(body).await?;
    let number = asked.text("number");
    let number: u64 = number.parse().map_err(|_| Refusal::bad_request(format!("`{number}` is no version")))?;
    let catalog = asked.catalog().await?;
    let record = find(&asked, &catalog)?;
    if !record.versions.contains_key(&number) {
        let message = format!("`{}/{}` has no version {number}", record.app, record.name);
        return Err(Failure::not_executed(ErrorCode::VersionNotFound, message).into());
    }
    let version = VersionId { function: record.id, number };
    to_json(&asked.admin.parts.operations.move_version(version, request).await?)
}

/// `DELETE /v1/functions/{app}/{name}`.
pub(super) async fn delete(asked: Asked) -> Result<Bytes, Refusal> {
    let command = Command::DeleteFunction { app: asked.param("app")?, name: asked.param("name")? };
    let applied = asked.propose(asked.request_id()?, command).await?;
    to_json(&Done { index: applied.index })
}

/// `PUT /v1/functions/{app}/{name}/aliases/{alias}`.
pub(super) async fn set_alias(asked: Asked, body: Inbound) -> Result<Bytes, Refusal> {
    let AliasRequest { version, expected } = asked.json(body).await?;
    let (app, name, alias): (AppName, FunctionName, AliasName) =
        (asked.param("app")?, asked.param("name")?, asked.param("alias")?);
    secure_code(&asked, |_| Some(version)).await?;
    let command = Command::SetAlias { app: app.clone(), name: name.clone(), alias: alias.clone(), version, expected };
    let applied = asked.propose(asked.request_id()?, command).await?;
    alias_report(app, name, alias, applied)
}

/// `POST /v1/functions/{app}/{name}/aliases/{alias}/rollback`.
pub(super) async fn rollback(asked: Asked, body: Inbound) -> Result<Bytes, Refusal> {
    let RollbackRequest { to } = asked.json_or_default(body).await?;
    let (app, name, alias): (AppName, FunctionName, AliasName) =
        (asked.param("app")?, asked.param("name")?, asked.param("alias")?);
    secure_code(&asked, |record| {
        let before = || record.aliases.get(&alias)?.iter().rev().nth(1).copied();
        to.or_else(before)
    })
    .await?;
    let command = Command::Rollback { app: app.clone(), name: name.clone(), alias: alias.clone(), to };
    let applied = asked.propose(asked.request_id()?, command).await?;
    alias_report(app, name, alias, applied)
}

/// No alias moves onto code that nobody has. What is not there at all the catalogue refuses better.
async fn secure_code(asked: &Asked, target: impl FnOnce(&FunctionRecord) -> Option<u64>) -> Result<(), Refusal> {
    let catalog = asked.catalog().await?;
    let Ok(record) = find(asked, &catalog) else { return Ok(()) };
    if let Some(version) = target(record).and_then(|number| record.versions.get(&number)) {
        asked.admin.parts.operations.secure_code(version).await?;
    }
    Ok(())
}

fn alias_report(app: AppName, name: FunctionName, alias: AliasName, applied: Applied) -> Result<Bytes, Refusal> {
    let Outcome::Alias { now, before } = applied.outcome else {
        let message = format!("the alias was moved, but the answer was {:?}", applied.outcome);
        return Err(Failure::executed(ErrorCode::Internal, message).into());
    };
    to_json(&AliasReport { app, name, alias, version: now, before, index: applied.index })
}
