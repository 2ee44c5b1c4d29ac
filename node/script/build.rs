//! Compiles the guest that runs scripts: QuickJS and what is in `runtime/`, to WebAssembly, by clang.
//!
//! The result is kept beside the build directories, under a name made of everything that went in: profiles share it, and
//! only a change builds it again.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
    process::Command,
};

/// The crate that carries the C sources of quickjs-ng.
const SOURCES: &str = "libquickjs-ng-sys";
const UNITS: &[&str] = &["libregexp", "libunicode", "dtoa"];
const PACKAGES: &[&str] = &["clang-19", "lld-19", "wasi-libc", "libclang-rt-19-dev-wasm32"];
/// What is changed in quickjs.c: text that it has once, and what goes in its place. As it is, an error thrown in a call whose
/// arguments have calls or names of their own is reported at the last of those, which may be lines away.
const PATCHES: &[(&str, &str)] = &[
    (
        "    int import_line_num, import_col_num;\n",
        "    int import_line_num, import_col_num;\n    \
         int call_line_num = s->token.line_num, call_col_num = s->token.col_num;\n",
    ),
    (
        "        parse_property:\n",
        "        parse_property:\n            call_line_num = s->token.line_num, call_col_num = s->token.col_num;\n",
    ),
    (
        "                /* apply function call */\n",
        "                emit_source_loc_at(s, call_line_num, call_col_num);\n",
    ),
    // Columns of the first line count from 1, as those of all others do.
    ("    s->eol = s->buf_ptr;\n", "    s->eol = s->buf_ptr - 1;\n"),
    (
        "            emit_func_call:\n",
        "            emit_func_call:\n                emit_source_loc_at(s, call_line_num, call_col_num);\n",
    ),
];
/// No threads, no exceptions: what the engine's own features allow.
const FLAGS: &[&str] = &[
    "-std=gnu17",
    "-O2",
    "-D_GNU_SOURCE",
    "-DNDEBUG",
    "-DQUICKJS_NG_BUILD",
    "-D_WASI_EMULATED_PROCESS_CLOCKS",
    "-D_WASI_EMULATED_SIGNAL",
    "-funsigned-char",
    "-fwrapv",
    "-mbulk-memory",
    "-mnontrapping-fptoint",
];
/// 1 MiB of stack, below the data, so that what runs over it traps instead of writing there.
const LINK_FLAGS: &[&str] = &[
    "-mexec-model=reactor",
    "-s",
    "-Wl,-z,stack-size=1048576",
    "-Wl,--stack-first",
    "-lwasi-emulated-process-clocks",
    "-lwasi-emulated-signal",
];

fn main() {
    for watched in ["build.rs", "runtime", "../../Cargo.lock", "../../examples/debian.sh"] {
        println!("cargo::rerun-if-changed={watched}");
    }
    for variable in ["WASI_SDK_PATH", "SKEIN_NO_INSTALL"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    if let Err(message) = build() {
        println!("cargo::error={}", message.replace('\n', " | "));
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(variable("OUT_DIR")?);
    let runtime = here.join("runtime");
    let quickjs = quickjs_sources(&here)?;
    let compiler = Compiler::from_environment();
    let target = out.join("runtime.wasm");
    let kept = kept(&out, &stamp(&here, &runtime, &quickjs, &compiler)?);
    if !kept.is_file() {
        compiler.make_available(&here)?;
        fs::write(out.join("prelude.h"), prelude(&runtime.join("prelude"))?).map_err(|error| error.to_string())?;
        fs::write(out.join("quickjs.c"), patched(&quickjs.join("quickjs.c"))?).map_err(|error| error.to_string())?;
        let module = compiler.compile(&runtime, &quickjs, &out)?;
        // Another profile's build may be at the same: whole files only, by renaming.
        let part = kept.with_extension(format!("{}.part", std::process::id()));
        fs::create_dir_all(kept.parent().unwrap_or(&out)).map_err(|error| error.to_string())?;
        fs::copy(&module, &part).and_then(|_| fs::rename(&part, &kept)).map_err(|error| error.to_string())?;
    }
    fs::copy(&kept, &target).map_err(|error| format!("cannot copy {}: {error}", kept.display()))?;
    Ok(())
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("cargo did not set {name}"))
}

/// Where the C sources are: cargo fetched them with everything else, and tells us where it put them. Without a network
/// first, so that a build after `cargo fetch` needs none.
fn quickjs_sources(here: &Path) -> Result<PathBuf, String> {
    let cargo = variable("CARGO")?;
    let mut errors = String::new();
    for offline in [true, false] {
        let mut command = Command::new(&cargo);
        command.args(["metadata", "--format-version=1", "--filter-platform=wasm32-wasip1", "--locked"]);
        command.arg("--manifest-path").arg(here.join("Cargo.toml"));
        if offline {
            command.arg("--offline");
        }
        let output = command.output().map_err(|error| format!("cannot run {cargo}: {error}"))?;
        if !output.status.success() {
            errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            continue;
        }
        let metadata: serde_json::Value =
            serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))?;
        let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let package = packages.iter().find(|package| package["name"] == SOURCES);
        let manifest = package.and_then(|package| package["manifest_path"].as_str()).map(Path::new);
        let folder = manifest.and_then(Path::parent).map(|folder| folder.join("embed/quickjs"));
        return folder
            .filter(|folder| folder.join("quickjs.c").is_file())
            .ok_or_else(|| format!("the crate {SOURCES} has no embed/quickjs/quickjs.c; it is pinned in Cargo.lock"));
    }
    Err(format!(
        "cannot find the sources of QuickJS (crate {SOURCES}); run `cargo fetch` once with a network. {errors}"
    ))
}

