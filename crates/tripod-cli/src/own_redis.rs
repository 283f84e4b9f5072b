//! A Redis that may be loaded or broken: the local stack's own, never somebody's production.

use std::path::Path;

use tripod::config::{Config, Redis};
use tripod_stack::{ServerName, ServerState};

use crate::exit::Stop;

/// The Redis `name` of the stack in `data`. The config must name it, and by TCP.
pub(crate) fn own_redis(config: &Config, data: &Path, name: ServerName) -> anyhow::Result<ServerState> {
    let hint = "leave --config out and give the stack's directory with --data; `tripod up` starts one";
    let servers = tripod_stack::check(data)?;
    let Some(own) = servers.into_iter().find(|server| server.name == name) else {
        return Err(Stop::refused(format!("there is no {name} of a local stack in {}", data.display()), hint).into());
    };
    let section = section(config, name);
    if section.addresses.iter().any(|address| *address != own.address) {
        let what =
            format!("{name} at {} is not the one of the stack in {}", section.addresses.join(", "), data.display());
        return Err(Stop::refused(what, hint).into());
    }
    Ok(own)
}

fn section(config: &Config, name: ServerName) -> &Redis {
    match name {
        ServerName::RedisEvents => &config.redis.events,
        _ => &config.redis.prices,
    }
}
