//! What is left of one call in the next, and what is new in each.

use std::collections::HashSet;

use skein_proto::{InstancePolicy, Manifest, Snapshot};

use crate::support::{call, load, load_as, manifest, text};

const COUNTER: &str = "let count = 0; export default () => (count += 1);";

#[test]
fn a_fresh_call_finds_nothing_of_another() {
    let program = load(COUNTER);
    for _ in 0..20 {
        assert_eq!(text(program.run(call(""))), "1");
    }
    let global = load(
        "export default () => { const had = globalThis.kept; globalThis.kept = Array.prototype.kept = 'x'; return String(had); }",
    );
    assert_eq!([text(global.run(call(""))), text(global.run(call("")))], ["undefined", "undefined"]);
}

#[test]
fn a_reused_instance_keeps_what_the_script_keeps_and_no_timers() {
    let manifest = Manifest { instance: InstancePolicy::Reuse, ..manifest() };
    let program = load_as(COUNTER.into(), &manifest).unwrap();
    assert_eq!([text(program.run(call(""))), text(program.run(call("")))], ["1", "2"]);
    let code = "let seen = 0; export default async () => { setTimeout(() => seen++, 1); Promise.resolve().then(() => {}); \
                const before = seen; await new Promise((done) => setTimeout(done, before ? 0 : 0)); return before; }";
    let program = load_as(code.into(), &manifest).unwrap();
    program.run(call("")).unwrap();
    assert!(["0", "1"].contains(&text(program.run(call(""))).as_str()));
}

#[test]
fn randomness_is_new_in_every_call() {
    let program = load("export default () => [Math.random(), crypto.randomUUID()]");
    let seen: HashSet<String> = (0..50).map(|_| text(program.run(call("")))).collect();
    assert_eq!(seen.len(), 50);
}

#[test]
fn a_top_level_that_asked_for_chance_or_time_is_run_for_every_call_unless_told_otherwise() {
    for code in [
        "const id = Math.random(); export default () => id;",
        "const id = crypto.randomUUID(); export default () => id;",
    ] {
        let different = |policy: Snapshot| {
            let manifest = Manifest { snapshot: policy, ..manifest() };
            let program = load_as(code.into(), &manifest).unwrap();
            (0..5).map(|_| text(program.run(call("")))).collect::<HashSet<_>>().len()
        };
        assert_eq!(different(Snapshot::Auto), 5, "{code}");
        assert_eq!(different(Snapshot::Always), 1, "{code}");
        assert_eq!(different(Snapshot::Never), 5, "{code}");
    }
}

#[test]
fn what_a_top_level_logs_is_in_the_log_of_every_call() {
    let code = "console.log('at the top'); export default () => 'done';";
    let logs = |policy: Snapshot| {
        let program = load_as(code.into(), &Manifest { snapshot: policy, ..manifest() }).unwrap();
        [0; 3].map(|_| String::from_utf8_lossy(&program.run(call("")).unwrap().log).matches("at the top").count())
    };
    assert_eq!(logs(Snapshot::Auto), [1, 1, 1]);
    assert_eq!(logs(Snapshot::Never), [1, 1, 1]);
    assert_eq!(logs(Snapshot::Always), [0, 0, 0], "its author says that it does not matter");
}

#[test]
fn a_clock_goes_on_from_an_image() {
    let program = load(
        "const list = []; export default async () => { const at = Date.now(); await new Promise((done) => setTimeout(done, 5)); return [at, performance.now() < 1000]; }",
    );
    let first = text(program.run(call("")));
    assert!(first.ends_with(",true]"), "{first}");
    assert_ne!(first, text(program.run(call(""))));
}

#[test]
fn a_thousand_slots_keep_no_secret() {
    let program = load(
        "export default (input) => { const found = globalThis.secret ?? ''; globalThis.secret = input + '-'.repeat(5000); return found.length; }",
    );
    for number in 0..1_000 {
        assert_eq!(text(program.run(call(&format!("canary-{number}")))), "0");
    }
}
