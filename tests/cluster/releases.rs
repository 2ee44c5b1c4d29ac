//! Versions, aliases, rollback, deletion: what a publisher does all day.

use skein_harness::{Mesh, wasm};

use crate::SKEIN;

/// A module that says one word.
fn says(word: &str) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "{word}")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const {}))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
        word.len()
    )
}

#[test]
fn an_alias_moves_on_publish_and_returns_on_rollback_everywhere() {
    let mesh = Mesh::start(SKEIN, 3);
    for word in ["one", "two", "three"] {
        mesh.publish_wat(0, "word", &says(word)).ok();
        for i in 0..3 {
            assert_eq!(
                mesh.skein(i, &["invoke", "word"]).ok().text(),
                word,
                "at node {i}, right after publish returned"
            );
        }
    }
    assert_eq!(mesh.skein(1, &["invoke", "word@1"]).ok().text(), "one");
    let rolled = mesh.skein(1, &["rollback", "word"]).ok().text();
    assert!(rolled.starts_with("default/word:live -> 2"), "{rolled}");
    assert_eq!(mesh.skein(1, &["invoke", "word"]).ok().text(), "two");
    mesh.skein(1, &["rollback", "word", "--to", "1"]).ok();
    assert_eq!(mesh.skein(1, &["invoke", "word"]).ok().text(), "one");

    mesh.skein(2, &["alias", "set", "word:canary", "3"]).ok();
    assert_eq!(mesh.skein(2, &["invoke", "word:canary"]).ok().text(), "three");
    mesh.skein(2, &["alias", "set", "word:canary", "9"]).failed(1, "version-not-found");
    mesh.skein(2, &["alias", "set", "word:canary", "1", "--expected", "2"]).failed(1, "conflict");
    mesh.skein(2, &["alias", "set", "word@3", "1"]).failed(2, "bad-request");
}

#[test]
fn functions_are_listed_shown_and_deleted() {
    let mesh = Mesh::start(SKEIN, 1);
    mesh.skein(0, &["functions"]).ok();
    let directory = "price";
    mesh.file("price/price.wasm", &wasm(&says("42")));
    let manifest =
        "name = \"price\"\napp = \"shop\"\ncode = \"price.wasm\"\ncategory = \"pricing\"\ntags = [\"checkout\"]\n";
    let file = mesh.file("price/function.toml", manifest.as_bytes());
    let path = file.trim_end_matches("/function.toml").to_owned();
    assert!(path.ends_with(directory));
    mesh.skein(0, &["publish", &path, "--note", "first"]).ok();
    mesh.publish_wat(0, "other", &says("x")).ok();

    let found = mesh.skein(0, &["functions", "pricing", "--json"]).ok().json();
    assert_eq!(found["functions"].as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found["functions"][0]["app"], "shop");
    let shown = mesh.skein(0, &["function", "show", "shop/price"]).ok().text();
    assert!(shown.contains("alias live -> 1") && shown.contains("first"), "{shown}");
    let versions = mesh.skein(0, &["versions", "shop/price", "--json"]).ok().json();
    assert_eq!(versions["versions"][0]["number"], 1, "{versions}");

    mesh.skein(0, &["function", "delete", "shop/price"]).ok();
    mesh.skein(0, &["invoke", "shop/price"]).failed(1, "function-not-found");
    mesh.skein(0, &["function", "show", "shop/price"]).failed(1, "function-not-found");
    // A new function of that name starts afresh.
    let again = mesh.skein(0, &["publish", &path]).ok().text();
    assert!(again.starts_with("shop/price@1 "), "{again}");
}

#[test]
fn no_alias_publishes_without_going_live() {
    let mesh = Mesh::start(SKEIN, 1);
    mesh.publish_wat(0, "word", &says("one")).ok();
    let file = mesh.file("two.wat", says("two").as_bytes());
    mesh.skein(0, &["publish", &file, "--as", "word", "--no-alias"]).ok();
    assert_eq!(mesh.skein(0, &["invoke", "word"]).ok().text(), "one");
    assert_eq!(mesh.skein(0, &["invoke", "word@2"]).ok().text(), "two");
}
