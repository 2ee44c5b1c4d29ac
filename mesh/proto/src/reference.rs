//! `[app/]name[@version|:alias]`, the way a caller names a function.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{AliasName, AppName, FunctionName, ParseError};

/// What a caller asks for, before the catalogue has turned it into a version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionRef {
    /// The app; `default` unless named.
    pub app: AppName,
    /// The function.
    pub name: FunctionName,
    /// Which version of it.
    pub target: Target,
}

/// Which version of a function is meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// The version an alias points at when the call is resolved.
    Alias(AliasName),
    /// This one, counted from 1.
    Version(u64),
}

impl FunctionRef {
    /// The function itself, at the default alias.
    pub fn live(app: AppName, name: FunctionName) -> Self {
        Self { app, name, target: Target::Alias(AliasName::default()) }
    }

    /// `app/name`, whatever version is meant.
    pub fn function(&self) -> String {
        format!("{}/{}", self.app, self.name)
    }
}

impl FromStr for FunctionRef {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (app, rest) = match text.split_once('/') {
            Some((app, rest)) => (app.parse()?, rest),
            None => (AppName::default(), text),
        };
        let (name, target) = if let Some((name, version)) = rest.split_once('@') {
            let number = version.parse().ok().filter(|number| *number > 0);
            let reason = "a version is a whole number from 1, as in `app/name@3`";
            (name, Target::Version(number.ok_or_else(|| ParseError::new("version", version, reason))?))
        } else if let Some((name, alias)) = rest.split_once(':') {
            (name, Target::Alias(alias.parse()?))
        } else {
            (rest, Target::Alias(AliasName::default()))
        };
        Ok(Self { app, name: name.parse()?, target })
    }
}

impl fmt::Display for FunctionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.app, self.name, self.target)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alias(alias) => write!(f, ":{alias}"),
            Self::Version(number) => write!(f, "@{number}"),
        }
    }
}

impl Serialize for FunctionRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FunctionRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &str) {
        let shown = match text.parse::<FunctionRef>() {
            Ok(reference) => reference.to_string(),
            Err(error) => error.to_string(),
        };
        assert!(shown.contains(expected), "{text}: {shown}");
    }

    #[test]
    fn defaults_are_filled_in() {
        check("price", "default/price:live");
        check("shop/price", "shop/price:live");
        check("shop/price@3", "shop/price@3");
        check("price:canary", "default/price:canary");
    }

    #[test]
    fn bad_references_say_which_part_is_wrong() {
        check("shop/price@0", "valid version");
        check("shop/price@x", "valid version");
        check("shop/", "valid function name");
        check("/price", "valid app name");
        check("price:", "valid alias name");
        check("a/b/c", "valid function name");
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused_and_what_parses_round_trips(text in "\\PC{0,80}") {
            if let Ok(reference) = text.parse::<FunctionRef>() {
                prop_assert_eq!(reference.to_string().parse::<FunctionRef>().unwrap(), reference);
            }
        }
    }
}
