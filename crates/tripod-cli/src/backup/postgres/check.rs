//! Whether the files of a base backup are what was copied, and whether tables and indexes of a server are sound.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::PgPlace;
use super::tool::{self, Patience, Said};

/// It says nothing while it reads; a gigabyte takes about two seconds.
const FILES_WITHIN: Duration = Duration::from_secs(3600);

/// Compares each file in `base` with the manifest of [`super::base_backup`]; gives what is wrong, a sentence for each. What
/// the log holds is not looked at: only a recovery tells that.
pub(crate) fn verify_files(place: &PgPlace, base: &Path) -> anyhow::Result<Vec<String>> {
    let base = std::path::absolute(base).with_context(|| format!("cannot find {}", base.display()))?;
    let mut command = place.stack.client("pg_verifybackup");
    command.args(["--no-parse-wal", "--quiet"]).arg(base);
    let said = tool::run(command, Patience { total: Some(FILES_WITHIN), silent: FILES_WITHIN }, |_| Ok(()))?;
    let lines =
        said.err.lines().filter_map(|line| line.split_once("error: ")).map(|(_, words)| words.trim().to_owned());
    Ok(problems(&said, lines.collect()))
}

/// Reads every table and every index of a running server's databases and compares them with each other; gives what is
/// wrong, a sentence for each. Puts PostgreSQL's extension `amcheck` into each database; meant for a server that was
/// restored to be checked.
pub(crate) fn amcheck(place: &PgPlace, deadline: Duration) -> anyhow::Result<Vec<String>> {
    let mut command = place.stack.client("pg_amcheck");
    command.args(["--all", "--install-missing", "--heapallindexed", "--rootdescend", "--no-password"]);
    command.arg("--username").arg(place.stack.admin().user);
    let said = tool::run(command, Patience { total: Some(deadline), silent: deadline }, |_| Ok(()))?;
    // What is found comes on standard output: a line that names the relation, and lines set in about it.
    let mut found: Vec<String> = Vec::new();
    for line in said.out.lines().filter(|line| !line.trim().is_empty()) {
        match found.last_mut() {
            Some(last) if line.starts_with(char::is_whitespace) => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => found.push(line.trim().to_owned()),
        }
    }
    let lines =
        said.err.lines().filter_map(|line| line.split_once("error: ")).map(|(_, words)| words.trim().to_owned());
    found.extend(lines);
    Ok(problems(&said, found))
}

/// A program that fails has found something, if only that it could not look.
fn problems(said: &Said, mut found: Vec<String>) -> Vec<String> {
    if said.status.success() {
        return Vec::new();
    }
    if found.is_empty() {
        found.push(said.complaint());
    }
    found
}
