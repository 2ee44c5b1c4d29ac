//! `function.toml`: the text form of a version's settings, and what a path to publish means.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bytesize::ByteSize;
use serde::Deserialize;
use skein_proto::{
    Abi, AppName, Between, Day, ErrorCode, Failure, FunctionName, Grants, InstancePolicy, Limits, Manifest, Scale,
    Snapshot, Window,
};

use crate::{data_dir::io_failure, script};

/// Something to publish or run: its settings and its code.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) manifest: Manifest,
    pub(crate) code: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    name: FunctionName,
    #[serde(default)]
    app: AppName,
    #[serde(default)]
    description: String,
    #[serde(default)]
    category: String,
    #[serde(default)]
    tags: Vec<String>,
    code: Option<PathBuf>,
    main: Option<String>,
    #[serde(default)]
    abi: Abi,
    #[serde(default)]
    instance: InstancePolicy,
    entry: Option<String>,
    #[serde(default)]
    snapshot: Snapshot,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    grants: GrantsTable,
    #[serde(default)]
    scale: ScaleTable,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    deadline: Option<String>,
    memory: Option<ByteSize>,
    concurrency: Option<u32>,
    payload: Option<ByteSize>,
    log: Option<ByteSize>,
    cpu: Option<String>,
    table: Option<u32>,
    stack: Option<ByteSize>,
    outbound: Option<u32>,
    handles: Option<u32>,
    scratch: Option<ByteSize>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantsTable {
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    invoke: Vec<String>,
    #[serde(default)]
    http: Vec<String>,
    #[serde(default)]
    scratch: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScaleTable {
    warm: Option<u32>,
    max: Option<u32>,
    idle: Option<String>,
    #[serde(default)]
    schedule: Vec<WindowTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WindowTable {
    #[serde(default)]
    days: Vec<Day>,
    between: Between,
    warm: u32,
}

/// Keys that the interface has and this release does not act on: refused by name, never silently ignored.
const LATER: &[&str] = &["schema", "kv", "queue"];
const KNOWN: &[&str] = &[
    "name",
    "app",
    "description",
    "category",
    "tags",
    "code",
    "main",
    "abi",
    "instance",
    "entry",
    "snapshot",
    "args",
    "limits",
    "grants",
    "scale",
    "deadline",
    "memory",
    "concurrency",
    "payload",
    "log",
    "cpu",
    "table",
    "stack",
    "outbound",
    "handles",
    "scratch",
    "env",
    "invoke",
    "http",
    "idle",
    "warm",
    "max",
    "schedule",
    "days",
    "between",
];

impl Source {
    /// Reads what `path` names: a `.wasm`, `.wat` or JavaScript file, or a directory with `function.toml`.
    ///
    /// # Errors
    /// `not-found`, `bad-manifest` with the place in the file, `bad-module` for a `.wat` that does not assemble,
    /// `bad-request` for anything else that a path may be.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let metadata = fs::metadata(path).map_err(|error| io_failure("find", path, &error))?;
        if metadata.is_dir() { Self::read_dir(path) } else { Self::read_file(path) }
    }

    fn read_dir(path: &Path) -> Result<Self, Failure> {
        let file = path.join("function.toml");
        let text = fs::read_to_string(&file).map_err(|error| io_failure("read", &file, &error))?;
        let (manifest, code) = parse(&text).map_err(|message| {
            Failure::not_executed(ErrorCode::BadManifest, format!("{}: {message}", file.display()))
        })?;
        let code = match code {
            Code::Module(code) => read_code(&path.join(code))?,
            Code::Script(main) => script::from_dir(path, &main)?,
        };
        Ok(Self { manifest, code })
    }

    fn read_file(path: &Path) -> Result<Self, Failure> {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let name = stem.to_ascii_lowercase().replace(['_', '.', ' '], "-");
        let name = name.parse().unwrap_or_else(|_| FunctionName::clone(&fallback_name()));
        let mut manifest = Manifest::named(AppName::default(), name);
        let code = read_code(path)?;
        if script::is_script(path) {
            manifest.abi = Abi::Script;
            manifest.entry = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
            script::check(&code, path)?;
        }
        Ok(Self { manifest, code })
    }
}

/// For a file whose name is no function name; `--as REF` says a better one.
fn fallback_name() -> FunctionName {
    "function".parse().expect("a letter and letters are a name")
}

fn read_code(path: &Path) -> Result<Vec<u8>, Failure> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let size = fs::metadata(path).map_err(|error| io_failure("find", path, &error))?.len();
    if size > Limits::ARTIFACT_BYTES_MAX {
        let most = ByteSize::b(Limits::ARTIFACT_BYTES_MAX);
        let message = format!("{} has {}; the largest artifact is {most}", path.display(), ByteSize::b(size));
        return Err(Failure::not_executed(ErrorCode::TooLarge, message));
    }
    let bytes = fs::read(path).map_err(|error| io_failure("read", path, &error))?;
    match extension {
        "wat" => wat::parse_bytes(&bytes).map(|code| code.into_owned()).map_err(|error| {
            Failure::not_executed(ErrorCode::BadModule, format!("{} does not assemble: {error}", path.display()))
        }),
        "ts" | "tsx" | "jsx" => Err(Failure::not_executed(
            ErrorCode::BadModule,
            format!(
                "{} is no plain JavaScript: compile it first, as with `esbuild --bundle --format=esm`",
                path.display()
            ),
        )),
        _ => Ok(bytes),
    }
}

