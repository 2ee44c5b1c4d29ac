//! The functions of the module `skein`, and their signatures.

/// The module that all of them are imported from.
pub(crate) const MODULE: &str = "skein";

/// Parameters and results of a function, one letter each: `i` for a 32-bit, `I` for a 64-bit integer.
pub(crate) fn signature(name: &str) -> Option<(&'static str, &'static str)> {
    FUNCTIONS.iter().find(|(known, ..)| *known == name).map(|(_, params, results)| (*params, *results))
}

const FUNCTIONS: [(&str, &str, &str); 9] = [
    ("answer", "i", "I"),
    ("cancel", "i", ""),
    ("fail", "ii", ""),
    ("http", "iiii", "i"),
    ("invoke", "iiiiii", "i"),
    ("log", "ii", ""),
    ("output", "ii", ""),
    ("take", "ii", ""),
    ("wait", "I", "i"),
];
