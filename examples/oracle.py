#!/usr/bin/env python3
"""Runs a WASI preview 1 command in wasmtime, an engine that is not Skein's, to compare results with; a plug-in of Extism's
in Extism's own runtime.

    examples/build.sh --oracle svg < examples/svg/input.svg > expected.png     # fetches the engine, then runs this
    examples/build.sh --check                                                  # every example against its expected output
    examples/oracle.py target/examples/slug.wasm < examples/slug/input.txt     # any module, with arguments after it

The command's stdout, stderr and exit code become ours; a trap is exit code 134. `--env NAME=VALUE` and
`--dir HOST::GUEST` may come first.
"""

import base64
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "target/guest-tools/oracle"))


def run(module: str, arguments: list[str], environment: list[tuple[str, str]], folders: list[tuple[str, str]]) -> int:
    try:
        import wasmtime
    except ImportError:
        sys.exit("oracle: wasmtime is not there; examples/build.sh --check fetches it")
    if not Path(module).is_file():
        sys.exit(f"oracle: there is no {module}; run examples/build.sh first")
    engine = wasmtime.Engine()
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    wasi = wasmtime.WasiConfig()
    wasi.argv = [Path(module).stem, *arguments]
    wasi.env = environment
    wasi.inherit_stderr()
    for host, guest in folders:
        wasi.preopen_dir(host, guest)
    with tempfile.TemporaryDirectory() as folder:
        payload, result = f"{folder}/stdin", f"{folder}/stdout"
        Path(payload).write_bytes(sys.stdin.buffer.read())
        wasi.stdin_file, wasi.stdout_file = payload, result
        store = wasmtime.Store(engine)
        store.set_wasi(wasi)
        code = 0
        try:
            instance = linker.instantiate(store, wasmtime.Module.from_file(engine, module))
            instance.exports(store)["_start"](store)
        except wasmtime.ExitTrap as end:
            code = end.code
        except (wasmtime.WasmtimeError, wasmtime.Trap) as trap:
            print(f"oracle: {trap}", file=sys.stderr)
            code = 134
        del store
        sys.stdout.buffer.write(Path(result).read_bytes())
    return code


class Plugin:
    """A plug-in in Extism's own runtime, by its C interface."""

    def __init__(self, wasm: dict, config: dict):
        path = ROOT / "target/guest-tools/oracle-extism/extism_sys/libextism_sys.so"
        if not path.is_file():
            sys.exit("oracle: Extism's runtime is not there; examples/build.sh --check fetches it")
        self.library = library = ctypes.CDLL(str(path))
        library.extism_plugin_new.restype = library.extism_plugin_output_data.restype = ctypes.c_void_p
        library.extism_plugin_output_length.restype = ctypes.c_uint64
        library.extism_plugin_error.restype = ctypes.c_char_p
        text, why = json.dumps({"wasm": [wasm], "config": config}).encode(), ctypes.c_char_p()
        size = ctypes.c_uint64
        handle = library.extism_plugin_new(text, size(len(text)), None, size(0), True, ctypes.byref(why))
        if not handle:
            sys.exit(f"oracle: {why.value.decode()}")
        self.handle = ctypes.c_void_p(handle)

    def call(self, entry: str, payload: bytes) -> tuple[int, bytes]:
        """What the function returned, and its output, or what it said went wrong."""
        library, handle = self.library, self.handle
        code = library.extism_plugin_call(handle, entry.encode(), payload, ctypes.c_uint64(len(payload)))
        error = library.extism_plugin_error(handle)
        if code or error:
            return code or 1, error or f"{code}".encode()
        length = library.extism_plugin_output_length(handle)
        return 0, ctypes.string_at(library.extism_plugin_output_data(handle), length) if length else b""


