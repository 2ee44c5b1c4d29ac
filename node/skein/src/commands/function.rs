//! `skein functions`, `function`, `versions`, `alias`, `rollback`: what is published.

use std::{fmt::Write, time::Duration};

use skein_gateway::api::{
    AliasReport, AliasRequest, Done, FunctionDetail, FunctionList, MoveReport, MoveRequest, RollbackRequest,
    VersionList, VersionSummary,
};
use skein_proto::{AliasName, ErrorCode, Failure, FunctionRef, Scale, Target};

use super::admin;
use crate::{
    admin_client::AdminClient,
    cli::{Alias, Common, Function, Functions},
    output::{emit, say, table, time},
};

/// Functions and versions asked for at once; the next page follows until all are there.
const PAGE: usize = 1_000;

pub(super) async fn list(common: &Common, command: Functions) -> Result<(), Failure> {
    let admin = admin(common)?;
    let query = command.query.unwrap_or_default();
    let query: String = query.bytes().map(escape).collect();
    let mut list: FunctionList = admin.get(&format!("/v1/functions?q={query}&limit={PAGE}")).await?;
    while let Some(after) = list.next.take() {
        let after: String = after.bytes().map(escape).collect();
        let more: FunctionList = admin.get(&format!("/v1/functions?q={query}&limit={PAGE}&after={after}")).await?;
        list.functions.extend(more.functions);
        list.next = more.next;
    }
    emit(common.json, &list, || {
        let rows = list.functions.iter().map(|function| {
            let aliases: Vec<String> =
                function.aliases.iter().map(|(alias, version)| format!("{alias}={version}")).collect();
            vec![
                format!("{}/{}", function.app, function.name),
                function.state.as_str().to_owned(),
                function.latest.to_string(),
                aliases.join(" "),
                time(function.published_ms),
                function.description.clone(),
            ]
        });
        table(&["FUNCTION", "STATE", "LATEST", "ALIASES", "PUBLISHED", "DESCRIPTION"], rows)
    })
}

