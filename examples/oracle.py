#!/usr/bin/env python3
"""Runs a WASI preview 1 command in wasmtime, an engine that is not Skein's, to compare results with.

    examples/build.sh --oracle svg < examples/svg/input.svg > expected.png     # fetches the engine, then runs this
    examples/build.sh --check                                                  # every example against its expected output
    examples/oracle.py target/examples/slug.wasm < examples/slug/input.txt     # any module, with arguments after it

The command's stdout, stderr and exit code become ours; a trap is exit code 134. `--env NAME=VALUE` may come first.
"""

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "target/guest-tools/oracle"))


def run(module: str, arguments: list[str], environment: list[tuple[str, str]]) -> int:
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


def example(folder: Path) -> list[str]:
    """The module of an example and the arguments it is started with."""
    settings = tomllib.loads((folder / "function.toml").read_text())
    return [str((folder / settings["code"]).resolve()), *settings.get("args", [])]


def check() -> int:
    """Every example: the input gives what is expected, the bad input gives an exit code and a message."""
    failures = 0
    for manifest in sorted((ROOT / "examples").glob("*/function.toml")):
        folder = manifest.parent
        if "main" in tomllib.loads(manifest.read_text()):
            continue  # a script: tests/scripts compares those
        command = [sys.executable, __file__, *example(folder)]
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
    return 1 if failures else 0


def main() -> int:
    arguments, environment = sys.argv[1:], []
    while arguments and arguments[0] == "--env":
        name, _, value = arguments[1].partition("=")
        environment.append((name, value))
        arguments = arguments[2:]
    if arguments == ["--check"]:
        return check()
    if arguments[:1] == ["--example"]:
        arguments = example(ROOT / "examples" / arguments[1])
    if not arguments or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    return run(arguments[0], arguments[1:], environment)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
