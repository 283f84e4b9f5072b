//! Passwords of one stack: made from the operating system's random bytes, kept in files that only their owner reads.
//!
//! Constraints: a secret is never printed ([`Secret`] has no value in `Debug`), never on a command line (any user can
//! read those), never in a file wider than 0600.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, fchown};
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::account::{Account, hand_over};
use crate::error::{During as _, Error, Result};

/// Random bytes in a password: 160 bits, as 40 hexadecimal digits. Letters and digits alone need no quoting in any of
/// the four servers' config files, in TOML, in a URL.
const PASSWORD_BYTES: usize = 20;

/// A password that prints as nothing and is serialised in the clear, into the state file (0600) alone.
#[derive(Debug, Clone)]
pub(crate) struct Secret(SecretString);

impl Secret {
    /// A new one.
    pub(crate) fn fresh() -> Result<Self> {
        Ok(Self(hex::<PASSWORD_BYTES>()?.into()))
    }

    /// The value, for a config file or a login.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(String::deserialize(deserializer)?.into()))
    }
}

/// `N` random bytes as hexadecimal digits.
pub(crate) fn hex<const N: usize>() -> Result<String> {
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes).map_err(|e| Error::Random { what: e.to_string() })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Replaces `path` at once (write beside it, rename) by `text`, readable by its owner alone, owned by `owner` where one
/// is given, else by the owner of its directory. A reader sees the old or the new file, never half of one; a symbolic link in its place is replaced, not followed.
pub(crate) fn write_private(path: &Path, text: &str, owner: Option<&Account>) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", hex::<4>()?));
    let beside = Path::new(&beside);
    let made = || -> Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(beside)
            .during("create", beside)?;
        file.write_all(text.as_bytes()).during("write", beside)?;
        file.sync_data().during("write to disk", beside)?;
        if let Some(owner) = owner {
            fchown(&file, Some(owner.uid), Some(owner.gid)).during("change the owner of", beside)?;
        } else {
            hand_over(&file, beside).during("change the owner of", beside)?;
        }
        std::fs::rename(beside, path).during("replace", path)
    }();
    if made.is_err() {
        // Best effort: the error that is reported is the first one.
        let _ = std::fs::remove_file(beside);
    }
    made
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::fresh().unwrap();
        assert_eq!(secret.expose().len(), 2 * PASSWORD_BYTES);
        assert!(!format!("{secret:?}").contains(secret.expose()));
        assert_ne!(secret.expose(), Secret::fresh().unwrap().expose());
    }

    #[test]
    fn a_private_file_is_replaced_and_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (dir.path().join("secret"), dir.path().join("elsewhere"));
        std::fs::write(&elsewhere, "theirs").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        write_private(&path, "ours", None).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "ours");
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "theirs");
        assert_eq!(std::fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left beside it");
    }
}