/// Percent-encodes what is not unreserved (RFC 3986, section 2.3).
fn escape(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

pub(super) async fn function(common: &Common, command: Function) -> Result<(), Failure> {
    let admin = admin(common)?;
    match command {
        Function::Show { reference } => {
            let detail: FunctionDetail = admin.get(&format!("/v1/functions/{}", reference.function())).await?;
            emit(common.json, &detail, || show(&detail))
        }
        Function::Delete { reference } => {
            let done: Done = admin.delete(&format!("/v1/functions/{}", reference.function())).await?;
            say(format_args!("deleted {}", reference.function()));
            if common.json { emit(true, &done, String::new) } else { Ok(()) }
        }
        Function::Move { reference, from, to } => {
            let number = number_of(&admin, &reference).await?;
            let path = format!("/v1/functions/{}/versions/{number}/migrate", reference.function());
            let report: MoveReport = admin.post(&path, &MoveRequest { from, to }).await?;
            emit(common.json, &report, || {
                let MoveReport { app, name, version, from, to, running, .. } = &report;
                let running = if *running == 0 { String::new() } else { format!(", {running} calls still run there") };
                format!("{app}/{name}@{version}: {from} -> {to}{running}")
            })
        }
    }
}

/// The version that a reference means now.
async fn number_of(admin: &AdminClient, reference: &FunctionRef) -> Result<u64, Failure> {
    let alias = match &reference.target {
        Target::Version(number) => return Ok(*number),
        Target::Alias(alias) => alias,
    };
    let detail: FunctionDetail = admin.get(&format!("/v1/functions/{}", reference.function())).await?;
    detail.aliases.get(alias).map(|status| status.version).ok_or_else(|| {
        let message = format!("{} has no alias `{alias}`", reference.function());
        Failure::not_executed(ErrorCode::AliasNotFound, message)
    })
}

fn show(detail: &FunctionDetail) -> String {
    let mut text = format!("{}/{} ({})\n", detail.app, detail.name, detail.state.as_str());
    if let Some(newest) = detail.versions.first() {
        let manifest = &newest.manifest;
        let limits = &manifest.limits;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", manifest.description);
        let _ = writeln!(
            text,
            "limits: deadline {} ms, memory {}, payload {}, concurrency {} per node",
            limits.deadline_ms,
            bytesize::ByteSize::b(limits.memory_bytes),
            bytesize::ByteSize::b(limits.payload_bytes),
            limits.concurrency
        );
        let _ = writeln!(text, "scale: {}", scale(&manifest.scale));
    }
    for (alias, status) in &detail.aliases {
        let before: Vec<String> = status.before.iter().map(u64::to_string).collect();
        let before = if before.is_empty() { String::new() } else { format!(", before: {}", before.join(", ")) };
        let _ = writeln!(text, "alias {alias} -> {}{before}", status.version);
    }
    let _ = write!(text, "\n{}", version_table(&detail.versions));
    text
}

/// How many are kept ready and for how long, and the windows in which that differs.
fn scale(scale: &Scale) -> String {
    let idle = humantime::format_duration(Duration::from_millis(scale.idle_ms));
    let always = format!("warm {}, at most {} calls at a time per node, idle {idle}", scale.warm, scale.max);
    let windows = scale.schedule.iter().map(|window| format!("       {window}"));
    std::iter::once(always).chain(windows).collect::<Vec<_>>().join("\n")
}

fn version_table(versions: &[VersionSummary]) -> String {
    let rows = versions.iter().map(|version| {
        let aliases: Vec<&str> = version.aliases.iter().map(AliasName::as_str).collect();
        vec![
            version.number.to_string(),
            version.digest.to_string().chars().take(19).collect(),
            bytesize::ByteSize::b(version.size).to_string(),
            time(version.published_ms),
            version.author.clone(),
            aliases.join(" "),
            version.note.clone(),
        ]
    });
    table(&["VERSION", "DIGEST", "SIZE", "PUBLISHED", "BY", "ALIASES", "NOTE"], rows)
}

pub(super) async fn versions(common: &Common, reference: &FunctionRef) -> Result<(), Failure> {
    let admin = admin(common)?;
    let path = format!("/v1/functions/{}/versions", reference.function());
    let mut list: VersionList = admin.get(&path).await?;
    while let Some(before) = list.next.take() {
        let more: VersionList = admin.get(&format!("{path}?before={before}")).await?;
        list.versions.extend(more.versions);
        list.next = more.next;
    }
    emit(common.json, &list, || version_table(&list.versions))
}

/// The alias a reference names; a version is not one.
fn alias_of(reference: &FunctionRef) -> Result<&AliasName, Failure> {
    match &reference.target {
        Target::Alias(alias) => Ok(alias),
        Target::Version(_) => {
            let message = format!("`{reference}` names a version; name an alias, as in `app/name:alias`");
            Err(Failure::not_executed(ErrorCode::BadRequest, message))
        }
    }
}

pub(super) async fn alias(common: &Common, command: Alias) -> Result<(), Failure> {
    let Alias::Set { reference, number, expected } = command;
    let path = format!("/v1/functions/{}/aliases/{}", reference.function(), alias_of(&reference)?);
    let report: AliasReport = admin(common)?.put(&path, &AliasRequest { version: number, expected }).await?;
    emit(common.json, &report, || moved(&report))
}

pub(super) async fn rollback(common: &Common, reference: &FunctionRef, to: Option<u64>) -> Result<(), Failure> {
    let path = format!("/v1/functions/{}/aliases/{}/rollback", reference.function(), alias_of(reference)?);
    let report: AliasReport = admin(common)?.post(&path, &RollbackRequest { to }).await?;
    emit(common.json, &report, || moved(&report))
}

fn moved(report: &AliasReport) -> String {
    let before = report.before.map(|before| format!(" (was {before})")).unwrap_or_default();
    format!("{}/{}:{} -> {}{before} index={}", report.app, report.name, report.alias, report.version, report.index)
}
