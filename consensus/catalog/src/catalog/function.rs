//! Commands on functions: publish a version, delete, move an alias and move it back.

use std::{collections::BTreeMap, sync::Arc};

use skein_proto::{
    AliasName, AppName, ErrorCode, FunctionId, FunctionName, Limits, Manifest, NodeId, VersionId, codec::encode,
};

use super::Catalog;
use crate::{
    FunctionRecord, Outcome, VersionRecord,
    refusal::{Refusal, check_length, listed},
};

/// Where an alias is to point, and where it must point for that.
pub(super) struct Move {
    pub(super) to: u64,
    pub(super) expected: Option<u64>,
}

impl Catalog {
    /// Adds `version`, whose number is still to be given.
    pub(super) fn publish(
        &mut self,
        mut version: VersionRecord,
        alias: Option<&AliasName>,
        expected: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        check_version(&version)?;
        self.check_holders(&version)?;
        let Manifest { app, name, .. } = &version.manifest;
        let mut function = match self.function(app, name) {
            Some(function) => (**function).clone(),
            None if self.functions_by_id.size() >= FUNCTIONS_MAX => {
                let message = format!("there are {FUNCTIONS_MAX} functions, the most there may be; delete some");
                return Err(Refusal::conflict(message));
            }
            None => FunctionRecord {
                id: FunctionId(self.function_last + 1),
                app: app.clone(),
                name: name.clone(),
                versions: BTreeMap::new(),
                aliases: BTreeMap::new(),
            },
        };
        let newest = function.versions.last_key_value().map_or(0, |(number, _)| *number);
        if expected.is_some_and(|expected| expected != newest) {
            let message = match newest {
                0 => format!("{app}/{name} has no version yet"),
                _ => format!("the newest version of {app}/{name} is {newest}"),
            };
            return Err(Refusal::conflict(format!("{message}, not {} as expected", expected.unwrap_or_default())));
        }
        if function.versions.len() >= VERSIONS_MAX {
            let message = format!("{app}/{name} has {VERSIONS_MAX} versions, the most there may be");
            return Err(Refusal::conflict(message));
        }
        version.number = newest + 1;
        let id = VersionId { function: function.id, number: version.number };
        function.versions.insert(id.number, Arc::new(version));
        if let Some(alias) = alias {
            move_alias(&mut function, alias, id.number)?;
        }
        self.function_last = self.function_last.max(function.id.0);
        self.insert_function(function);
        Ok(Outcome::Published(id))
    }

    /// Whether those that took a copy belong to the mesh still: one may have been removed since it did, and then one broken
    /// disk must not lose what is left.
    fn check_holders(&self, version: &VersionRecord) -> Result<(), Refusal> {
        let (gone, kept): (Vec<NodeId>, Vec<NodeId>) =
            version.holders.iter().partition(|holder| self.was_removed(**holder));
        if gone.is_empty() || kept.len() > 1 {
            return Ok(());
        }
        let message = format!(
            "of the {} nodes that took a copy of the code, these were removed meanwhile: {}; publish again",
            version.holders.len(),
            listed(gone)
        );
        Err(Refusal::new(ErrorCode::Unavailable, message))
    }

    pub(super) fn insert_function(&mut self, function: FunctionRecord) {
        let function = Arc::new(function);
        let mut app = self.functions.get(&function.app).cloned().unwrap_or_default();
        app.insert_mut(function.name.clone(), function.clone());
        self.functions.insert_mut(function.app.clone(), app);
        self.functions_by_id.insert_mut(function.id, function);
    }

    pub(super) fn delete_function(&mut self, app: &AppName, name: &FunctionName) -> Result<Outcome, Refusal> {
        let id = self.existing_function(app, name)?.id;
        self.functions_by_id.remove_mut(&id);
        if let Some(mut siblings) = self.functions.get(app).cloned() {
            siblings.remove_mut(name);
            if siblings.is_empty() {
                self.functions.remove_mut(app);
            } else {
                self.functions.insert_mut(app.clone(), siblings);
            }
        }
        Ok(Outcome::Done)
    }

    pub(super) fn set_alias(
        &mut self,
        app: &AppName,
        name: &FunctionName,
        alias: &AliasName,
        wanted: Move,
    ) -> Result<Outcome, Refusal> {
        let mut function = (**self.existing_function(app, name)?).clone();
        function.existing_version(wanted.to)?;
        let before = function.alias(alias);
        if let Some(expected) = wanted.expected
            && expected != before.unwrap_or(0)
        {
            let now = before.map_or("is not set".into(), |before| format!("points at {before}"));
            let message = format!("{app}/{name}:{alias} {now}, not at {expected} as expected");
            return Err(Refusal::conflict(message));
        }
        move_alias(&mut function, alias, wanted.to)?;
        self.insert_function(function);
        Ok(Outcome::Alias { now: wanted.to, before })
    }

