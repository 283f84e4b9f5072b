//! QuestDB: a Java program from one jar, with a small heap and a class-data archive.
//!
//! Constraints: about 1.1 s to ready and 230 MiB on two cores, where the defaults take 2.4 s and 340 MiB. That rests on
//! the serial collector, the first compiler tier, sleeping workers (see `conf/questdb/server.conf`) and the archive of
//! loaded classes. An archive fits one Java and one jar; it is written by the first start that ends in order and taken
//! by every later one.
//!
//! ```text
//! DATA/stack/questdb/conf/{server.conf,log.conf}   ours, written at each `up`
//! DATA/stack/questdb/{db,public,import,export}     its own
//! DATA/stack/questdb/tmp                           native libraries it unpacks; emptied before each start
//! DATA/stack/questdb/archive.new                   the archive while it is made
//! CACHE/questdb-VERSION-KEY.jsa                    the archive
//! ```

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::ServerName;
use crate::account::hand_over;
use crate::error::{During as _, Error, Result};
use crate::layout::{PRIVATE, make_dir, remove_dir};
use crate::programs::{cache_dir, major, named, not_it, path_dirs, version_line, why_not};
use crate::secrets::write_private;
use crate::server::{Probe, clean_command};
use crate::state::{Programs, Stack};
use crate::versions;

const SERVER_CONF: &str = include_str!("../conf/questdb/server.conf");
const LOG_CONF: &str = include_str!("../conf/questdb/log.conf");

/// The first bytes of every zip file that holds something.
const ZIP_BEGINS: &[u8; 4] = b"PK\x03\x04";

/// The login of HTTP and of the PostgreSQL protocol.
pub(crate) const USER: &str = "tripod";

/// Where memory and start are saved: see the module. `ops/systemd` has the same.
pub(crate) const JVM: [&str; 7] = [
    // Java reads paths by the locale: in plain C one with a letter beyond ASCII is not found.
    "-Dsun.jnu.encoding=UTF-8",
    "-Dfile.encoding=UTF-8",
    "-XX:+UseSerialGC",
    "-Xms32m",
    "-Xmx256m",
    "-XX:TieredStopAtLevel=1",
    // No files in /tmp for jps, which a killed process would leave there.
    "-XX:-UsePerfData",
];

/// What the module system must open to QuestDB.
pub(crate) const OPENS: [&str; 4] = ["java.lang", "java.lang.reflect", "java.nio", "java.time.zone"];

/// Finds Java, the jar, and the place of the archive that fits both.
pub(crate) fn find(programs: &mut Programs, fallback: &Path) -> Result<()> {
    let (java, release) = find_java()?;
    let jar = find_jar()?;
    let (size, modified) =
        std::fs::metadata(&jar).map(|meta| (meta.len(), meta.mtime_nsec())).during("look at", &jar)?;
    let mut hasher = DefaultHasher::new();
    (&java, release, &jar, size, modified).hash(&mut hasher);
    let name = format!("questdb-{}-{:016x}.jsa", versions::get("QUESTDB_VERSION"), hasher.finish());
    // A cache of somebody else's (a jar named by TRIPOD_QUESTDB_JAR, no home directory) is no place for the archive.
    let cache = cache_dir().filter(|dir| std::fs::create_dir_all(dir).is_ok() && writable(dir));
    programs.questdb_archive = cache.unwrap_or_else(|| fallback.to_owned()).join(name);
    programs.java = java;
    programs.questdb_jar = jar;
    Ok(())
}

fn writable(dir: &Path) -> bool {
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok()
}

fn find_jar() -> Result<PathBuf> {
    let name = format!("questdb-{}.jar", versions::get("QUESTDB_VERSION"));
    if let Some(jar) = named("TRIPOD_QUESTDB_JAR", &name)? {
        return match zip_trouble(&jar) {
            None => Ok(jar),
            Some(why) => Err(not_it("TRIPOD_QUESTDB_JAR", &jar, "a jar of QuestDB", &why)),
        };
    }
    let place = cache_dir().map(|dir| dir.join(&name));
    match &place {
        Some(jar) if jar.is_file() => Ok(jar.clone()),
        _ => Err(Error::Missing {
            what: name,
            looked: place
                .map_or_else(|| "no cache directory (HOME is not set)".to_owned(), |p| p.display().to_string()),
            wrong: None,
        }),
    }
}

