//! The functions that a plug-in may import, and their signatures, as Extism's runtime 1.41 and its kernel have them.

/// Extism's own functions.
pub(crate) const MODULE: &str = "extism:host/env";
/// The host's functions: in Extism every embedder's own, here Skein's services.
pub(crate) const USER_MODULE: &str = "extism:host/user";

/// True if what imports from `module` is a plug-in.
pub(crate) fn is_module(module: &str) -> bool {
    [MODULE, USER_MODULE].contains(&module)
}

/// What a function takes and returns, if there is such a one: `i` for a 32-bit, `I` for a 64-bit integer.
pub(crate) fn signature(module: &str, name: &str) -> Option<(&'static str, &'static str)> {
    let (_, params, results) = functions(module).iter().find(|(known, ..)| *known == name)?;
    Some((params, results))
}

fn functions(module: &str) -> &'static [(&'static str, &'static str, &'static str)] {
    match module {
        MODULE => &FUNCTIONS,
        USER_MODULE => &USER_FUNCTIONS,
        _ => &[],
    }
}

const FUNCTIONS: [(&str, &str, &str); 32] = [
    ("alloc", "I", "I"),
    ("config_get", "I", "I"),
    ("error_get", "", "I"),
    ("error_set", "I", ""),
    ("free", "I", ""),
    ("get_log_level", "", "i"),
    ("http_headers", "", "I"),
    ("http_request", "II", "I"),
    ("http_status_code", "", "i"),
    ("input_length", "", "I"),
    ("input_load_u64", "I", "I"),
    ("input_load_u8", "I", "i"),
    ("input_offset", "", "I"),
    ("input_set", "II", ""),
    ("length", "I", "I"),
    ("length_unsafe", "I", "I"),
    ("load_u64", "I", "I"),
    ("load_u8", "I", "i"),
    ("log_debug", "I", ""),
    ("log_error", "I", ""),
    ("log_info", "I", ""),
    ("log_trace", "I", ""),
    ("log_warn", "I", ""),
    ("memory_bytes", "", "I"),
    ("output_length", "", "I"),
    ("output_offset", "", "I"),
    ("output_set", "II", ""),
    ("reset", "", ""),
    ("store_u64", "II", ""),
    ("store_u8", "Ii", ""),
    ("var_get", "I", "I"),
    ("var_set", "II", ""),
];

const USER_FUNCTIONS: [(&str, &str, &str); 3] =
    [("skein_error", "", "I"), ("skein_invoke", "II", "I"), ("skein_invoke_with", "III", "I")];
