//! `skein key`: credentials for the entrances.

use skein_catalog::Role;
use skein_gateway::{
    api::{Done, KeyCreated, KeyList, KeyRequest, KeySummary},
    key_id, role_text,
};
use skein_proto::{AppName, Failure, NodeName};

use super::admin;
use crate::{
    admin_client::AdminClient,
    cli::{Common, Key, KeyRole},
    contexts::Contexts,
    node::key_note,
    output::{emit, say, table, time},
};

impl From<KeyRole> for Role {
    fn from(role: KeyRole) -> Self {
        match role {
            KeyRole::Invoke => Self::Invoke,
            KeyRole::Read => Self::Read,
            KeyRole::Publish => Self::Publish,
            KeyRole::Admin => Self::Admin,
        }
    }
}

pub(super) async fn key(common: &Common, command: Key) -> Result<(), Failure> {
    let admin = admin(common)?;
    match command {
        Key::Create { role, app, ttl, note } => {
            let ttl_ms = ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
            let request = KeyRequest { role: role.into(), app, note, ttl_ms };
            let created: KeyCreated = admin.post("/v1/keys", &request).await?;
            say(format_args!("key {} ({}); it is shown this once only", created.id, role_text(created.role)));
            emit(common.json, &created, || created.key.clone())
        }
        Key::Ls => {
            let list: KeyList = admin.get("/v1/keys").await?;
            emit(common.json, &list, || {
                let app = |app: &Option<AppName>| app.as_ref().map_or("*".to_owned(), AppName::to_string);
                let rows = list.keys.iter().map(|key| {
                    let ends = key.expires_ms.map_or("never".to_owned(), time);
                    vec![key.id.clone(), role_text(key.role).to_owned(), app(&key.app), ends, key.note.clone()]
                });
                table(&["ID", "ROLE", "APP", "EXPIRES", "NOTE"], rows)
            })
        }
        Key::Revoke { id } => {
            let keys = Keys::look(&admin).await;
            let done: Done = admin.delete(&format!("/v1/keys/{id}")).await?;
            say(format_args!("revoked {id}"));
            if key_id(&admin.context().key) == Some(&*id) {
                keys.warn(common, &admin, "is the one that was revoked");
            }
            if common.json { emit(true, &done, String::new) } else { Ok(()) }
        }
    }
}

/// The keys as they were before one of them was taken back: after it, who showed that one is told nothing any more.
pub(super) struct Keys(Vec<KeySummary>);

impl Keys {
    /// Nothing depends on them but a word of warning: what cannot be had is none.
    pub(super) async fn look(admin: &AdminClient) -> Self {
        let listed: Result<KeyList, Failure> = admin.get("/v1/keys").await;
        Self(listed.map(|list| list.keys).unwrap_or_default())
    }

    /// Whether the key that is shown here is a node's own, which is revoked with it.
    pub(super) fn is_of(&self, admin: &AdminClient, name: &NodeName) -> bool {
        let (shown, note) = (key_id(&admin.context().key), key_note(name));
        self.0.iter().any(|key| key.note == note && Some(&*key.id) == shown)
    }

    /// Says that the key that was shown is worthless from now on, and which one to take.
    pub(super) fn warn(&self, common: &Common, admin: &AdminClient, why: impl std::fmt::Display) {
        let is_good = |text: &str| self.0.iter().any(|key| Some(&*key.id) == key_id(text) && !key.is_expired);
        let (which, next) = match &common.context {
            // Which one is current makes no difference then.
            Some(file) => (format!("the key in {}", file.display()), None),
            None => {
                let others = Contexts::of_user().with_another_key(admin.context(), is_good);
                ("the key of the current context".to_owned(), others.into_iter().next())
            }
        };
        let next = next.map_or_else(
            || "name another node's context file, by `--context FILE` or SKEIN_CONTEXT".to_owned(),
            |other| format!("`skein context use {other}` takes another one"),
        );
        say(format_args!("warning: {which} {why}: {next}"));
    }
}