/// What `function.toml` names as its code.
#[derive(Debug)]
enum Code {
    /// The file of a module.
    Module(PathBuf),
    /// The file that a script begins with.
    Script(String),
}

impl Code {
    fn of(document: &mut Document) -> Result<Self, String> {
        match (document.code.take(), document.main.take(), document.abi) {
            (Some(_), None, Abi::Script) => {
                Err("abi is `script`, whose file is named by `main`: write `main = \"index.js\"`".to_owned())
            }
            (Some(code), None, _) => Ok(Self::Module(code)),
            (None, Some(_), _) if document.entry.is_some() => {
                Err("a script begins with its `main`; remove `entry`".to_owned())
            }
            (None, Some(main), Abi::Auto | Abi::Script) => {
                document.abi = Abi::Script;
                let main = main.strip_prefix("./").unwrap_or(&main).to_owned();
                document.entry = Some(main.clone());
                Ok(Self::Script(main))
            }
            (None, Some(_), _) => Err("`main` names a script; remove `abi`".to_owned()),
            (Some(_), Some(_), _) => {
                Err("there are `code` and `main`; a function is one of a module and a script".to_owned())
            }
            (None, None, _) => {
                Err("what the function is must be named: `code = \"x.wasm\"`, or `main = \"index.js\"`".to_owned())
            }
        }
    }
}

/// The settings in `text`, and the code they name.
fn parse(text: &str) -> Result<(Manifest, Code), String> {
    let mut document: Document = toml::from_str(text).map_err(|error| explain(&error))?;
    let code = Code::of(&mut document)?;
    let limits = document.limits.limits()?;
    let scale = document.scale.scale()?;
    let GrantsTable { env, invoke, http, scratch } = document.grants;
    let manifest = Manifest {
        app: document.app,
        name: document.name,
        description: document.description,
        category: document.category,
        tags: document.tags,
        abi: document.abi,
        instance: document.instance,
        args: document.args,
        entry: document.entry,
        snapshot: document.snapshot,
        limits,
        grants: Grants { env, invoke, http, scratch },
        scale,
    };
    manifest.check()?;
    Ok((manifest, code))
}

impl ScaleTable {
    /// The scale, with the defaults of what is not said; not checked.
    fn scale(self) -> Result<Scale, String> {
        let defaults = Scale::default();
        let window = |WindowTable { days, between, warm }| Window { days, between, warm };
        Ok(Scale {
            warm: self.warm.unwrap_or(defaults.warm),
            max: self.max.unwrap_or(defaults.max),
            idle_ms: millis("scale.idle", self.idle, defaults.idle_ms)?,
            schedule: self.schedule.into_iter().map(window).collect(),
        })
    }
}

