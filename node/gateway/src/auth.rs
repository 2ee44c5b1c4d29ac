//! Who a key stands for and what it allows. Pure: takes the catalogue and the time, keeps nothing.
//!
//! A key's text is `sk_<id>_<secret>`, the secret as 64 hex digits; the catalogue keeps only its SHA-256. The secret is
//! 32 random bytes, so a plain hash is enough: there is nothing to guess.

use data_encoding::HEXLOWER;
use skein_catalog::{Catalog, Role};
use skein_proto::{AppName, Digest, ErrorCode, Failure};
use subtle::ConstantTimeEq;

/// Whom a key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyIdentity {
    /// The key's id.
    pub id: String,
    /// What it allows.
    pub role: Role,
    /// The app it is good for; none for all.
    pub app: Option<AppName>,
}

impl KeyIdentity {
    /// Whether it allows what `needed` allows, in `app`; none stands for the mesh as a whole, which a key of one app
    /// never reaches.
    ///
    /// # Errors
    /// `forbidden`, `not-executed`.
    pub fn allow(&self, needed: Role, app: Option<&AppName>) -> Result<(), Failure> {
        if self.role < needed {
            let (has, needs) = (role_text(self.role), role_text(needed));
            return Err(forbidden(format!("key `{}` has role `{has}`, and this needs `{needs}`", self.id)));
        }
        match (&self.app, app) {
            (None, _) => Ok(()),
            (Some(own), Some(app)) if own == app => Ok(()),
            (Some(own), Some(app)) => {
                Err(forbidden(format!("key `{}` is good for app `{own}`, not for `{app}`", self.id)))
            }
            (Some(own), None) => {
                Err(forbidden(format!("key `{}` is good for app `{own}`, not for the whole mesh", self.id)))
            }
        }
    }
}

/// The identity behind a key's text, whatever it is allowed.
///
/// # Errors
/// `unauthenticated`, `not-executed`, for a text that is no key, and for an unknown, revoked or expired one.
pub fn identify(catalog: &Catalog, key_text: &str, now_ms: u64) -> Result<KeyIdentity, Failure> {
    let (id, secret) = parse(key_text).ok_or_else(|| unauthenticated("that is not a key: `sk_ID_SECRET`"))?;
    let hash = Digest::of(&secret);
    let record = catalog.key(id);
    // An unknown id is compared too, against nothing that can match, so that time tells nothing about ids.
    let kept = record.map_or([0; 32], |record| *record.hash.as_bytes());
    let is_equal = bool::from(hash.as_bytes().ct_eq(&kept));
    let Some(record) = record.filter(|_| is_equal) else {
        return Err(unauthenticated("the key is unknown or was revoked"));
    };
    if record.expires_ms.is_some_and(|expires| expires <= now_ms) {
        return Err(unauthenticated("the key has expired"));
    }
    Ok(KeyIdentity { id: id.to_owned(), role: record.role, app: record.app.clone() })
}

/// The identity behind a key's text, if it allows what `needed` allows in `app` (none: in the mesh as a whole).
///
/// # Errors
/// As [`identify`] and [`KeyIdentity::allow`].
pub fn authorize(
    catalog: &Catalog,
    key_text: &str,
    needed: Role,
    app: Option<&AppName>,
    now_ms: u64,
) -> Result<KeyIdentity, Failure> {
    let identity = identify(catalog, key_text, now_ms)?;
    identity.allow(needed, app)?;
    Ok(identity)
}

/// A new key.
pub struct MintedKey {
    /// Its id, for the catalogue and for listings.
    pub id: String,
    /// Its text, to be shown once.
    pub text: String,
    /// What the catalogue keeps of the secret.
    pub hash: Digest,
}

/// The key made of an id and a secret, both random bytes the caller drew.
pub fn mint(id: [u8; 6], secret: [u8; 32]) -> MintedKey {
    let id = HEXLOWER.encode(&id);
    let text = format!("sk_{id}_{}", HEXLOWER.encode(&secret));
    MintedKey { id, text, hash: Digest::of(&secret) }
}

/// The id in a key's text: by it `skein key ls` names it.
pub fn key_id(text: &str) -> Option<&str> {
    parse(text).map(|(id, _)| id)
}

