//! `ops/` says the same as this crate: versions, flags, users, rights. What each of its files does on real servers is tested
//! beside the binary (`tests/cli/units.rs`).

use std::path::Path;

use crate::{postgres, questdb, redis, versions};

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The image of a service in `compose.yml`.
fn image(compose: &str, service: &str) -> String {
    let (_, rest) = compose.split_once(&format!("\n  {service}:\n")).unwrap();
    let line = rest.lines().find_map(|line| line.trim().strip_prefix("image: "));
    line.unwrap().to_owned()
}

#[test]
fn the_versions_are_those_of_the_one_file() {
    let (questdb, postgres) = (versions::get("QUESTDB_VERSION"), versions::get("POSTGRES_MAJOR_MIN"));
    let redis = versions::get("REDIS_MAJOR_MIN");
    assert!(read("systemd/tripod-questdb.service").contains(&format!("/usr/share/tripod/questdb-{questdb}.jar ")));
    let unit = read("systemd/tripod-postgres.service");
    assert_eq!(unit.matches("/usr/lib/postgresql/").count(), 2);
    assert_eq!(unit.matches(&format!("/usr/lib/postgresql/{postgres}/bin")).count(), 2);
    let compose = read("compose.yml");
    assert_eq!(image(&compose, "questdb"), format!("questdb/questdb:{questdb}"));
    assert_eq!(image(&compose, "postgres"), format!("postgres:{postgres}-bookworm"));
    for service in ["redis-prices", "redis-events"] {
        assert!(image(&compose, service).starts_with(&format!("redis:{redis}.")), "{service}");
    }
}

#[test]
fn the_config_files_are_the_stacks_own_and_nothing_is_set_beside_them_but_places_and_ports() {
    let compose = read("compose.yml");
    for (unit, files) in [
        ("tripod-questdb", &["/etc/tripod/questdb/server.conf", "/etc/tripod/questdb/log.conf"][..]),
        ("tripod-postgres", &["/etc/tripod/postgres/postgresql.conf", "/etc/tripod/postgres/pg_hba.conf"]),
        ("tripod-redis-prices", &["/etc/tripod/redis/prices.conf"]),
        ("tripod-redis-events", &["/etc/tripod/redis/events.conf"]),
    ] {
        let text = read(&format!("systemd/{unit}.service"));
        for file in files {
            assert!(text.contains(file), "{unit} does not read {file}");
            let name = file.rsplit('/').next().unwrap();
            assert!(compose.contains(name), "compose.yml does not read {name}");
        }
    }
    // Where a command line sets something, it is one of these.
    let allowed = ["config_file", "hba_file", "port", "unix_socket_directories"];
    for line in read("systemd/tripod-postgres.service").lines().filter(|line| line.contains("-c ")) {
        for setting in line.split("-c ").skip(1) {
            assert!(allowed.contains(&setting.split('=').next().unwrap()), "{line}");
        }
    }
    let allowed = ["--supervised", "--port", "--unixsocket", "--unixsocketperm", "--dir", "--aclfile"];
    for kind in ["prices", "events"] {
        let text = read(&format!("systemd/tripod-redis-{kind}.service"));
        let (_, command) = text.split_once("ExecStart=").unwrap();
        let (command, _) = command.split_once("\nTimeout").unwrap();
        for word in command.split_whitespace().filter(|word| word.starts_with("--")) {
            assert!(allowed.contains(&word), "{word}");
        }
    }
}

#[test]
fn flags_users_and_rights_are_the_stacks() {
    let unit = read("systemd/tripod-questdb.service");
    for flag in questdb::JVM {
        assert!(unit.contains(&format!(" {flag} ")), "{flag}");
    }
    for package in questdb::OPENS {
        assert!(unit.contains(&format!("--add-opens=java.base/{package}=io.questdb")), "{package}");
    }
    let init = read("init");
    let rules: Vec<&str> = redis::BOT_RULES.split_whitespace().collect();
    assert!(init.contains(&rules.join(" ")), "the bot's rights at Redis are other ones");
    assert!(init.contains("user default off resetpass resetchannels ~* &* +@all"));
    for (user, lines) in [(redis::BOT, 2), (redis::ADMIN, 2), (postgres::BOT, 1), (postgres::ADMIN, 1)] {
        assert!(init.matches(&format!("user = \"{user}\"")).count() >= lines, "{user}");
    }
    assert!(init.contains(&format!("QDB_HTTP_USER={}", questdb::USER)));
    let cluster = read("systemd/postgres-init");
    let compose = read("compose.yml");
    // postgresql.conf's limits of the log go with segments of 1 MiB.
    for word in ["-A scram-sha-256", "--data-checksums", "--locale=C", "-E UTF8", "--wal-segsize=1"] {
        assert!(cluster.contains(word) && compose.contains(word), "{word}");
    }
    assert!(cluster.contains("-U tripod_admin") && compose.contains("POSTGRES_USER: tripod_admin"));
    assert!(cluster.contains(&format!("CREATE ROLE {} ", postgres::BOT)));
    assert!(cluster.contains(&format!("CREATE DATABASE {};", postgres::DATABASE)));
}