impl LimitsTable {
    /// The limits, with the defaults of what is not said; not checked.
    fn limits(self) -> Result<Limits, String> {
        let defaults = Limits::default();
        let bytes = |size: Option<ByteSize>, default: u64| size.map_or(default, |size| size.as_u64());
        Ok(Limits {
            deadline_ms: millis("limits.deadline", self.deadline, defaults.deadline_ms)?,
            memory_bytes: bytes(self.memory, defaults.memory_bytes),
            concurrency: self.concurrency.unwrap_or(defaults.concurrency),
            payload_bytes: bytes(self.payload, defaults.payload_bytes),
            log_bytes: bytes(self.log, defaults.log_bytes),
            cpu_ms: millis("limits.cpu", self.cpu, defaults.cpu_ms)?,
            table_elements: self.table.unwrap_or(defaults.table_elements),
            stack_bytes: bytes(self.stack, defaults.stack_bytes),
            outbound: self.outbound.unwrap_or(defaults.outbound),
            handles: self.handles.unwrap_or(defaults.handles),
            scratch_bytes: bytes(self.scratch, defaults.scratch_bytes),
        })
    }
}

fn millis(key: &str, text: Option<String>, default: u64) -> Result<u64, String> {
    text.map_or(Ok(default), |text| duration_ms(&text).map_err(|error| format!("{key}: {error}")))
}

/// A duration as people write it: `3s`, `250ms`, `1m 30s`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("`{text}` is not a duration such as `3s` or `250ms`: {error}"))
}

fn duration_ms(text: &str) -> Result<u64, String> {
    u64::try_from(parse_duration(text)?.as_millis()).map_err(|_| format!("`{text}` is too long"))
}