/// The stable text of a role.
pub fn role_text(role: Role) -> &'static str {
    match role {
        Role::Invoke => "invoke",
        Role::Read => "read",
        Role::Publish => "publish",
        Role::Admin => "admin",
    }
}

/// Longest id looked up: what is longer is no key of ours.
const ID_BYTES_MAX: usize = 64;

fn parse(text: &str) -> Option<(&str, [u8; 32])> {
    let (id, hex) = text.strip_prefix("sk_")?.rsplit_once('_')?;
    let secret = HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok()?;
    (1..=ID_BYTES_MAX).contains(&id.len()).then_some((id, secret))
}

fn unauthenticated(message: &str) -> Failure {
    Failure::not_executed(ErrorCode::Unauthenticated, message)
}

fn forbidden(message: String) -> Failure {
    Failure::not_executed(ErrorCode::Forbidden, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use skein_catalog::{Command, KeyRecord, Proposal, RequestId};
    use uuid::Uuid;

    use super::*;

    const END_MS: u64 = 5_000;

    fn catalog(key: &MintedKey, role: Role, app: Option<&str>) -> Catalog {
        let app = app.map(|app| app.parse().unwrap());
        let record =
            KeyRecord { hash: key.hash, role, app, note: String::new(), created_ms: 0, expires_ms: Some(END_MS) };
        let command = Command::CreateKey { id: key.id.clone(), key: record };
        let mut catalog = Catalog::default();
        catalog.apply(1, &Proposal { request: RequestId(Uuid::nil()), at_ms: 0, command });
        catalog
    }

    fn check(catalog: &Catalog, text: &str, now_ms: u64, expected: &str) {
        let app: AppName = "shop".parse().unwrap();
        let shown = match authorize(catalog, text, Role::Read, Some(&app), now_ms) {
            Ok(identity) => identity.id,
            Err(failure) => format!("{}: {}", failure.code, failure.message),
        };
        assert!(shown.starts_with(expected), "{text}: {shown}");
    }

    #[test]
    fn a_minted_key_is_good_until_its_end() {
        let key = mint([1; 6], [2; 32]);
        assert_eq!(key.text, format!("sk_010101010101_{}", "02".repeat(32)));
        assert_eq!((key_id(&key.text), key_id("sk_010101010101_")), (Some(&*key.id), None));
        let catalog = catalog(&key, Role::Read, None);
        check(&catalog, &key.text, END_MS - 1, "010101010101");
        check(&catalog, &key.text, END_MS, "unauthenticated: the key has expired");
        check(&catalog, &mint([1; 6], [3; 32]).text, 0, "unauthenticated: the key is unknown");
        check(&catalog, &mint([3; 6], [2; 32]).text, 0, "unauthenticated: the key is unknown");
        // An expired key with the wrong secret is not told that it was ever good.
        check(&catalog, &mint([1; 6], [3; 32]).text, END_MS, "unauthenticated: the key is unknown");
    }

    #[test]
    fn role_and_app_must_both_allow_it() {
        let key = mint([1; 6], [2; 32]);
        check(&catalog(&key, Role::Admin, Some("shop")), &key.text, 0, "010101010101");
        check(&catalog(&key, Role::Admin, Some("blog")), &key.text, 0, "forbidden: key `010101010101` is good for app");
        check(&catalog(&key, Role::Invoke, Some("shop")), &key.text, 0, "forbidden: key `010101010101` has role");
        let scoped = catalog(&key, Role::Admin, Some("shop"));
        assert_eq!(authorize(&scoped, &key.text, Role::Invoke, None, 0).unwrap_err().code, ErrorCode::Forbidden);
    }

    #[test]
    fn roles_include_the_ones_below() {
        let roles = [Role::Invoke, Role::Read, Role::Publish, Role::Admin];
        for (has, own) in roles.into_iter().enumerate() {
            for (needs, needed) in roles.into_iter().enumerate() {
                let identity = KeyIdentity { id: String::new(), role: own, app: None };
                assert_eq!(identity.allow(needed, None).is_ok(), has >= needs);
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_no_key(text in "(sk_)?[0-9a-f_]{0,80}|\\PC{0,40}") {
            let catalog = catalog(&mint([1; 6], [2; 32]), Role::Admin, None);
            prop_assert_eq!(identify(&catalog, &text, 0).unwrap_err().code, ErrorCode::Unauthenticated);
        }
    }
}
