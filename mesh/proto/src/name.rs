//! Names that people give: of apps, functions, aliases and nodes.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not what it should be: a name, a reference, a digest, an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {what}: {reason}")]
pub struct ParseError {
    what: &'static str,
    text: String,
    reason: &'static str,
}

impl ParseError {
    pub(crate) fn new(what: &'static str, text: &str, reason: &'static str) -> Self {
        // A refused text may be a whole request body: what is repeated back stays short.
        Self { what, text: text.chars().take(80).collect(), reason }
    }
}

/// Longest name in bytes: a DNS label, so that names can become host names.
const NAME_BYTES_MAX: usize = 63;
const NAME_RULE: &str = "use a lower-case letter, then up to 62 lower-case letters, digits or `-`";

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && text.len() <= NAME_BYTES_MAX
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                if is_name(text) { Ok(Self(text.into())) } else { Err(ParseError::new($what, text, NAME_RULE)) }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// Owner of functions, quota and grants.
    AppName, "app name");
name!(
    /// A function within its app.
    FunctionName, "function name");
name!(
    /// A movable name for a version of a function.
    AliasName, "alias name");
name!(
    /// A node, as people call it; unique among the members of a mesh.
    NodeName, "node name");

impl Default for AppName {
    /// `default`, the app of a reference that names none.
    fn default() -> Self {
        Self("default".into())
    }
}

impl Default for AliasName {
    /// `live`, the alias of a reference that names neither version nor alias.
    fn default() -> Self {
        Self("live".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels_that_start_with_a_letter() {
        let longest = "a".repeat(63);
        for text in ["a", "price", "a-1", longest.as_str()] {
            assert!(text.parse::<AppName>().is_ok(), "{text}");
        }
        let too_long = "a".repeat(64);
        for text in ["", "1a", "-a", "A", "a_b", "a/b", "ä", too_long.as_str()] {
            assert!(text.parse::<AppName>().is_err(), "{text}");
        }
    }
}
