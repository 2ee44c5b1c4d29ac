//! Finds a type's JSON schema by asking the type: an example is altered in every place, and what still parses is
//! what the schema allows. So a schema cannot say anything else than the code does.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

/// A type of the API with an example in which nothing is left out: options are set, lists and maps have an entry.
pub(crate) trait Example: Serialize + DeserializeOwned {
    /// The type's name in the document.
    const NAME: &'static str;

    /// The example.
    fn example() -> Self;
}

/// A named schema.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) schema: Value,
}

/// The schema of `T`.
pub(crate) fn shape<T: Example>() -> Shape {
    let example = serde_json::to_value(T::example()).unwrap_or_default();
    let probe = |value: &Value| -> Result<Value, String> {
        let parsed: T = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
        serde_json::to_value(parsed).map_err(|error| error.to_string())
    };
    let asker = Asker { example: &example, probe: &probe };
    let mut schema = asker.schema("");
    schema["examples"] = json!([example]);
    Shape { name: T::NAME, schema }
}

struct Asker<'a> {
    example: &'a Value,
    probe: &'a dyn Fn(&Value) -> Result<Value, String>,
}

/// A field that no type has.
const UNKNOWN: &str = "unknown";

impl Asker<'_> {
    /// What the type makes of the example with the value at `pointer` altered.
    fn ask(&self, pointer: &str, alter: impl FnOnce(&mut Value)) -> Result<Value, String> {
        let mut altered = self.example.clone();
        if let Some(value) = altered.pointer_mut(pointer) {
            alter(value);
        }
        (self.probe)(&altered)
    }

    fn schema(&self, pointer: &str) -> Value {
        let mut schema = match self.example.pointer(pointer) {
            Some(Value::Object(fields)) => self.object(pointer, fields),
            Some(Value::Array(items)) if items.is_empty() => json!({ "type": "array" }),
            Some(Value::Array(_)) => json!({ "type": "array", "items": self.schema(&format!("{pointer}/0")) }),
            Some(Value::String(_)) => self.string(pointer),
            Some(Value::Number(number)) if number.is_f64() => json!({ "type": "number" }),
            Some(Value::Number(_)) if self.ask(pointer, |value| *value = json!(-1)).is_err() => {
                json!({ "type": "integer", "minimum": 0 })
            }
            Some(Value::Number(_)) => json!({ "type": "integer" }),
            Some(Value::Bool(_)) => json!({ "type": "boolean" }),
            Some(Value::Null) | None => json!({}),
        };
        if !pointer.is_empty() && self.ask(pointer, |value| *value = Value::Null).is_ok() {
            if let Some(kind) = schema.get("type").cloned() {
                schema["type"] = json!([kind, "null"]);
            }
            if let Some(Value::Array(values)) = schema.get_mut("enum") {
                values.push(Value::Null);
            }
        }
        schema
    }

    fn object(&self, pointer: &str, fields: &Map<String, Value>) -> Value {
        let Some((first, entry)) = fields.iter().next() else { return json!({ "type": "object" }) };
        // A map keeps an entry it has never seen; a struct drops or refuses it.
        let with_unknown = self.ask(pointer, |value| value[UNKNOWN] = entry.clone());
        let kept = with_unknown.as_ref().ok().and_then(|value| value.pointer(pointer)?.get(UNKNOWN));
        if kept.is_some() {
            let values = self.schema(&format!("{pointer}/{first}"));
            return json!({ "type": "object", "additionalProperties": values });
        }
        let mut properties = Map::new();
        let mut required = Vec::new();
        for name in fields.keys() {
            properties.insert(name.clone(), self.schema(&format!("{pointer}/{name}")));
            let without = self.ask(pointer, |value| {
                if let Value::Object(fields) = value {
                    fields.remove(name);
                }
            });
            if without.is_err() {
                required.push(name.clone());
            }
        }
        let mut schema = json!({ "type": "object", "properties": properties });
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        if with_unknown.is_err() {
            schema["additionalProperties"] = json!(false);
        }
        schema
    }

    /// An enum names its variants when it is given none of them; that serde does so is held by a test.
    fn string(&self, pointer: &str) -> Value {
        let Err(refusal) = self.ask(pointer, |value| *value = json!("\u{1}")) else {
            return json!({ "type": "string" });
        };
        let variants = refusal.strip_prefix("unknown variant").and_then(|text| text.split_once("expected"));
        match variants {
            Some((_, expected)) => {
                let variants: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
                json!({ "type": "string", "enum": variants })
            }
            None => json!({ "type": "string" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Colour {
        Red,
        DarkBlue,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        name: String,
        #[serde(default)]
        note: String,
        colour: Option<Colour>,
        counts: BTreeMap<String, u8>,
        list: Vec<i8>,
        is_new: bool,
    }

    impl Example for Sample {
        const NAME: &'static str = "Sample";

        fn example() -> Self {
            Self {
                name: "n".to_owned(),
                note: "o".to_owned(),
                colour: Some(Colour::DarkBlue),
                counts: [("one".to_owned(), 1)].into(),
                list: vec![1],
                is_new: true,
            }
        }
    }

    #[test]
    fn a_schema_says_what_the_type_takes() {
        let mut schema = shape::<Sample>().schema;
        schema.as_object_mut().unwrap().remove("examples");
        let expected = json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["counts", "is_new", "list", "name"],
            "properties": {
                "name": { "type": "string" },
                "note": { "type": "string" },
                "colour": { "type": ["string", "null"], "enum": ["red", "dark-blue", null] },
                "counts": { "type": "object", "additionalProperties": { "type": "integer", "minimum": 0 } },
                "list": { "type": "array", "items": { "type": "integer" } },
                "is_new": { "type": "boolean" },
            },
        });
        assert_eq!(schema, expected);
    }
}
