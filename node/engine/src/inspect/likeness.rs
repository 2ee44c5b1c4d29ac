//! What bytes that are no module look like, so that the message names the mistake.

/// Says what `code` is, if it is not a core WebAssembly module.
pub(super) fn refusal(code: &[u8]) -> Option<String> {
    /// A core module and its version.
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    /// The layer of components, where a core module's version has its upper half.
    const LAYER_COMPONENT: [u8; 2] = [1, 0];
    if code.starts_with(MODULE) {
        return None;
    }
    if code.starts_with(&MODULE[..4]) {
        return Some(match code.get(4..8) {
            Some([_, _, layer @ ..]) if *layer == LAYER_COMPONENT => "this is a WebAssembly component; build a core \
                 module for WASI preview 1 instead (target wasm32-wasip1): components, for the `http` abi, come in a \
                 later release"
                .to_owned(),
            Some(version) => format!("this is WebAssembly of version {version:02x?}; only version 1 is known"),
            None => "this is a truncated WebAssembly module: it ends inside its header".to_owned(),
        });
    }
    if !code.is_empty() && MODULE.starts_with(code) {
        return Some("this is a truncated WebAssembly module: it ends inside its header".to_owned());
    }
    Some(format!("this is not a WebAssembly module: it {}", likeness(code)))
}

fn likeness(code: &[u8]) -> String {
    const KNOWN: [(&[u8], &str); 9] = [
        (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
        (b"\x28\xb5\x2f\xfd", "is compressed with zstd; unpack it first"),
        (b"PK\x03\x04", "is a zip archive; unpack it first"),
        (b"\x7fELF", "is an ELF file, a native program; build for wasm32-wasip1"),
        (b"\xcf\xfa\xed\xfe", "is a Mach-O file, a native program; build for wasm32-wasip1"),
        (b"MZ", "is a Windows program; build for wasm32-wasip1"),
        (b"!<arch>\n", "is a library archive; link it into a command first"),
        (b"BC\xc0\xde", "is LLVM bitcode; link it into a command first"),
        (b"#!", "is a script"),
    ];
    if code.is_empty() {
        return "is empty".to_owned();
    }
    if let Some((_, what)) = KNOWN.iter().find(|(magic, _)| code.starts_with(magic)) {
        return (*what).to_owned();
    }
    let head = &code[..code.len().min(256)];
    if head.iter().all(|byte| *byte == 0) {
        return "starts with nothing but zeros".to_owned();
    }
    let is_text = head.iter().all(|byte| !byte.is_ascii_control() || byte.is_ascii_whitespace());
    let text = String::from_utf8_lossy(head);
    if text.trim_start().starts_with("(module") || text.trim_start().starts_with("(component") {
        "is WebAssembly text; turn it into binary first, for instance with `wat2wasm`".to_owned()
    } else if is_text {
        "is text".to_owned()
    } else {
        format!("starts with the bytes {:02x?}", &code[..code.len().min(8)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: &[u8], expected: &str) {
        let message = refusal(code).unwrap_or_default();
        assert!(message.contains(expected), "{code:02x?}: {message}");
    }

    #[test]
    fn what_is_no_module_is_named() {
        check(b"", "is empty");
        check(b"\0as", "truncated");
        check(b"\0asm\x01\0", "truncated");
        check(b"\0asm\x0d\0\x01\0", "component");
        check(b"\0asm\x02\0\0\0", "version");
        check(b"\x1f\x8b\x08", "gzip");
        check(b"\x7fELF\x02\x01", "ELF");
        check(b"(module)", "WebAssembly text");
        check("fn main() {} // ü".as_bytes(), "is text");
        check(&[0; 4096], "zeros");
        check(&[0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4], "de, ad, be, ef");
        assert_eq!(refusal(b"\0asm\x01\0\0\0"), None);
    }
}
