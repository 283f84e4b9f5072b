//! What cannot work is refused in one clear sentence, with the next step, and nothing is left behind.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use tripod_stack::{Error, RunState, down, up};

use crate::scene::{Scene, is_root, processes_with};

#[test]
fn a_file_in_place_of_the_directory() {
    let scene = Scene::new();
    std::fs::write(scene.data(), "").unwrap();
    let error = up(&scene.options()).unwrap_err();
    assert!(matches!(error, Error::DataDir { .. }), "{error:?}");
    assert!(error.to_string().ends_with("is a file"), "{error}");
    assert!(error.hint().unwrap().contains("--data"));
    std::fs::remove_file(scene.data()).unwrap();
}

#[test]
fn a_config_file_that_is_not_one_is_left_as_it_is() {
    let scene = Scene::new();
    std::fs::create_dir(scene.data()).unwrap();
    let path = scene.data().join("tripod.toml");
    for text in ["fine = 1\npassword = \"s3cret\n", "redis = 7\n"] {
        std::fs::write(&path, text).unwrap();
        let error = up(&scene.options()).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error:?}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
        assert!(error.hint().unwrap().contains("tripod.toml"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        assert!(!scene.data().join("stack").exists(), "nothing is left behind");
    }
}

#[test]
fn a_directory_of_somebody_else_is_not_wiped() {
    let scene = Scene::new();
    let theirs = scene.data().join("stack/precious");
    std::fs::create_dir_all(theirs.parent().unwrap()).unwrap();
    std::fs::write(&theirs, "precious").unwrap();
    let error = down(scene.data(), true).unwrap_err();
    assert!(matches!(error, Error::NotOurs { .. }), "{error:?}");
    assert_eq!(std::fs::read_to_string(&theirs).unwrap(), "precious");
    assert!(!down(scene.data(), false).unwrap().wiped);
}

/// A copy has the id of the original: it would end the original's servers.
#[test]
fn a_copy_is_not_taken_for_the_original() {
    let scene = Scene::new();
    let mut options = scene.options();
    options.servers = tripod_stack::Servers::only(tripod_stack::ServerName::RedisPrices);
    up(&options).unwrap();
    let copy = scene.root().join("copy");
    let copied = Command::new("cp").arg("-a").arg(scene.data()).arg(&copy).status().unwrap();
    assert!(copied.success());
    options.data_dir.clone_from(&copy);
    let error = up(&options).unwrap_err();
    assert!(matches!(error, Error::Copied { .. }), "{error:?}");
    assert!(matches!(down(&copy, true).unwrap_err(), Error::Copied { .. }));
    scene.await_all_running();
}

#[test]
fn a_missing_program_is_named() {
    let scene = Scene::new();
    let mut process = scene.process("up");
    let output = process.env_remove("TRIPOD_REDIS_SERVER").env("PATH", "/nowhere").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("Redis 7 or newer"), "{text}");
    assert!(text.contains("was not found; looked at TRIPOD_REDIS_SERVER, PATH"), "{text}");
    assert!(text.contains("HINT run scripts/install-servers"), "{text}");
    assert!(!scene.data().exists(), "nothing is left behind");
}

#[test]
fn what_a_variable_names_is_looked_at() {
    let scene = Scene::new();
    let cases = [
        ("TRIPOD_JAVA", "/bin/false", "is not Java 17 or newer: /bin/false does not run"),
        ("TRIPOD_JAVA", "/etc/passwd", "is not Java 17 or newer: /etc/passwd does not run"),
        ("TRIPOD_JAVA", "/no/such/java", "there is no such file"),
        ("TRIPOD_JAVA", "/usr/bin/redis-server", "is not Java 17 or newer"),
        ("TRIPOD_REDIS_SERVER", "/bin/true", "is not Redis"),
        ("TRIPOD_POSTGRES_BIN", "/bin", "there is no `postgres` in it"),
        ("TRIPOD_QUESTDB_JAR", "/etc/passwd", "is not a jar of QuestDB: it is not a zip file"),
        ("TRIPOD_QUESTDB_JAR", "/dev/null", "it is not a zip file"),
        ("TRIPOD_QUESTDB_JAR", "/", "is not a jar of QuestDB: it cannot be read"),
    ];
    for (variable, value, words) in cases {
        let output = scene.process("up").env(variable, value).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&format!("ERROR {variable} names {value}, which")), "{text}");
        assert!(text.contains(words), "{text}");
        assert!(text.contains(&format!("HINT correct {variable}, or unset it")), "{text}");
        assert!(!scene.data().exists(), "nothing is left behind: {text}");
    }
}

#[test]
fn a_path_with_a_line_break_is_refused() {
    let scene = Scene::below("new\nline");
    let error = up(&scene.options()).unwrap_err();
    assert!(matches!(error, Error::DataDir { .. }), "{error:?}");
    assert!(error.to_string().contains("new\\nline has a control character"), "{error}");
    assert!(!scene.data().exists());
}

