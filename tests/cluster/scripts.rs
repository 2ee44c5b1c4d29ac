//! JavaScript, published as source: from a file to an answer on another node.

use skein_harness::Mesh;
use tokio::time::Instant;

use crate::SKEIN;

#[test]
fn a_script_goes_from_a_file_to_an_answer_on_another_node() {
    let mesh = Mesh::start(SKEIN, 3);
    let file = mesh.file("warm.js", b"export default () => 'warm';");
    // The first script of a mesh has every node compile the guest that runs scripts.
    mesh.skein(0, &["publish", &file]).ok();
    let file =
        mesh.file("greet.js", b"export default async ({ name }, ctx) => ({ hello: name, version: ctx.version });");
    let begin = Instant::now();
    let published = mesh.skein(0, &["publish", &file]).ok().text();
    let answer = mesh.skein(1, &["invoke", "greet", "-d", r#"{"name": "Ann"}"#]).ok().text();
    let took = begin.elapsed();
    assert_eq!(answer, r#"{"hello":"Ann","version":1}"#);
    assert!(published.starts_with("default/greet@1 sha256:"), "{published}");
    println!("from publish to an answer on another node: {took:?}");
    let over_http = mesh.gateway(2).post("/fn/default/greet", br#"{"name": "Bob"}"#.to_vec());
    assert_eq!((over_http.status, over_http.text().as_str()), (200, r#"{"hello":"Bob","version":1}"#));
}

#[test]
fn scripts_of_several_files_call_each_other() {
    let mesh = Mesh::start(SKEIN, 2);
    mesh.file("shop/lib/tax.mjs", b"export const tax = (amount) => amount * 1.19;");
    mesh.file(
        "shop/index.js",
        b"import { tax } from './lib/tax.mjs';\nexport default (amount) => tax(amount).toFixed(2);\n",
    );
    let toml = mesh.file("shop/function.toml", b"name = \"tax\"\napp = \"shop\"\nmain = \"index.js\"\n");
    mesh.skein(0, &["publish", toml.trim_end_matches("/function.toml")]).ok();
    mesh.file(
        "cart/main.js",
        b"export default (amounts, ctx) => Promise.all(amounts.map((amount) => ctx.invoke('shop/tax', amount)));",
    );
    let toml =
        mesh.file("cart/function.toml", b"name = \"cart\"\nmain = \"main.js\"\n[grants]\ninvoke = [\"shop/*\"]\n");
    mesh.skein(0, &["publish", toml.trim_end_matches("/function.toml")]).ok();
    assert_eq!(mesh.skein(1, &["invoke", "cart", "-d", "[1, 10]"]).ok().text(), "[1.19,11.9]");
}

#[test]
fn what_is_wrong_with_a_script_is_said_with_its_place() {
    let mesh = Mesh::start(SKEIN, 1);
    let file = mesh.file("broken.js", b"export default () => {\n  return 1 +;\n};\n");
    let said = mesh.skein(0, &["publish", &file]).failed(1, "bad-module").stderr;
    assert!(said.contains("SyntaxError") && said.contains("broken.js:2:13"), "{said}");
    mesh.skein(0, &["function", "show", "broken"]).failed(1, "function-not-found");
    let file = mesh.file("fails.js", b"export default (input) => {\n  throw new RangeError(`no ${input}`);\n};\n");
    mesh.skein(0, &["publish", &file]).ok();
    let said = mesh.skein(0, &["invoke", "fails", "-d", "tea"]).failed(1, "function-failed").stderr;
    assert!(said.contains("RangeError: no tea (fails.js:2:9)"), "{said}");
    // The same without a mesh.
    let said = mesh.skein(0, &["run", &file, "-d", "tea"]).failed(1, "function-failed").stderr;
    assert!(said.contains("RangeError: no tea (fails.js:2:9)"), "{said}");
    let file = mesh.file("typed.ts", b"export default (n: number) => n;");
    mesh.skein(0, &["publish", &file]).failed(1, "bad-module");
}
