#!/usr/bin/env python3
"""Runs the fetched modules, as they are, in wasmtime, and writes what they give to target/foreign/cases.tsv.

fetch.sh starts it. A line is a case: interface, file of the module, three settings of the interface, input and expected
output in hex. Where Python has the same hash function of its own, all three must agree.
"""

import base64
import hashlib
import re
import sys
import zlib
from pathlib import Path

import wasmtime

ENGINE = wasmtime.Engine()

# Kernel, argument of Hash_Init, argument of Hash_Final, bytes of the digest, and who else knows it.
HASHES = [
    ("md4", None, None, 16, None),
    ("md5", None, None, 16, lambda data: hashlib.md5(data).digest()),
    ("sha1", None, None, 20, lambda data: hashlib.sha1(data).digest()),
    ("sha256", 256, None, 32, lambda data: hashlib.sha256(data).digest()),
    ("sha512", 512, None, 64, lambda data: hashlib.sha512(data).digest()),
    ("sha3", 512, 6, 64, lambda data: hashlib.sha3_512(data).digest()),
    ("blake2b", 512, None, 64, lambda data: hashlib.blake2b(data).digest()),
    ("blake2s", 256, None, 32, lambda data: hashlib.blake2s(data).digest()),
    ("blake3", 0, 32, 32, None),
    ("ripemd160", None, None, 20, None),
    ("whirlpool", None, None, 64, None),
    ("sm3", None, None, 32, None),
    ("xxhash32", 0, None, 4, None),
    ("xxhash64", None, None, 8, None),
    ("xxhash3", None, None, 8, None),
    ("xxhash128", None, None, 16, None),
    ("crc32", 0xEDB88320, None, 4, lambda data: zlib.crc32(data).to_bytes(4, "big")),
    ("adler32", None, None, 4, lambda data: zlib.adler32(data).to_bytes(4, "big")),
]
# Published answers for the empty input and "abc", of functions that Python lacks.
KNOWN = {
    ("md4", b"abc"): "a448017aaf21d8525fc10ae87aa6729d",
    ("ripemd160", b"abc"): "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc",
    ("sm3", b"abc"): "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0",
    ("blake3", b""): "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    ("xxhash64", b""): "ef46db3751d8e999",
    ("xxhash32", b""): "02cc5d05",
}
INPUTS = [b"", b"abc", b"The quick brown fox jumps over the lazy dog", bytes(range(256)) * 300]

TEXTS = {
    "json": [
        ("a.json", '{"indentWidth":2}', b'{"b":[1,2,   3],"a":{"x":null , "y":true}}'),
        ("a.json", "{}", b'// a comment\n{ "key" : [\n1,\n2 ] }\n'),
        ("a.json", '{"useTabs":true}', "{ \"umlaut\": \"\u00e4\u00f6\u00fc \U0001f600\" }".encode()),
        ("bad.json", "{}", b'{ "open": '),
    ],
    "toml": [
        ("a.toml", "{}", b"[a]\nx=1\n  y =  'two'\n[[ b ]]\nz=[1,2,\n3]\n"),
        ("Cargo.toml", "{}", b"[dependencies]\nserde=\"1\"\nanyhow   = {version='1',features=[ 'std' ]}\n"),
        ("bad.toml", "{}", b"[a\n"),
    ],
    "markdown": [
        ("a.md", '{"textWrap":"always","lineWidth":40}', b"Title\n===\n\n* one\n* two\n\nA long line of words that goes on "
         b"and on until it has to be broken somewhere.\n\n```json\n{ \"left\" :   \"as it is\"}\n```\n"),
        ("a.md", "{}", b"| a | b |\n|--|:-:|\n| long cell | x |\n\n1) first\n2) second\n"),
    ],
}


def instantiate(file, stands):
    store = wasmtime.Store(ENGINE)
    module = wasmtime.Module.from_file(ENGINE, str(file))
    imports = [wasmtime.Func(store, entry.type, stands) for entry in module.imports]
    exports = wasmtime.Instance(store, module, imports).exports(store)
    return store, exports


def digest(file, init, final, size, data):
    store, exports = instantiate(file, None)
    exports["Hash_Init"](store, *([] if init is None else [init - (1 << 32) if init >> 31 else init]))
    for at in range(0, len(data), 16 << 10):
        chunk = data[at : at + (16 << 10)]
        exports["memory"].write(store, chunk, exports["Hash_GetBuffer"](store))
        exports["Hash_Update"](store, len(chunk))
    exports["Hash_Final"](store, *([] if final is None else [final]))
    buffer = exports["Hash_GetBuffer"](store)
    return bytes(exports["memory"].read(store, buffer, buffer + size))


def formatted(file, path, config, text):
    """The text as the plug-in formats it; what it says instead if it cannot."""
    # A formatter that asks for another one, for code inside a document, is told that nothing changed.
    store, exports = instantiate(file, lambda *args: 0 if len(args) != 1 else None)
    memory = exports["memory"]

    def share(data):
        memory.write(store, data, exports["clear_shared_bytes"](store, len(data)))

    def shared(size):
        at = exports["get_shared_bytes_ptr"](store)
        return bytes(memory.read(store, at, at + size))

    share(config.encode())
    exports["register_config"](store, 1)
    share(path.encode())
    exports["set_file_path"](store)
    share(text)
    answer = exports["format"](store, 1)
    if answer == 0:
        return b"=" + text
    return b"=" + shared(exports["get_formatted_text"](store)) if answer == 1 else b"!" + shared(exports["get_error_text"](store))


def main():
    out = Path(sys.argv[1])
    lines = []
    script = next((out / "packages").glob("hash-wasm-*")) / "dist/index.umd.min.js"
    found = dict(re.findall(r'name:"([a-z0-9]+)",data:"([A-Za-z0-9+/=]+)"', script.read_text()))
    for name, init, final, size, other in HASHES:
        file = out / f"{name}.wasm"
        file.write_bytes(base64.b64decode(found[name]))
        for data in INPUTS:
            result = digest(file, init, final, size, data)
            assert other is None or other(data) == result, f"{name} of {len(data)} bytes: Python has another result"
            assert KNOWN.get((name, data), result.hex()) == result.hex(), f"{name} of {data}: {result.hex()}"
            lines.append(["hash", file.name, init or 0, final or 0, size, data.hex(), result.hex()])
    for name, cases in TEXTS.items():
        file = out / f"dprint-{name}.wasm"
        file.write_bytes(next((out / "packages").glob(f"@dprint-{name}-*/plugin.wasm")).read_bytes())
        for path, config, text in cases:
            config = f'{{"plugin":{config},"global":{{}}}}'
            result = formatted(file, path, config, text)
            assert result != b"=" + text, f"{name}: {path} is not changed, and so shows nothing"
            lines.append(["dprint", file.name, config.encode().hex(), path.encode().hex(), 0, text.hex(), result.hex()])
    (out / "cases.tsv").write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))


main()
