//! What the documents must agree on: the numbers of decision records, and the commands of the README and of CI.

use crate::Finding;

/// The two commands with which a newcomer does everything.
const COMMANDS: &[&str] = &["cargo run --release -- demo", "cargo test --workspace"];
/// The one of them that CI runs as it is; what the other shows, a whole-program test does too.
const CI_COMMAND: &str = "cargo test --workspace";

/// Checks the names of the files in `docs/decisions`: NNNN-title.md, from 0001 without a gap or a number used twice.
pub fn check_decisions(names: &[String]) -> Vec<Finding> {
    let mut names = names.to_vec();
    names.sort();
    let mut findings = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let number = name.split_once('-').and_then(|(number, _)| number.parse::<usize>().ok());
        let is_formed = name.ends_with(".md") && name.find('-') == Some(4);
        if number != Some(at + 1) || !is_formed {
            let advice =
                format!("should be number {:04}, as NNNN-title.md: records are numbered without a gap", at + 1);
            findings.push(Finding::new(&format!("docs/decisions/{name}"), 1, advice));
        }
    }
    findings
}

/// Checks that the README shows the two commands, each alone on a line, and that CI runs the tests by the same one.
pub fn check_commands(readme: &str, ci: &str) -> Vec<Finding> {
    let has_line = |text: &str, command: &str| text.lines().any(|line| line.trim() == command);
    let mut findings: Vec<_> = COMMANDS
        .iter()
        .filter(|command| !has_line(readme, command))
        .map(|command| Finding::new("README.md", 1, format!("must show `{command}` alone on a line")))
        .collect();
    let runs = |line: &str| line.split("run ").last().is_some_and(|tail| tail.trim() == CI_COMMAND);
    if !ci.lines().any(|line| !line.trim_start().starts_with('#') && runs(line)) {
        findings.push(Finding::new(".ci/run", 1, format!("must run `{CI_COMMAND}`, as the README says")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_names(names: &[&str], expected: &[&str]) {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let found: Vec<_> = check_decisions(&names).into_iter().map(|finding| finding.file).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn records_are_numbered_without_a_gap() {
        check_names(&["0002-b.md", "0001-a.md"], &[]);
        check_names(&["0001-a.md", "0003-c.md"], &["docs/decisions/0003-c.md"]);
        check_names(&["0001-a.md", "0001-b.md"], &["docs/decisions/0001-b.md"]);
        check_names(&["1-a.md"], &["docs/decisions/1-a.md"]);
    }

    #[test]
    fn the_readme_and_ci_name_the_same_commands() {
        let readme = "```sh\ncargo run --release -- demo\n```\n```sh\ncargo test --workspace\n```\n";
        assert_eq!(check_commands(readme, "section tests\nrun cargo test --workspace\n"), []);
        assert_eq!(check_commands(readme, "# run cargo test --workspace\n").len(), 1);
        assert_eq!(check_commands(readme, "run cargo test --workspace --lib\n").len(), 1);
        assert_eq!(check_commands("cargo test", "cargo test --workspace").len(), 2);
    }
}
