//! The server-side scripts. Each file says what it promises. They are called by hash; where the server does not know one
//! (again: a restart, a failover, `SCRIPT FLUSH`), it is loaded and called once more.

use std::sync::LazyLock;

use ::redis::{Cmd, Script, cmd};

/// Writes a batch of prices under their guards and publishes the accepted ones.
pub(crate) static PRICE_WRITE: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("scripts/price_write.lua")));

/// Adds one event under a key, or gives the id that the key got the first time.
pub(crate) static PUBLISH_ONCE: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("scripts/publish_once.lua")));

/// Makes a consumer group whose read counter is right from the start.
pub(crate) static GROUP_CREATE: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("scripts/group_create.lua")));

/// Reads as one of a group, so that the group's place survives a restart and a failover.
pub(crate) static GROUP_READ: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("scripts/group_read.lua")));

/// Claims what dead consumers left, and counts what the cap had trimmed before.
pub(crate) static GROUP_CLAIM: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("scripts/group_claim.lua")));

/// Puts an event into the dead letters.
pub(crate) static DEAD_LETTER: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("scripts/dead_letter.lua")));

/// Publishes a dead letter again.
pub(crate) static DEAD_REDRIVE: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("scripts/dead_redrive.lua")));

/// Reads without a group, and says whether the cap passed the reader.
pub(crate) static FOLLOW_READ: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("scripts/follow_read.lua")));

/// Says that a consumer is still at work.
pub(crate) static GROUP_RENEW: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("scripts/group_renew.lua")));

/// Removes a consumer that has nothing pending.
pub(crate) static GROUP_LEAVE: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("scripts/group_leave.lua")));

/// A script and its hash.
pub(crate) struct Lua {
    text: &'static str,
    script: Script,
}

impl Lua {
    fn new(text: &'static str) -> Self {
        Self { text, script: Script::new(text) }
    }

    /// Begins a call with this many keys. Keys and arguments then go straight into one buffer; the driver's own
    /// invocation allocates each of them, which a batch of 100 prices feels.
    pub(crate) fn call(&self, keys: usize) -> Cmd {
        self.call_with_room(keys, 0, 0)
    }

    /// The same with room for so many arguments (keys too) of so many bytes in all.
    pub(crate) fn call_with_room(&self, keys: usize, arguments: usize, bytes: usize) -> Cmd {
        let mut command = Cmd::with_capacity(arguments + 3, bytes + 64);
        command.arg("EVALSHA");
        command.arg(self.script.get_hash()).arg(keys);
        command
    }

    /// The command that makes the server know it.
    pub(crate) fn load(&self) -> Cmd {
        let mut command = cmd("SCRIPT");
        command.arg("LOAD").arg(self.text);
        command
    }
}
