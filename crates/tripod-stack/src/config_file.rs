//! `DATA/tripod.toml`: what a bot and every command read to find the servers.
//!
//! Constraints: the file belongs to the user. `up` sets the keys that say where its servers are and leaves everything
//! else as it is: other keys, comments, order. A file that is not TOML is an error and stays untouched. The key names are
//! those of `tripod::config`; a test of that crate reads what is written here.

use std::path::Path;

use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, value};

use crate::ServerName;
use crate::error::{During as _, Error, Result};
use crate::secrets::{Secret, write_private};
use crate::state::Stack;
use crate::{postgres, questdb, redis, replication};

const HEADER: &str = "\
# Written by `tripod up`. It sets the addresses, users and passwords of its own servers below and leaves the rest to you:
# add any key of `tripod config reference`. Holds passwords: keep it readable by its owner alone.
";

/// Fails where the file is there and cannot be edited: asked before anything is started.
pub(crate) fn check(stack: &Stack) -> Result<()> {
    edited(stack).map(|_| ())
}

/// Writes the file where it is not as it should be.
pub(crate) fn write(stack: &Stack) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = stack.layout.config();
    let (old, new) = edited(stack)?;
    let mode = std::fs::metadata(&path).map(|meta| meta.permissions().mode() & 0o7777);
    if old.as_deref() == Some(&new) && mode.is_ok_and(|mode| mode == 0o600) {
        return Ok(());
    }
    write_private(&path, &new, None)
}

/// Removes what [`write`] wrote; the file too where nothing else is in it. One that cannot be edited stays, and is said.
pub(crate) fn remove(stack: &Stack) -> Result<Option<String>> {
    let path = stack.layout.config();
    match read(&path) {
        Ok(None) => Ok(None),
        Ok(Some((text, document))) => remove_from(stack, &path, &text, document).map(|()| None),
        Err(error @ Error::Config { .. }) => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    }
}

fn remove_from(stack: &Stack, path: &Path, text: &str, mut document: DocumentMut) -> Result<()> {
    if text == fresh(stack) {
        return std::fs::remove_file(path).during("remove", path);
    }
    for server in stack.state.servers.iter() {
        for (table, keys) in owned(stack, server) {
            let Some(place) = table_of(&mut document, table, false) else { continue };
            for (key, _) in keys {
                place.remove(key);
            }
        }
    }
    prune(document.as_table_mut());
    if document.as_table().is_empty() {
        return std::fs::remove_file(path).during("remove", path);
    }
    write_private(path, &document.to_string(), None)
}

/// The file as it is, where there is one, and as it should be.
fn edited(stack: &Stack) -> Result<(Option<String>, String)> {
    let path = stack.layout.config();
    let Some((text, mut document)) = read(&path)? else { return Ok((None, fresh(stack))) };
    for server in stack.state.servers.iter() {
        for (table, keys) in owned(stack, server) {
            let place = table_of(&mut document, table, true).ok_or_else(|| Error::Config {
                path: path.clone(),
                what: format!("has a `{table}` that is not a table"),
            })?;
            for (key, new) in keys {
                set(place, key, new);
            }
        }
    }
    Ok((Some(text), document.to_string()))
}

/// The file as `up` writes it where there is none.
fn fresh(stack: &Stack) -> String {
    let mut text = HEADER.to_owned();
    for server in [ServerName::QuestDb, ServerName::Postgres, ServerName::RedisPrices, ServerName::RedisEvents] {
        if !stack.state.servers.has(server) {
            continue;
        }
        for (table, keys) in owned(stack, server) {
            let head = if table == QUESTDB { format!("\n[[{table}]]\n") } else { format!("\n[{table}]\n") };
            text.push_str(&head);
            for (key, new) in keys {
                text.push_str(&format!("{key} = {new}\n"));
            }
            let places = &stack.state.places;
            match server {
                ServerName::QuestDb => {}
                ServerName::Postgres => {
                    let (dir, port) = (places.postgres_sockets(), stack.state.ports.postgres);
                    text.push_str(&format!("# The same by unix socket: {}:{port}\n", dir.display()));
                }
                ServerName::RedisEvents if stack.state.servers.events_ha => {}
                _ => {
                    text.push_str(&format!("# The same by unix socket: {}\n", places.redis_socket(server).display()));
                }
            }
        }
    }
    text
}

const QUESTDB: &str = "questdb";