    pub(super) fn rollback(
        &mut self,
        app: &AppName,
        name: &FunctionName,
        alias: &AliasName,
        to: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        let mut function = (**self.existing_function(app, name)?).clone();
        let history = function.existing_alias(alias)?;
        let before = history.last().copied();
        let earlier = &history[..history.len().saturating_sub(1)];
        let now = match (to, earlier.last()) {
            (Some(to), _) => to,
            (None, Some(previous)) => *previous,
            (None, None) => {
                let versions = listed(function.versions.keys().rev());
                let message = format!(
                    "{app}/{name}:{alias} has no earlier move to go back on: a rollback forgets the moves that it takes \
                     back; name a version to return to: {versions}"
                );
                return Err(Refusal::conflict(message));
            }
        };
        function.existing_version(now)?;
        // What came after the version returned to is undone with it, so that the next rollback goes further back and
        // not forward again.
        if let Some(position) = earlier.iter().rposition(|version| *version == now)
            && before != Some(now)
        {
            let kept = earlier[..=position].to_vec();
            function.aliases.insert(alias.clone(), kept);
        } else {
            move_alias(&mut function, alias, now)?;
        }
        self.insert_function(function);
        Ok(Outcome::Alias { now, before })
    }

    fn existing_function(&self, app: &AppName, name: &FunctionName) -> Result<&Arc<FunctionRecord>, Refusal> {
        self.function(app, name)
            .ok_or_else(|| Refusal::new(ErrorCode::FunctionNotFound, self.unknown_function(app, name)))
    }

    /// Says that there is no such function, and what there is.
    pub(crate) fn unknown_function(&self, app: &AppName, name: &FunctionName) -> String {
        match self.functions.get(app) {
            Some(siblings) => format!("no function {app}/{name}; app {app} has: {}", listed(siblings.keys())),
            None => format!("no function {app}/{name}: app {app} has none; apps: {}", listed(self.functions.keys())),
        }
    }
}

impl FunctionRecord {
    /// The version that `alias` points at now.
    pub fn alias(&self, alias: &AliasName) -> Option<u64> {
        self.aliases.get(alias)?.last().copied()
    }

    /// The newest version.
    pub fn newest(&self) -> Option<&Arc<VersionRecord>> {
        self.versions.last_key_value().map(|(_, version)| version)
    }

    pub(crate) fn existing_version(&self, number: u64) -> Result<&Arc<VersionRecord>, Refusal> {
        self.versions.get(&number).ok_or_else(|| {
            let known = listed(self.versions.keys().rev());
            let message = format!("{}/{} has no version {number}; versions: {known}", self.app, self.name);
            Refusal::new(ErrorCode::VersionNotFound, message)
        })
    }

    pub(crate) fn existing_alias(&self, alias: &AliasName) -> Result<&Vec<u64>, Refusal> {
        self.aliases.get(alias).ok_or_else(|| {
            let known = listed(self.aliases.keys());
            let message = format!("{}/{} has no alias {alias}; aliases: {known}", self.app, self.name);
            Refusal::new(ErrorCode::AliasNotFound, message)
        })
    }
}

fn check_version(version: &VersionRecord) -> Result<(), Refusal> {
    version.manifest.limits.check().map_err(|message| Refusal::new(ErrorCode::BadManifest, message))?;
    let manifest_bytes = encode(&version.manifest).map_or(usize::MAX, |bytes| bytes.len());
    if manifest_bytes > MANIFEST_BYTES_MAX {
        let message = format!("the manifest has {manifest_bytes} bytes; at most {MANIFEST_BYTES_MAX} are kept");
        return Err(Refusal::new(ErrorCode::TooLarge, message));
    }
    check_length("note", &version.note, NOTE_BYTES_MAX)?;
    check_length("author", &version.author, AUTHOR_BYTES_MAX)?;
    if version.size > Limits::ARTIFACT_BYTES_MAX {
        let message = format!("the artifact has {} bytes; at most {} may be", version.size, Limits::ARTIFACT_BYTES_MAX);
        return Err(Refusal::new(ErrorCode::TooLarge, message));
    }
    match version.holders.len() {
        0 => Err(Refusal::new(ErrorCode::ArtifactUnavailable, format!("no node holds {}", version.digest))),
        1..=HOLDERS_MAX => Ok(()),
        more => Err(Refusal::bad_request(format!("{more} holders are named; at most {HOLDERS_MAX} may be"))),
    }
}

/// Points `alias` at `to`, a version that exists.
fn move_alias(function: &mut FunctionRecord, alias: &AliasName, to: u64) -> Result<(), Refusal> {
    if !function.aliases.contains_key(alias) && function.aliases.len() >= ALIASES_MAX {
        let message = format!("{}/{} has {ALIASES_MAX} aliases, the most there may be", function.app, function.name);
        return Err(Refusal::conflict(message));
    }
    let history = function.aliases.entry(alias.clone()).or_default();
    if history.last() != Some(&to) {
        history.push(to);
        let excess = history.len().saturating_sub(ALIAS_HISTORY_MAX);
        history.drain(..excess);
    }
    Ok(())
}

/// Most functions; the catalogue is in every node's memory, about 1 kB a version.
const FUNCTIONS_MAX: usize = 100_000;
/// Most versions of a function; the list is copied with each publication.
const VERSIONS_MAX: usize = 10_000;
/// Most aliases of a function.
const ALIASES_MAX: usize = 64;
/// Versions that an alias is known to have pointed at, the present one among them: one move less can be taken back.
pub(super) const ALIAS_HISTORY_MAX: usize = 16;
/// Largest manifest, encoded: it travels through the log.
const MANIFEST_BYTES_MAX: usize = 256 << 10;
/// Longest remark of a publisher, in bytes.
const NOTE_BYTES_MAX: usize = 4_096;
/// Longest author, in bytes: a key's id.
const AUTHOR_BYTES_MAX: usize = 256;
/// Most holders named with a publication; three are usual.
const HOLDERS_MAX: usize = 64;