/// What keeps a file from being a jar: those are zip files.
fn zip_trouble(path: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut first = [0_u8; ZIP_BEGINS.len()];
    match std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut first)) {
        Ok(()) if first == *ZIP_BEGINS => None,
        Ok(()) => Some("it is not a zip file".to_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Some("it is not a zip file".to_owned()),
        Err(e) => Some(format!("it cannot be read: {e}")),
    }
}

/// The first Java that is new enough, with what its `release` file says of it.
fn find_java() -> Result<(PathBuf, String)> {
    let wanted = versions::major("JAVA_MAJOR_MIN");
    let what = format!("Java {wanted} or newer");
    if let Some(java) = named("TRIPOD_JAVA", &what)? {
        // "openjdk version "17.0.18" 2026-01-20"
        let said = version_line(&java, "-version");
        let version = said.as_deref().filter(|said| said.contains(" version \"")).and_then(major);
        if version.is_none_or(|found| found < wanted) {
            return Err(not_it("TRIPOD_JAVA", &java, &what, &why_not(&java, said.as_deref())));
        }
        let release = release_of(&java).or(said).unwrap_or_default();
        return Ok((java, release));
    }
    let mut places: Vec<PathBuf> = Vec::new();
    places.extend(std::env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin")));
    places.extend(path_dirs());
    let installed = std::fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten();
    places.extend(installed.map(|entry| entry.path().join("bin")));
    for java in places.iter().map(|dir| dir.join("java")).filter(|java| java.is_file()) {
        let Some(release) = release_of(&java) else { continue };
        let version = release.lines().find_map(|line| line.strip_prefix("JAVA_VERSION="));
        if version.and_then(major).is_some_and(|found| found >= wanted) {
            return Ok((java, release));
        }
    }
    Err(Error::Missing { what, looked: "TRIPOD_JAVA, JAVA_HOME, PATH, /usr/lib/jvm".to_owned(), wrong: None })
}

fn release_of(java: &Path) -> Option<String> {
    let program = java.canonicalize().ok()?;
    std::fs::read_to_string(program.parent()?.parent()?.join("release")).ok()
}

/// Writes the two config files.
pub(crate) fn prepare(stack: &Stack) -> Result<()> {
    let root = stack.layout.dir(ServerName::QuestDb);
    for dir in [root.clone(), root.join("conf"), root.join("tmp")] {
        make_dir(&dir, PRIVATE)?;
    }
    let (ports, password) = (&stack.state.ports, stack.state.passwords.questdb.expose());
    let own = format!(
        "\n# This stack's own; written at each `tripod up`.\n\
         http.net.bind.to=127.0.0.1:{}\nhttp.min.net.bind.to=127.0.0.1:{}\npg.net.bind.to=127.0.0.1:{}\n\
         http.user={USER}\nhttp.password={password}\npg.user={USER}\npg.password={password}\n",
        ports.questdb_http, ports.questdb_metrics, ports.questdb_pg
    );
    write_private(&root.join("conf").join("server.conf"), &format!("{SERVER_CONF}{own}"), None)?;
    write_private(&root.join("conf").join("log.conf"), LOG_CONF, None)
}

/// The command that starts it; empties what an earlier run left in its temporary directory.
pub(crate) fn command(stack: &Stack) -> Result<Command> {
    let root = stack.layout.dir(ServerName::QuestDb);
    let tmp = root.join("tmp");
    remove_dir(&tmp)?;
    make_dir(&tmp, PRIVATE)?;
    distrust_archive(stack);
    let programs = &stack.state.programs;
    let mut command = clean_command(&programs.java);
    command.env("LC_ALL", "C.UTF-8").args(JVM);
    if programs.questdb_archive.is_file() {
        // "auto": an archive that does not fit any more is passed over, not an error.
        command.arg("-Xshare:auto").arg(joined("-XX:SharedArchiveFile=", &programs.questdb_archive));
    } else {
        let new = new_archive(stack);
        let _ = std::fs::remove_file(&new);
        command.arg(joined("-XX:ArchiveClassesAtExit=", &new));
    }
    // Nor for native libraries.
    command.arg(joined("-Djava.io.tmpdir=", &tmp));
    command.arg(joined("-XX:ErrorFile=", &crash_report(stack)));
    command.arg(format!("-Dtripod.stack={}", stack.tag(ServerName::QuestDb)));
    command.args(OPENS.map(|package| format!("--add-opens=java.base/{package}=io.questdb")));
    command.arg("-p").arg(&programs.questdb_jar).args(["-m", "io.questdb/io.questdb.ServerMain", "-d"]).arg(&root);
    command.current_dir(&root);
    Ok(command)
}

fn joined(flag: &str, path: &Path) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from(flag);
    argument.push(path);
    argument
}

