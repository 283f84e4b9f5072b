//! Whether a server is set up for what it holds. Looks, and changes nothing: Redis' settings belong to its config file,
//! which a `CONFIG SET` would contradict after the next start.

use ::redis::{Value, cmd};

use super::{Instance, Link};
use crate::config;
use crate::error::{Error, Result, Server};

/// The oldest Redis that has the stream counters and ACLs this library needs.
const VERSION_MIN: u64 = 7;

/// One line of `migrate`'s plan or of `doctor`'s audit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Which instance.
    pub server: Server,
    /// The setting, or the user.
    pub object: String,
    /// What is to be done about it.
    pub action: FindingAction,
    /// What it is, what it should be, and why.
    pub detail: String,
}

/// What is to be done about a [`Finding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingAction {
    /// It is as it should be.
    None,
    /// It works, at a price that the detail names.
    Consider,
    /// It has to be changed in the server's config.
    Change,
    /// The server does not let us look.
    Unknown,
}

/// Looks at the settings of one instance as the admin's user: version, role, memory limit and policy, append-only file,
/// and the bot's ACL user. [`Link::server`] says what it is for.
///
/// # Errors
/// As every call; a setting that may not be read is a finding, not an error.
pub async fn check_instance(link: &Link, config: &config::Redis) -> Result<Vec<Finding>> {
    let instance = link.instance().await?;
    let mut findings = judge(link.server(), &instance);
    findings.push(check_user(link, &config.user).await?);
    Ok(findings)
}

/// The part that needs no server.
fn judge(server: Server, instance: &Instance) -> Vec<Finding> {
    let prices = server == Server::RedisPrices;
    let finding = |object: &str, fine: bool, otherwise: FindingAction, detail: String| Finding {
        server,
        object: object.to_owned(),
        action: if fine { FindingAction::None } else { otherwise },
        detail,
    };
    let policy = if prices { "volatile-ttl" } else { "noeviction" };
    let policy_why = if prices {
        "at the memory limit the oldest prices go first"
    } else {
        "at the memory limit writes fail and say so; anything else deletes events silently"
    };
    let append_why = if prices {
        "prices are refilled in a second; a file only costs latency"
    } else {
        "without it a restart loses every event"
    };
    let limit = match instance.maxmemory_bytes {
        0 => "has no limit; set one, or the machine's memory is the limit and the kernel ends the server".to_owned(),
        bytes => format!("is {bytes} bytes, {} in use", instance.used_memory_bytes),
    };
    vec![
        finding(
            "version",
            instance.major() >= VERSION_MIN,
            FindingAction::Change,
            format!("is {}; {VERSION_MIN} or newer is needed", instance.version),
        ),
        finding(
            "role",
            instance.role == "master",
            FindingAction::Change,
            format!("is {}; writes need the primary", instance.role),
        ),
        finding(
            "maxmemory-policy",
            instance.maxmemory_policy == policy,
            if prices { FindingAction::Consider } else { FindingAction::Change },
            format!("is {}; wanted {policy}: {policy_why}", instance.maxmemory_policy),
        ),
        finding("maxmemory", instance.maxmemory_bytes > 0, FindingAction::Consider, limit),
        finding(
            "appendonly",
            instance.append_only != prices,
            if prices { FindingAction::Consider } else { FindingAction::Change },
            format!("is {}; {append_why}", if instance.append_only { "on" } else { "off" }),
        ),
    ]
}

async fn check_user(link: &Link, user: &str) -> Result<Finding> {
    let answer = link.query::<Value>("ACL GETUSER", cmd("ACL").arg("GETUSER").arg(user)).await;
    let (action, detail) = match answer {
        Ok(Value::Nil) => (FindingAction::Change, "there is no such ACL user; the bot cannot log in".to_owned()),
        Ok(_) => (FindingAction::None, "exists".to_owned()),
        Err(Error::Refused { what, .. }) => (FindingAction::Unknown, format!("cannot be looked at: {what}")),
        Err(error) => return Err(error),
    };
    Ok(Finding { server: link.server(), object: format!("user {user}"), action, detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(policy: &str, append_only: bool) -> Instance {
        Instance {
            version: "7.0.15".into(),
            role: "master".into(),
            maxmemory_bytes: 1 << 20,
            maxmemory_policy: policy.into(),
            append_only,
            ..Instance::default()
        }
    }

    fn wrong(findings: &[Finding]) -> Vec<&str> {
        findings.iter().filter(|f| f.action != FindingAction::None).map(|f| f.object.as_str()).collect()
    }

    #[test]
    fn each_instance_is_judged_by_what_it_holds() {
        assert!(wrong(&judge(Server::RedisPrices, &instance("volatile-ttl", false))).is_empty());
        assert!(wrong(&judge(Server::RedisEvents, &instance("noeviction", true))).is_empty());
        assert_eq!(
            wrong(&judge(Server::RedisEvents, &instance("volatile-ttl", false))),
            ["maxmemory-policy", "appendonly"]
        );
        let old = Instance { version: "6.2.1".into(), role: "slave".into(), ..instance("noeviction", true) };
        assert_eq!(wrong(&judge(Server::RedisEvents, &old)), ["version", "role"]);
    }
}
