//! Which functions a query means. Pure.

use skein_proto::AliasName;

use crate::api::{FunctionState, FunctionSummary};

/// Most words looked at: each is held against every function.
const WORDS_MAX: usize = 16;

/// A query, taken apart once for all functions.
pub(super) struct Query {
    words: Vec<Word>,
}

struct Word {
    field: Option<Field>,
    text: String,
}

#[derive(Clone, Copy)]
enum Field {
    App,
    Name,
    Category,
    Tag,
    Description,
    State,
    Author,
    Alias,
}

impl Query {
    /// Takes any text; a prefix that names no field is part of its word.
    pub(super) fn new(text: &str) -> Self {
        let words = text.split_whitespace().take(WORDS_MAX).map(|word| {
            let word = word.to_lowercase();
            match word.split_once(':').and_then(|(field, text)| Some((field_of(field)?, text))) {
                Some((field, text)) => Word { field: Some(field), text: text.to_owned() },
                None => Word { field: None, text: word },
            }
        });
        Self { words: words.collect() }
    }

    /// Whether every word matches.
    pub(super) fn matches(&self, function: &FunctionSummary) -> bool {
        self.words.iter().all(|word| match word.field {
            Some(field) => word.matches(field, function),
            None => [Field::App, Field::Name, Field::Category, Field::Tag, Field::Description, Field::State]
                .into_iter()
                .any(|field| word.matches(field, function)),
        })
    }
}

impl Word {
    fn matches(&self, field: Field, function: &FunctionSummary) -> bool {
        let has = |text: &str| text.to_lowercase().contains(&self.text);
        match field {
            // A word with a field is exact where the field is a name; without one, a part of it is enough.
            Field::App if self.field.is_some() => function.app.as_str() == self.text,
            Field::App => has(function.app.as_str()),
            Field::Name => has(function.name.as_str()),
            Field::Category => has(&function.category),
            Field::Tag => function.tags.iter().any(|tag| has(tag)),
            Field::Description => has(&function.description),
            Field::State => function.state.as_str() == self.text,
            Field::Author => function.author.to_lowercase() == self.text,
            Field::Alias => function.aliases.keys().any(|alias: &AliasName| alias.as_str() == self.text),
        }
    }
}

fn field_of(text: &str) -> Option<Field> {
    Some(match text {
        "app" => Field::App,
        "name" => Field::Name,
        "category" => Field::Category,
        "tag" => Field::Tag,
        "description" => Field::Description,
        "state" => Field::State,
        "author" => Field::Author,
        "alias" => Field::Alias,
        _ => return None,
    })
}

/// Whether callers that name no version reach a function with these aliases.
pub(super) fn state<'a>(mut aliases: impl Iterator<Item = &'a AliasName>) -> FunctionState {
    let live = AliasName::default();
    if aliases.any(|alias| *alias == live) { FunctionState::Live } else { FunctionState::Staged }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expected: bool) {
        let function = FunctionSummary {
            app: "shop".parse().unwrap(),
            name: "price".parse().unwrap(),
            state: FunctionState::Live,
            latest: 3,
            versions: 3,
            aliases: [("live".parse().unwrap(), 2), ("canary".parse().unwrap(), 3)].into(),
            description: "Prices a Cart".to_owned(),
            category: "pricing".to_owned(),
            tags: vec!["checkout".to_owned()],
            author: "0a1b".to_owned(),
            published_ms: 0,
        };
        assert_eq!(Query::new(query).matches(&function), expected, "{query}");
    }

    #[test]
    fn every_word_must_match_somewhere() {
        check("", true);
        check("SHOP cart", true);
        check("shop nothing", false);
        check("live", true);
        check("liv", false);
        check("chec", true);
        check("0a1b", false);
    }

    #[test]
    fn a_word_with_a_field_looks_only_there() {
        check("app:shop name:pri tag:checkout state:live category:pric description:cart", true);
        check("app:sho", false);
        check("name:shop", false);
        check("state:staged", false);
        check("author:0a1b alias:canary", true);
        check("alias:beta", false);
        check("unknown:shop", false);
    }
}
