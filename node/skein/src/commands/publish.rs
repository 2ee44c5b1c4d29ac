//! `skein publish`: a file or directory becomes a version that every live node serves.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use skein_client::Context;
use skein_gateway::api::{ArtifactStored, PublishReport, PublishRequest};
use skein_proto::{AliasName, Digest, ErrorCode, Failure};

use crate::{
    admin_client::AdminClient,
    cli::{Common, Publish},
    contexts::Contexts,
    function_toml::Source,
    output::{emit, say},
};

/// A publication as the commands ask for it.
pub(super) struct Publication {
    pub(super) source: Source,
    pub(super) alias: Option<AliasName>,
    pub(super) note: String,
    pub(super) wait: bool,
    pub(super) deadline: Duration,
}

pub(super) async fn publish(common: &Common, command: Publish) -> Result<(), Failure> {
    let mut source = Source::read(&command.path)?;
    if let Some(reference) = command.reference {
        source.manifest.app = reference.app;
        source.manifest.name = reference.name;
    }
    let publication = Publication {
        source,
        alias: (!command.no_alias).then_some(command.alias),
        note: command.note,
        wait: !command.no_wait,
        deadline: command.deadline,
    };
    let context = Contexts::of_user().load(common.context.as_deref())?;
    let report = send(context, publication).await?;
    if !report.pending.is_empty() && !command.no_wait {
        let pending: Vec<&str> = report.pending.iter().map(|node| node.as_str()).collect();
        say(format_args!("note: committed, but not served yet on {}; they go on by themselves", pending.join(", ")));
    }
    if report.copies_missing > 0 {
        let kept: Vec<&str> = report.holders.iter().map(|node| node.as_str()).collect();
        say(format_args!(
            "note: {} more node(s) should keep the code and did not take it, see their logs; it is on {}",
            report.copies_missing,
            kept.join(", ")
        ));
    }
    emit(common.json, &report, || line(&report))
}

/// `app/name@3 sha256:… index=N`.
pub(super) fn line(report: &PublishReport) -> String {
    format!("{}/{}@{} {} index={}", report.app, report.name, report.version, report.digest, report.index)
}

/// Puts the artifact, then makes it a version.
pub(super) async fn send(context: Context, publication: Publication) -> Result<PublishReport, Failure> {
    let Source { manifest, code } = publication.source;
    if code.is_empty() {
        return Err(Failure::not_executed(ErrorCode::BadModule, "the file is empty: not a WebAssembly module"));
    }
    let admin = AdminClient::new(context)?.timeout(publication.deadline + Duration::from_secs(2));
    let function = format!("{}/{}", manifest.app, manifest.name);
    let progress = spinner();
    let digest = Digest::of(&code);
    progress.set_message(format!("{function}: sending {}", bytesize::ByteSize::b(code.len() as u64)));
    let stored: ArtifactStored = admin.put_bytes(&format!("/v1/artifacts/{digest}"), &code).await?;
    progress.set_message(format!("{function}: publishing, compiling on every node"));
    let request = PublishRequest {
        manifest,
        digest: stored.digest,
        note: publication.note,
        alias: publication.alias,
        expected: None,
        wait: publication.wait,
    };
    let report = admin.post(&format!("/v1/functions/{function}/versions"), &request).await;
    progress.finish_and_clear();
    report
}

/// Shows on a terminal that something goes on; says nothing elsewhere.
fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