fn new_archive(stack: &Stack) -> PathBuf {
    stack.layout.dir(ServerName::QuestDb).join("archive.new")
}

fn crash_report(stack: &Stack) -> PathBuf {
    stack.layout.logs().join("questdb-crash.log")
}

/// Java checks little of an archive before it uses it: one that is damaged ends it in its first second, each time. A
/// crash that early is put down to the archive, which is only a cache. The report is put aside, so that it counts once.
fn distrust_archive(stack: &Stack) {
    let report = crash_report(stack);
    let Ok(text) = std::fs::read_to_string(&report) else { return };
    if elapsed_seconds(&text).is_some_and(|seconds| seconds < 1) {
        let _ = std::fs::remove_file(&stack.state.programs.questdb_archive);
    }
    let _ = std::fs::rename(&report, report.with_extension("log.1"));
}

/// The whole seconds in "Time: … elapsed time: 0.022 seconds (0d 0h 0m 0s)".
fn elapsed_seconds(report: &str) -> Option<u64> {
    report.split_once("elapsed time: ")?.1.split('.').next()?.parse().ok()
}

/// Keeps the archive that a run which ended in order has written. Best effort: without one the next start is slower.
pub(crate) fn keep_archive(stack: &Stack) {
    let (new, place) = (new_archive(stack), &stack.state.programs.questdb_archive);
    // The place is not known where the state was lost.
    // And root writes nowhere because a user's file says so.
    if !new.is_file() || place.is_file() || !place.is_absolute() || stack.user().is_some() {
        return;
    }
    // The cache may be on another disk: copied beside its place, and put there at once when all of it is on disk.
    let beside = place.with_extension(format!("{}.new", stack.state.id));
    let kept = std::fs::copy(&new, &beside)
        .and_then(|_| std::fs::File::open(&beside))
        .and_then(|file| hand_over(&file, &beside).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, place));
    if kept.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    let _ = std::fs::remove_file(&new);
}

/// Asks for `select build()` over HTTP with the login, then for a connection on the other two ports.
pub(crate) fn probe(stack: &Stack, at_most: Duration) -> Probe {
    let (ports, password) = (&stack.state.ports, stack.state.passwords.questdb.expose());
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(at_most)).proxy(None).build().into();
    let url = format!("http://{USER}:{password}@127.0.0.1:{}/exec?query=select%20build()", ports.questdb_http);
    let text = match agent.get(&url).call() {
        Ok(mut answer) => match answer.body_mut().read_to_string() {
            Ok(text) => text,
            Err(_) => return Probe::Silent("its answer over HTTP broke off".to_owned()),
        },
        // The text of such an error may hold the address, and with it the password.
        Err(ureq::Error::StatusCode(code)) => return Probe::Silent(format!("answers HTTP status {code}")),
        Err(ureq::Error::Timeout(_)) => return Probe::Silent(format!("no answer over HTTP within {at_most:?}")),
        Err(ureq::Error::Io(e)) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
            return Probe::Starting("does not listen yet".to_owned());
        }
        Err(_) => return Probe::Silent("no answer over HTTP".to_owned()),
    };
    for (what, port) in [("PostgreSQL protocol", ports.questdb_pg), ("metrics", ports.questdb_metrics)] {
        if std::net::TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), at_most).is_err() {
            return Probe::Starting(format!("does not listen on its port for {what} yet"));
        }
    }
    let version = text.split_once("QuestDB ").and_then(|(_, rest)| rest.split([',', '"']).next());
    Probe::Ready(version.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_crash_is_read() {
        let report = "Time: Mon Nov 23 13:56:55 2026 UTC elapsed time: 0.022177 seconds (0d 0h 0m 0s)\n";
        assert_eq!(elapsed_seconds(report), Some(0));
        assert_eq!(elapsed_seconds(&report.replace("0.022177", "4711.5")), Some(4711));
        assert_eq!(elapsed_seconds("no report"), None);
    }
}