def run_plugin(settings: dict, folder: Path) -> int:
    """Calls the plug-in that `function.toml` describes with stdin."""
    environment = settings.get("grants", {}).get("env", {})
    plugin = Plugin({"path": str((folder / settings["code"]).resolve())}, environment)
    code, text = plugin.call(settings.get("entry", "handle"), sys.stdin.buffer.read())
    if code:
        sys.exit(text.decode(errors="replace"))
    sys.stdout.buffer.write(text)
    return 0


def check_table() -> int:
    """The engine's table of what Extism's functions give: whether its column about Extism's runtime is true."""
    import wasmtime

    folder, rows, failures = ROOT / "node/engine/tests/engine/extism", 0, 0
    module = base64.b64encode(wasmtime.wat2wasm((folder / "abi.wat").read_text())).decode()
    for line in (folder / "abi.tsv").read_text().splitlines():
        if line.startswith("#"):
            continue
        entry, payload, expected, *_ = line.split("\t")
        code, text = Plugin({"data": module}, {"colour": "green"}).call(entry, b"" if payload == "-" else payload.encode())
        number = f"#{int.from_bytes(text, 'little')}"
        said = text.decode(errors="replace")
        is_good = expected == "!" or said.startswith(expected[1:]) if code else expected in (f"={said}", number)
        is_good = is_good and (expected[0] == "!") == (code != 0)
        if not is_good:
            print(f"FAILED  extism/{entry}: Extism's runtime gives {code} {said!r} {number}, not {expected}")
        rows, failures = rows + 1, failures + (not is_good)
    print(f"{'FAILED' if failures else 'ok'}  extism/abi.tsv: {rows} rows, {failures} wrong")
    return failures


def settings_of(folder: Path) -> dict:
    return tomllib.loads((folder / "function.toml").read_text())


def example(folder: Path) -> list[str]:
    """The module of an example and the arguments it is started with."""
    settings = settings_of(folder)
    return [str((folder / settings["code"]).resolve()), *settings.get("args", [])]


def check() -> int:
    """Every example: the input gives what is expected, the bad input gives an exit code and a message."""
    failures = 0
    for manifest in sorted((ROOT / "examples").glob("*/function.toml")):
        folder = manifest.parent
        if "main" in tomllib.loads(manifest.read_text()):
            continue  # a script: tests/scripts compares those
        command = [sys.executable, __file__, "--example", folder.name]
        cases = {*folder.glob("input.*"), *folder.glob("bad.*"), *folder.glob("*.svg")}
        for case in sorted(cases):
            done = subprocess.run(command, stdin=case.open("rb"), capture_output=True, check=False)
            expected = next(folder.glob("expected.*"), None)
            if case.stem == "bad":
                is_good = done.returncode not in (0, 134) and done.stdout == b"" and done.stderr != b""
            elif expected:
                is_good = (done.returncode, done.stdout) == (0, expected.read_bytes())
            else:
                is_good = done.returncode == 0 and done.stdout.startswith(b"\x89PNG\r\n")
            said = done.stderr.decode(errors="replace").strip()
            print(f"{'ok' if is_good else 'FAILED'}  {folder.name}/{case.name}: exit {done.returncode}, {len(done.stdout)} bytes  {said}")
            failures += not is_good
    failures += check_table()
    return 1 if failures else 0


def main() -> int:
    arguments, environment, folders = sys.argv[1:], [], []
    while len(arguments) > 1 and arguments[0] in ("--env", "--dir"):
        if arguments[0] == "--env":
            name, _, value = arguments[1].partition("=")
            environment.append((name, value))
        else:
            host, _, guest = arguments[1].partition("::")
            folders.append((host, guest))
        arguments = arguments[2:]
    if arguments == ["--check"]:
        return check()
    if arguments[:1] == ["--example"]:
        folder = ROOT / "examples" / arguments[1]
        if settings_of(folder).get("abi") == "extism":
            return run_plugin(settings_of(folder), folder)
        arguments = example(folder)
    if not arguments or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    return run(arguments[0], arguments[1:], environment, folders)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