/// toml's message, with the nearest known key for one that is unknown.
fn explain(error: &toml::de::Error) -> String {
    let message = error.to_string();
    let Some(key) = message.split("unknown field `").nth(1).and_then(|rest| rest.split('`').next()) else {
        return message.trim_end().to_owned();
    };
    let hint = if LATER.contains(&key) {
        format!("`{key}` is not supported by this release; remove it")
    } else {
        let nearest = KNOWN.iter().min_by_key(|known| strsim::damerau_levenshtein(key, known));
        format!("did you mean `{}`?", nearest.unwrap_or(&"name"))
    };
    format!("{}\n{hint}", message.trim_end())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &str) {
        let shown = match parse(text) {
            Ok((manifest, code)) => format!("{manifest:?} {code:?}"),
            Err(message) => message,
        };
        assert!(shown.contains(expected), "{text}: {shown}");
    }

    #[test]
    fn durations_and_sizes_are_read_as_people_write_them() {
        check("name = 'a'\ncode = 'a.wasm'\n[limits]\ndeadline = '1m 30s'", "deadline_ms: 90000");
        check("name = 'a'\ncode = 'a.wasm'\n[limits]\nmemory = '128MiB'", "memory_bytes: 134217728");
        check("name = 'a'\ncode = 'a.wasm'\n[scale]\nidle = '5s'", "idle_ms: 5000");
        check("name = 'a'\ncode = 'a.wasm'\n[scale]\nwarm = 1", "warm: 1");
    }

    #[test]
    fn unknown_keys_name_the_nearest_known_one() {
        check("name = 'a'\ncode = 'a.wasm'\ndescripton = ''", "did you mean `description`?");
        check("name = 'a'\ncode = 'a.wasm'\n[limits]\ndedline = '1s'", "did you mean `deadline`?");
    }

    #[test]
    fn a_function_is_a_module_or_a_script() {
        check("name = 'a'\nmain = './src/index.js'", "Script(\"src/index.js\")");
        check("name = 'a'\nmain = 'x.js'", "abi: Script");
        check("name = 'a'\nmain = 'x.js'\nabi = 'script'", "entry: Some(\"x.js\")");
        check("name = 'a'\nmain = 'x.js'\nabi = 'wasi'", "`main` names a script; remove `abi`");
        check("name = 'a'\nmain = 'x.js'\nentry = 'y'", "remove `entry`");
        check("name = 'a'\nmain = 'x.js'\ncode = 'x.wasm'", "a function is one of a module and a script");
        check("name = 'a'\ncode = 'x.js'\nabi = 'script'", "write `main = \"index.js\"`");
        check("name = 'a'", "what the function is must be named");
    }

    #[test]
    fn values_out_of_range_are_refused() {
        check(
            "name = 'a'\ncode = 'a.wasm'\n[limits]\ndeadline = '1h'",
            "limits.deadline is 60m; it must be from 1ms to 15m: set it within that range",
        );
        check("name = 'a'\ncode = 'a.wasm'\n[limits]\nconcurrency = 0", "limits.concurrency is 0");
        check("name = 'a'\ncode = 'a.wasm'\n[limits]\ndeadline = 'soon'", "is not a duration");
        check(
            "name = 'a'\ncode = 'a.wasm'\n[limits]\nstack = '1GiB'",
            "limits.stack is 1GiB; it must be from 1B to 16MiB",
        );
        check(
            "name = 'a'\ncode = 'a.wasm'\n[limits]\noutbound = 10001",
            "limits.outbound is 10001; it must be from 1 to",
        );
        check("name = 'a'\ncode = 'a.wasm'\nentry = ''", "entry has 0 bytes");
        check("name = 'A'\ncode = 'a.wasm'", "not a valid function name");
        check("name = 'a'", "code");
    }

    #[test]
    fn windows_in_which_more_are_kept_ready_are_read_and_checked() {
        let schedule =
            |text: &str| format!("name = 'a'\ncode = 'a.wasm'\n[scale]\nwarm = 1\n[[scale.schedule]]\n{text}");
        let check = |text: &str, expected: &str| check(&schedule(text), expected);
        check("days = ['mon', 'sun']\nbetween = '08:00-18:00'\nwarm = 3", "days: [Mon, Sun]");
        check("between = '22:00-06:00'\nwarm = 3", "Window { days: [], between: Between");
        check("between = '22-6'\nwarm = 3", "as in `08:00-18:00`");
        check("between = '08:00-08:00'\nwarm = 3", "the whole day is `00:00-24:00`");
        check("between = '08:00-18:00'\nwarm = 0", "scale.schedule, window 1: warm is 0; it must be from 1 to 512");
        check("between = '08:00-18:00'", "missing field `warm`");
        check("days = ['monday']\nbetween = '08:00-18:00'\nwarm = 1", "expected one of `mon`, `tue`");
        check("day = ['mon']\nbetween = '08:00-18:00'\nwarm = 1", "did you mean `days`?");
    }

    #[test]
    fn how_the_code_is_called_and_what_it_may_use_and_reach_is_read() {
        let top = "name = 'a'\ncode = 'a.wasm'\n";
        check(
            &format!("{top}entry = 'run'\nabi = 'extism'\ninstance = 'reuse'\nsnapshot = 'never'"),
            "entry: Some(\"run\")",
        );
        check(&format!("{top}abi = 'extism'\ninstance = 'reuse'"), "abi: Extism, instance: Reuse");
        check(&format!("{top}snapshot = 'always'"), "snapshot: Always");
        check(
            &format!(
                "{top}[limits]\ncpu = '1s'\ntable = 7\nstack = '2MiB'\noutbound = 5\nhandles = 9\nscratch = '1MiB'"
            ),
            "cpu_ms: 1000, table_elements: 7, stack_bytes: 2097152, outbound: 5, handles: 9, scratch_bytes: 1048576",
        );
        check(
            &format!("{top}[grants]\ninvoke = ['shop/*']\nhttp = ['https://*.example.com']\nscratch = true"),
            "invoke: [\"shop/*\"], http: [\"https://*.example.com\"], scratch: true",
        );
        check(&format!("{top}[grants]\ninvoke = ['shop']"), "grants.invoke has `shop`: write `app/name`");
        check(&format!("{top}[grants]\nhttp = ['example.com']"), "grants.http has `example.com`: write `https://host`");
        check(&format!("{top}abi = 'python'"), "unknown variant `python`");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn any_window_is_read_or_refused(days in "\\PC{0,12}", between in "[0-9:-]{0,12}", warm in -2_i64..600) {
            let window = format!("days = [{days:?}]\nbetween = {between:?}\nwarm = {warm}");
            let _ = parse(&format!("name = 'a'\ncode = 'a.wasm'\n[[scale.schedule]]\n{window}"));
        }
    }
}
