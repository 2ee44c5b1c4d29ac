//! `skein key`: credentials for the entrances.

use skein_catalog::Role;
use skein_gateway::{
    api::{Done, KeyCreated, KeyList, KeyRequest},
    role_text,
};
use skein_proto::{AppName, Failure};

use super::admin;
use crate::{
    cli::{Common, Key, KeyRole},
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
            let done: Done = admin.delete(&format!("/v1/keys/{id}")).await?;
            say(format_args!("revoked {id}"));
            if common.json { emit(true, &done, String::new) } else { Ok(()) }
        }
    }
}
