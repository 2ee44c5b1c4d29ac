//! What the host writes into the guest's memory: the files of a script, and a call. The guest's side is `runtime/`.

use crate::Bundle;

/// The argument of the guest's export `skein_load`: the entry, the number of files, then each path and content. Texts and
/// contents are a length (u32, little endian), bytes, and a NUL that the length does not count.
pub fn load(bundle: &Bundle) -> Vec<u8> {
    let total: usize = bundle.files().map(|(path, content)| path.len() + content.len() + 10).sum();
    let mut frame = Vec::with_capacity(total + bundle.entry().len() + 9);
    put(&mut frame, bundle.entry().as_bytes());
    frame.extend_from_slice(&length(bundle.files().count()));
    for (path, content) in bundle.files() {
        put(&mut frame, path.as_bytes());
        put(&mut frame, content);
    }
    frame
}

/// The argument of the guest's export `skein_handle`: milliseconds left (f64), the environment's length (u32), each
/// variable as `NAME=VALUE` and a NUL, the payload. A variable with a NUL in it is left out.
pub fn call(left_ms: f64, env: &[(String, String)], payload: &[u8]) -> Vec<u8> {
    let is_plain = |(name, value): &&(String, String)| !name.contains(['=', '\0']) && !value.contains('\0');
    let env_bytes: usize = env.iter().filter(is_plain).map(|(name, value)| name.len() + value.len() + 2).sum();
    let mut frame = Vec::with_capacity(12 + env_bytes + payload.len());
    frame.extend_from_slice(&left_ms.to_le_bytes());
    frame.extend_from_slice(&length(env_bytes));
    for (name, value) in env.iter().filter(is_plain) {
        for part in [name.as_bytes(), b"=", value.as_bytes(), b"\0"] {
            frame.extend_from_slice(part);
        }
    }
    frame.extend_from_slice(payload);
    frame
}

fn put(frame: &mut Vec<u8>, bytes: &[u8]) {
    frame.extend_from_slice(&length(bytes.len()));
    frame.extend_from_slice(bytes);
    frame.push(0);
}

/// A length as the guest reads it. What does not fit is far over every bound, and the guest refuses the frame.
fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_its_parts_one_after_the_other() {
        let env = [("A".to_owned(), "1".to_owned()), ("B\0".to_owned(), "2".to_owned())];
        let frame = call(1.5, &env, b"xyz");
        assert_eq!(frame[..8], 1.5f64.to_le_bytes());
        assert_eq!(frame[8..12], 4u32.to_le_bytes());
        assert_eq!(&frame[12..], b"A=1\0xyz");
    }

    #[test]
    fn each_file_ends_with_a_nul() {
        let bundle = Bundle::parse(b"1", Some("a.js")).unwrap();
        assert_eq!(load(&bundle), b"\x04\0\0\0a.js\0\x01\0\0\0\x04\0\0\0a.js\0\x01\0\0\x001\0");
    }
}
