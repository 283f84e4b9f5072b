//! `tripod config prometheus`: what it writes, what it keeps, and what the login that it makes may not do.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tripod_stack::{ServerName, TestStack};

use crate::files::text;
use crate::programs::tool;
use crate::run::{Said, run};

fn made(dir: &Path, arguments: &[&str]) -> Said {
    run(dir, &[&["--config", "c.toml", "config", "prometheus", "out"], arguments].concat())
}

#[test]
fn the_files_of_the_defaults_are_those_of_ops_and_edited_ones_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("c.toml"), "[[questdb]]\npassword = \"hunter2\"\n").unwrap();
    let arguments = ["--files-only", "--bot", "127.0.0.1:9601", "--runbooks", "https://wiki/alerts", "--json"];
    let said = made(dir.path(), &arguments);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(!said.out.contains("hunter2") && !said.err.contains("hunter2"), "{said:?}");
    assert_eq!(said.json()["logins"], serde_json::json!([]));
    let out = dir.path().join("out");
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(read("prometheus.yml"), text("ops/prometheus/prometheus.yml"));
    assert_eq!(read("alertmanager.yml"), text("ops/alertmanager.yml"));
    assert_eq!(read("alerts.md"), text("docs/alerts.md"));
    let links = read("alerts.yml").matches("runbook_url: https://wiki/alerts#tripod").count();
    assert_eq!(links, text("ops/prometheus/alerts.yml").matches("- alert: ").count());
    assert_eq!(read("secrets/questdb-main"), "hunter2");
    for secret in std::fs::read_dir(out.join("secrets")).unwrap() {
        let mode = secret.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    tool("promtool", &["check", "config", out.join("prometheus.yml").to_str().unwrap()]);
    tool("amtool", &["check-config", out.join("alertmanager.yml").to_str().unwrap()]);

    std::fs::write(out.join("alertmanager.yml"), "mine").unwrap();
    let again = made(dir.path(), &["--files-only", "--json"]);
    assert_eq!(again.json()["kept"], serde_json::json!(["alerts.yml", "alertmanager.yml"]));
    assert_eq!(read("alertmanager.yml"), "mine");
    assert!(!read("prometheus.yml").contains("job_name: bot"), "what follows from the config is written anew");
    assert_eq!(made(dir.path(), &["--files-only", "--replace"]).code, Some(0));
    assert_eq!(read("alertmanager.yml"), text("ops/alertmanager.yml"));
}

#[test]
fn wrong_usage_and_servers_that_are_away_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("c.toml"), "[postgres]\nhosts = [\"127.0.0.1:9\"]\n").unwrap();
    let usage = made(dir.path(), &["--bot", "nowhere"]);
    assert_eq!(usage.code, Some(2), "{usage:?}");
    assert!(usage.err.contains("nowhere") && usage.err.contains("\nhint: "), "{usage:?}");
    let away = made(dir.path(), &[]);
    assert_eq!(away.code, Some(3), "{away:?}");
    assert!(!dir.path().join("out/secrets/postgres").exists(), "a password that no server knows");
    std::fs::write(dir.path().join("c.toml"), "[postgres]\nhosts = [\"/run/postgresql:5432\"]\n").unwrap();
    assert_eq!(made(dir.path(), &["--files-only"]).code, Some(2));
}

/// The exporters' login reads figures; it reads no table, no key, and changes nothing.
pub(crate) fn assert_the_login_can_do_no_more(stack: &TestStack, dir: &Path) {
    let secret = |name: &str| std::fs::read_to_string(dir.join("secrets").join(name)).unwrap();
    let address = stack.address(ServerName::Postgres);
    let (host, port) = address.split_once(':').unwrap();
    let mut login = tokio_postgres::Config::new();
    login.host(host).port(port.parse().unwrap()).dbname("tripod").user("tripod_exporter").password(secret("postgres"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = login.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("SELECT * FROM pg_stat_activity").await.unwrap();
        // What it is not allowed to do, also where it does not keep to reading alone.
        client.batch_execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE").await.unwrap();
        for refused in ["SELECT * FROM tripod.settings", "CREATE TABLE public.mine ()", "CREATE ROLE mine"] {
            let error = client.batch_execute(refused).await.unwrap_err();
            assert_eq!(
                error.code(),
                Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE),
                "{refused}: {error:?}"
            );
        }
    });
    let passwords: serde_json::Value = serde_json::from_str(&secret("redis.json")).unwrap();
    for server in [ServerName::RedisPrices, ServerName::RedisEvents] {
        let (address, prefix) = (stack.address(server), "redis://tripod_exporter");
        let password = passwords[format!("{prefix}@{address}")].as_str().unwrap();
        let client = redis::Client::open(format!("{prefix}:{password}@{address}")).unwrap();
        runtime.block_on(async {
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            redis::cmd("INFO").exec_async(&mut connection).await.unwrap();
            for refused in
                [&["GET", "x"][..], &["SET", "x", "1"], &["CONFIG", "GET", "*"], &["KEYS", "*"], &["ACL", "LIST"]]
            {
                let mut command = redis::cmd(refused[0]);
                let said = command.arg(&refused[1..]).exec_async(&mut connection).await;
                assert!(said.is_err_and(|error| error.to_string().contains("permission")), "{server}: {refused:?}");
            }
        });
    }
}
