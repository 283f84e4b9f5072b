//! Passwords: on no command line at any time, in no log, in no file that others may read.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::scene::{Scene, command_line};

/// Every command line that appears while `work` runs.
fn command_lines_during(work: impl FnOnce()) -> HashSet<String> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = HashSet::new();
            while !over.load(Ordering::Relaxed) {
                for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                    if let Ok(pid) = entry.file_name().to_string_lossy().parse() {
                        seen.insert(command_line(pid));
                    }
                }
            }
            seen
        });
        work();
        over.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    })
}

fn files_below(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files_below(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

#[test]
fn passwords_are_seen_by_their_owner_alone() {
    let scene = Scene::new();
    let seen = command_lines_during(|| drop(scene.up()));
    let passwords = scene.state()["passwords"].clone();
    let passwords: Vec<&str> = passwords.as_object().unwrap().values().map(|value| value.as_str().unwrap()).collect();
    assert_eq!(passwords.iter().collect::<HashSet<_>>().len(), 8, "each login has its own");
    assert!(seen.iter().any(|line| line.contains("initdb")), "the watcher has seen the setup");
    for line in &seen {
        assert!(!passwords.iter().any(|password| line.contains(password)), "a password is on: {line}");
    }

    let mut files = Vec::new();
    files_below(scene.data(), &mut files);
    let mut holders = 0;
    for file in &files {
        // What a server writes while this looks may be gone again.
        let (Ok(found), Ok(bytes)) = (std::fs::metadata(file), std::fs::read(file)) else { continue };
        let text = String::from_utf8_lossy(&bytes);
        if passwords.iter().any(|password| text.contains(password)) {
            holders += 1;
            assert_eq!(found.permissions().mode() & 0o7777, 0o600, "{}", file.display());
            assert_ne!(file.extension().and_then(|end| end.to_str()), Some("log"), "{}", file.display());
        }
    }
    // The state, the config, QuestDB's config, two lists of Redis users, PostgreSQL's pass file; nothing else of it.
    assert_eq!(holders, 6);
}