/// The compiler and what it needs to know to find a C library for WebAssembly.
#[derive(Hash)]
struct Compiler {
    program: PathBuf,
    target: &'static str,
    is_debian: bool,
}

impl Compiler {
    fn from_environment() -> Self {
        match env::var_os("WASI_SDK_PATH") {
            Some(sdk) => {
                Self { program: PathBuf::from(sdk).join("bin/clang"), target: "wasm32-wasip1", is_debian: false }
            }
            None => Self { program: PathBuf::from("clang-19"), target: "wasm32-wasi", is_debian: true },
        }
    }

    /// Has Debian's packages installed if they are missing; the script says so before it does.
    fn make_available(&self, here: &Path) -> Result<(), String> {
        if !self.is_debian {
            let found = self.program.is_file();
            return if found { Ok(()) } else { Err(format!("WASI_SDK_PATH has no {}", self.program.display())) };
        }
        let script = here.join("../../examples/debian.sh");
        let output = Command::new("bash").arg(&script).arg("--for=the JavaScript runtime").args(PACKAGES).output();
        let output = output.map_err(|error| format!("cannot run bash {}: {error}", script.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(format!(
                "the JavaScript runtime is compiled by clang from the Debian packages {}; or set WASI_SDK_PATH to a \
                 WASI SDK. {}",
                PACKAGES.join(" "),
                said.trim()
            ));
        }
        said.lines().for_each(|line| println!("cargo::warning={line}"));
        Ok(())
    }

    fn compile(&self, runtime: &Path, quickjs: &Path, out: &Path) -> Result<PathBuf, String> {
        let mut objects = vec![self.object(&runtime.join("runtime.c"), &[runtime, out, quickjs], out, &["-Wall"])?];
        for unit in UNITS {
            objects.push(self.object(&quickjs.join(unit).with_extension("c"), &[quickjs], out, &["-w"])?);
        }
        let module = out.join("linked.wasm");
        let mut command = self.command();
        command.args(&objects).arg("-o").arg(&module).args(LINK_FLAGS);
        run(&mut command)?;
        Ok(module)
    }

    fn object(&self, source: &Path, includes: &[&Path], out: &Path, more: &[&str]) -> Result<PathBuf, String> {
        let name = source.file_stem().unwrap_or_default();
        let object = out.join(name).with_extension("o");
        let mut command = self.command();
        command.args(FLAGS).args(more).arg("-c").arg(source).arg("-o").arg(&object);
        // Others' headers are of no concern to our warnings.
        command.args(includes.iter().flat_map(|folder| [Path::new("-isystem"), folder]));
        run(&mut command)?;
        Ok(object)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(format!("--target={}", self.target));
        command
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("cannot run {:?}: {error}", command.get_program()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first: Vec<&str> = said.lines().filter(|line| line.contains("error")).take(5).collect();
    Err(format!("{:?} failed: {}", command.get_program(), first.join("\n")))
}

/// quickjs.c with our changes. One that does not fit is an error: the sources are pinned, and change only with this file.
fn patched(path: &Path) -> Result<String, String> {
    let mut text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    for (old, new) in PATCHES {
        let count = text.matches(old).count();
        if count != 1 {
            return Err(format!("{} has {old:?} {count} times; adapt PATCHES in build.rs", path.display()));
        }
        text = text.replacen(old, new, 1);
    }
    Ok(text)
}

/// The parts of the prelude as a C table, in the order of their names.
fn prelude(folder: &Path) -> Result<String, String> {
    let mut table = String::from("static const Prelude prelude[] = {\n");
    for path in files(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let text = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let bytes: Vec<String> = text.iter().map(u8::to_string).collect();
        table += &format!("{{\"skein:{name}\", (const char[]){{{},0}}, {}}},\n", bytes.join(","), text.len());
    }
    Ok(table + "};\n")
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(self::files(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// A number that changes with everything the module is made of. The registry's sources never change under one path.
fn stamp(here: &Path, runtime: &Path, quickjs: &Path, compiler: &Compiler) -> Result<String, String> {
    let mut hasher = DefaultHasher::new();
    (quickjs, compiler, FLAGS, LINK_FLAGS, UNITS).hash(&mut hasher);
    fs::read(here.join("build.rs")).map_err(|error| error.to_string())?.hash(&mut hasher);
    for path in files(runtime).map_err(|error| error.to_string())? {
        (&path, fs::read(&path).map_err(|error| error.to_string())?).hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// Where the module is kept: in the target directory, if `out` is `target/PROFILE/build/NAME/out` as it is now.
fn kept(out: &Path, stamp: &str) -> PathBuf {
    let target = out.ancestors().nth(4).filter(|target| target.join("CACHEDIR.TAG").is_file());
    target.unwrap_or(out).join("script-runtime").join(format!("{stamp}.wasm"))
}