/// The keys that `up` owns, by table.
fn owned(stack: &Stack, server: ServerName) -> Vec<(&'static str, Vec<(&'static str, toml_edit::Value)>)> {
    let (ports, passwords) = (&stack.state.ports, &stack.state.passwords);
    let address = |port: u16| format!("127.0.0.1:{port}");
    let list = |port: u16| toml_edit::Value::Array(Array::from_iter([address(port)]));
    let redis = |server: ServerName, bot: &Secret, admin: &Secret| {
        vec![
            ("mode", "single".into()),
            ("addresses", list(ports.first(server))),
            ("user", redis::BOT.into()),
            ("password", bot.expose().into()),
            ("admin_user", redis::ADMIN.into()),
            ("admin_password", admin.expose().into()),
        ]
    };
    if server == ServerName::RedisEvents && stack.state.servers.events_ha {
        let mut keys = redis(server, &passwords.events_bot, &passwords.events_admin);
        let sentinels = ServerName::SENTINELS.map(|sentinel| address(ports.first(sentinel)));
        keys[0].1 = "sentinel".into();
        keys[1].1 = toml_edit::Value::Array(Array::from_iter(sentinels));
        keys.push(("primary_name", replication::PRIMARY_NAME.into()));
        keys.push(("sentinel_user", redis::BOT.into()));
        keys.push(("sentinel_password", passwords.events_bot.expose().into()));
        return vec![("redis.events", keys)];
    }
    if stack.is_replicated(server) {
        return Vec::new();
    }
    vec![match server {
        ServerName::QuestDb => (
            QUESTDB,
            vec![
                ("name", "main".into()),
                ("http", address(ports.questdb_http).into()),
                ("pg", address(ports.questdb_pg).into()),
                ("metrics", address(ports.questdb_metrics).into()),
                ("user", questdb::USER.into()),
                ("password", passwords.questdb.expose().into()),
            ],
        ),
        ServerName::Postgres => (
            "postgres",
            vec![
                ("hosts", list(ports.postgres)),
                ("database", postgres::DATABASE.into()),
                ("user", postgres::BOT.into()),
                ("password", passwords.postgres_bot.expose().into()),
                ("admin_user", postgres::ADMIN.into()),
                ("admin_password", passwords.postgres_admin.expose().into()),
            ],
        ),
        ServerName::RedisPrices => ("redis.prices", redis(server, &passwords.prices_bot, &passwords.prices_admin)),
        _ => ("redis.events", redis(server, &passwords.events_bot, &passwords.events_admin)),
    }]
}

fn read(path: &Path) -> Result<Option<(String, DocumentMut)>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
            return Err(Error::Config { path: path.to_owned(), what: "is not text in UTF-8".to_owned() });
        }
        Err(e) => return Err(e).during("read", path),
    };
    // Of the parser's words only where: the rest quotes the line, which may hold a password.
    let document = text.parse::<DocumentMut>().map_err(|e| {
        let upto = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        Error::Config { path: path.to_owned(), what: format!("is not TOML (line {})", upto.matches('\n').count() + 1) }
    })?;
    Ok(Some((text, document)))
}

/// The table of a dotted name; of `questdb` the first of the list. Made where it is missing and `make` says so.
fn table_of<'a>(document: &'a mut DocumentMut, name: &str, make: bool) -> Option<&'a mut dyn toml_edit::TableLike> {
    if name == QUESTDB {
        let item = document.entry(QUESTDB).or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
        let list = item.as_array_of_tables_mut()?;
        if list.is_empty() && make {
            list.push(Table::new());
        }
        return list.get_mut(0).map(|table| table as &mut dyn toml_edit::TableLike);
    }
    let mut place: &mut dyn toml_edit::TableLike = document.as_table_mut();
    for part in name.split('.') {
        if place.get(part).is_none() {
            if !make {
                return None;
            }
            let mut table = Table::new();
            // `[redis.prices]` alone says that there is a `[redis]`.
            table.set_implicit(true);
            place.insert(part, Item::Table(table));
        }
        place = place.get_mut(part)?.as_table_like_mut()?;
    }
    Some(place)
}

/// Sets a key and keeps the comments and the spaces around the old value.
fn set(place: &mut dyn toml_edit::TableLike, key: &str, mut new: toml_edit::Value) {
    match place.get_mut(key) {
        Some(Item::Value(old)) => {
            if old.to_string().trim() == new.to_string().trim() {
                return;
            }
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        _ => {
            place.insert(key, value(new));
        }
    }
}

/// Removes tables that hold nothing any more.
fn prune(table: &mut Table) {
    for key in ["prices", "events", "questdb", "postgres", "redis"] {
        let empty = match table.get_mut(key) {
            Some(Item::Table(inner)) => {
                prune(inner);
                inner.is_empty()
            }
            Some(Item::ArrayOfTables(list)) => {
                if list.get(0).is_some_and(Table::is_empty) {
                    list.remove(0);
                }
                list.is_empty()
            }
            _ => false,
        };
        if empty {
            table.remove(key);
        }
    }
}
