//! The unprivileged account that PostgreSQL runs as when Tripod runs as root: PostgreSQL refuses to run as root.
//!
//! Constraints: the directories above the account's own must let it through, and only the kernel knows whether they do
//! (owners, groups, access lists, mounts). So it is asked, by a process of that account. A stack that a normal user made
//! stays that user's when root works on it: what is written is handed over, and the servers run as that user.

use std::fs::File;
use std::os::unix::fs::{MetadataExt as _, fchown, lchown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

/// Accounts that are taken, the first that exists.
const NAMES: [&str; 2] = ["postgres", "nobody"];

/// A line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Its name, for messages.
    pub(crate) name: String,
    /// User.
    pub(crate) uid: u32,
    /// Primary group.
    pub(crate) gid: u32,
}

impl Account {
    /// The account to drop to; none where there is no need (not root) or no such account.
    pub(crate) fn unprivileged() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        NAMES.iter().find_map(|name| Self::find(&text, name))
    }

    fn find(passwd: &str, name: &str) -> Option<Self> {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let found = fields.next()? == name;
            let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            (found && uid != 0).then(|| Self { name: name.to_owned(), uid, gid })
        })
    }

    /// The normal user whose directory `dir` is, where the caller is root.
    pub(crate) fn owner_of(dir: &Path) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let found = std::fs::symlink_metadata(dir).ok().filter(|found| found.uid() != 0)?;
        Some(Self { name: format!("user {}", found.uid()), uid: found.uid(), gid: found.gid() })
    }

    /// Makes `command` run as this account. The standard library clears the supplementary groups with it.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Whether a process of this account can enter `dir`.
    pub(crate) fn can_enter(&self, dir: &Path) -> bool {
        let mut command = Command::new("/usr/bin/test");
        command.arg("-x").arg(dir).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.apply(&mut command);
        command.status().is_ok_and(|status| status.success())
    }
}

/// Gives a file that was just made to the owner of its directory, where root made it.
pub(crate) fn hand_over(file: &File, path: &Path) -> std::io::Result<()> {
    match path.parent().and_then(Account::owner_of) {
        Some(owner) => fchown(file, Some(owner.uid), Some(owner.gid)),
        None => Ok(()),
    }
}

/// The same with a directory that was just made.
pub(crate) fn hand_over_dir(path: &Path) -> std::io::Result<()> {
    match path.parent().and_then(Account::owner_of) {
        Some(owner) => lchown(path, Some(owner.uid), Some(owner.gid)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_passwd_is_read_and_root_is_never_taken() {
        let text = "root:x:0:0:root:/root:/bin/bash\npostgres:x:101:104:admin,,,:/var/lib:/bin/sh\n";
        assert_eq!(Account::find(text, "postgres"), Some(Account { name: "postgres".into(), uid: 101, gid: 104 }));
        assert_eq!(Account::find(text, "root"), None);
        assert_eq!(Account::find(text, "nobody"), None);
        assert_eq!(Account::find("postgres:x", "postgres"), None);
    }
}