#[test]
fn a_wipe_where_no_stack_is_says_so() {
    let scene = Scene::new();
    assert!(!down(scene.data(), true).unwrap().found);
    std::fs::create_dir(scene.data()).unwrap();
    let report = down(scene.data(), true).unwrap();
    assert!(!report.found && !report.wiped, "{report:?}");
    assert!(scene.data().exists(), "it is the user's");
}

/// What an `up` leaves that was killed before it wrote its state.
#[test]
fn a_directory_that_up_had_just_made_goes_with_a_wipe() {
    for (lock, made) in [("made\n", true), ("", false)] {
        let scene = Scene::new();
        std::fs::create_dir_all(scene.data().join("stack")).unwrap();
        std::fs::write(scene.data().join("stack/lock"), lock).unwrap();
        assert!(down(scene.data(), true).unwrap().wiped);
        assert!(!scene.data().join("stack").exists());
        assert_eq!(scene.data().exists(), !made);
    }
}

#[test]
fn a_config_file_that_was_broken_does_not_block_a_wipe() {
    for text in [&b"password = \"s3cret\n"[..], b"\xff"] {
        let scene = Scene::new();
        let mut options = scene.options();
        options.servers = tripod_stack::Servers::only(tripod_stack::ServerName::RedisPrices);
        up(&options).unwrap();
        let (config, mark) = (scene.data().join("tripod.toml"), scene.mark());
        std::fs::write(&config, text).unwrap();
        let report = down(scene.data(), true).unwrap();
        assert!(report.wiped && report.notes.iter().any(|note| note.contains("tripod.toml")), "{report:?}");
        assert_eq!(std::fs::read(&config).unwrap(), text);
        assert!(!scene.data().join("stack").exists());
        assert_eq!(processes_with(&mark), Vec::<u32>::new());
    }
}

/// A server that ends at once: its own words are shown, and the others do not stay behind.
#[test]
fn a_server_that_does_not_stay_up_is_shown_with_its_last_words() {
    let scene = Scene::new();
    let broken = scene.root().join("redis-server");
    let script = "#!/bin/sh\n[ \"$1\" != --version ] || { echo Redis server v=7.9.9; exit; }\n\
                  echo 'these are its last words' >&2\nexit 1\n";
    std::fs::write(&broken, script).unwrap();
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut process = scene.process("up");
    let output = process.env("TRIPOD_REDIS_SERVER", &broken).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("redis-") && text.contains("these are its last words"), "{text}");
    assert!(scene.check().iter().all(|server| server.state == RunState::Stopped), "{:?}", scene.check());
    assert_eq!(processes_with(&scene.mark()), Vec::<u32>::new());

    // With the right program it is a stack.
    scene.up();
    scene.await_all_running();
}

#[test]
fn a_full_disk_is_said_before_anything_is_started() {
    if !is_root() {
        // A small disk can be made by root alone.
        return;
    }
    let scene = Scene::below("disk/data");
    let disk = scene.root().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(&disk).status().unwrap();
    if !mounted.success() {
        // A container may not let its root do that.
        return;
    }
    let error = up(&scene.options()).unwrap_err();
    let left = scene.data().exists();
    let unmounted = Command::new("umount").arg(&disk).status().unwrap();
    assert!(unmounted.success());
    let Error::DiskFull { free_mib, needed_mib, .. } = error else { panic!("{error:?}") };
    assert!(free_mib <= 64 && needed_mib >= 300, "{free_mib} {needed_mib}");
    assert!(!left, "nothing is left behind");
}

#[test]
fn a_directory_without_the_right_to_write_is_said() {
    if is_root() {
        // Root writes everywhere but on a disk that is mounted for reading.
        let scene = Scene::below("disk/data");
        let disk = scene.root().join("disk");
        std::fs::create_dir(&disk).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m,ro", "tmpfs"]).arg(&disk).status().unwrap();
        if !mounted.success() {
            return;
        }
        let error = up(&scene.options()).unwrap_err();
        assert!(Command::new("umount").arg(&disk).status().unwrap().success());
        assert!(matches!(error, Error::DataDir { .. }), "{error:?}");
        return;
    }
    let scene = Scene::new();
    std::fs::create_dir(scene.data()).unwrap();
    std::fs::set_permissions(scene.data(), std::fs::Permissions::from_mode(0o500)).unwrap();
    let error = up(&scene.options()).unwrap_err();
    std::fs::set_permissions(scene.data(), std::fs::Permissions::from_mode(0o700)).unwrap();
    assert!(matches!(error, Error::DataDir { .. }), "{error:?}");
    assert!(error.to_string().contains("cannot be written to"), "{error}");
}
