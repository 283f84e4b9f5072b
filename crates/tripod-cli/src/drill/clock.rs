//! Clocks that a drill can put back without touching the machine's.
//!
//! Constraints: a process asks the C library what time of day it is, so does every server, and a shared object stands in
//! between (`clock.c`, built with this program and carried in it). It has to be there when a process starts: this program
//! therefore starts itself once more, in its own place. Whether it took is looked at and never taken for granted.
//!
//! Picture: `TMP/tripod-clock-RANDOM/{clock.so,bot,servers}`, for every account to read
//! ```text
//! bot      8 bytes, mapped by this process and its load       servers   the same, by the servers of the drill's own stack
//! ```

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use tripod::{Timestamp, Uuid};

use super::scene::remove_dir;
use crate::exit::Stop;

const SHARED_OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/drill_clock.so"));
/// Names the clock's file to the shared object.
const VARIABLE: &str = "TRIPOD_DRILL_CLOCK";
const PRELOAD: &str = "LD_PRELOAD";
const BOT: &str = "bot";
const SERVERS: &str = "servers";
/// How far this process' clock is put back to see whether that can be done.
const TRIAL: Duration = Duration::from_secs(3600);

/// The bot's clock and the servers'. Dropping it puts both right and removes their files.
#[derive(Debug)]
pub(super) struct Clocks {
    dir: PathBuf,
    bot: File,
    servers: File,
}

/// Whose clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Bot,
    Servers,
}

/// Gives this process a clock of its own. Where it has none yet, this program is started again in its place and this call
/// does not return.
pub(super) fn own() -> anyhow::Result<Clocks> {
    let Some(bot) = std::env::var_os(VARIABLE).map(PathBuf::from) else { return Err(start_again()) };
    let dir = bot.parent().context("the clock's file is in no directory")?.to_owned();
    let open = |name: &str| {
        let path = dir.join(name);
        File::options().write(true).open(&path).with_context(|| format!("cannot open {}", path.display()))
    };
    let clocks = Clocks { bot: open(BOT)?, servers: open(SERVERS)?, dir };
    clocks.try_out()?;
    Ok(clocks)
}

/// Only returns where that failed.
fn start_again() -> anyhow::Error {
    match prepare() {
        Ok(dir) => {
            // The kernel's own name for this program, also where it has been replaced on disk since.
            let program = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
            let mut again = Command::new(program);
            again.args(std::env::args_os().skip(1)).envs(environment(&dir, BOT));
            let error = again.exec();
            // It is empty but for three files of a minute's work.
            let _ = remove_dir(&dir);
            anyhow!(error).context("cannot start this program again with a clock of its own")
        }
        Err(error) => error,
    }
}

fn prepare() -> anyhow::Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("tripod-clock-{}", Uuid::new_v4().simple()));
    std::fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let put = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        let put = std::fs::write(&path, bytes).and_then(|()| {
            // Read by the account that PostgreSQL runs as, written by this one alone.
            std::fs::set_permissions(&path, Permissions::from_mode(0o644))
        });
        put.with_context(|| format!("cannot write {}", path.display()))
    };
    std::fs::set_permissions(&dir, Permissions::from_mode(0o755))
        .context("cannot open the clocks' directory to others")?;
    put(OBJECT, SHARED_OBJECT)?;
    put(BOT, &0_i64.to_ne_bytes())?;
    put(SERVERS, &0_i64.to_ne_bytes())?;
    Ok(dir)
}

const OBJECT: &str = "clock.so";

fn environment(dir: &Path, clock: &str) -> BTreeMap<String, String> {
    let path = |name: &str| dir.join(name).display().to_string();
    BTreeMap::from([(PRELOAD.to_owned(), path(OBJECT)), (VARIABLE.to_owned(), path(clock))])
}

impl Clocks {
    /// What the servers need in their environment to follow their clock.
    pub(super) fn of_servers(&self) -> BTreeMap<String, String> {
        environment(&self.dir, SERVERS)
    }

    /// Puts a clock so far back behind the machine's; zero puts it right.
    pub(super) fn put_back(&self, whose: Whose, by: Duration) -> anyhow::Result<()> {
        let seconds = i64::try_from(by.as_secs()).context("no clock goes back so far")?;
        let file = match whose {
            Whose::Bot => &self.bot,
            Whose::Servers => &self.servers,
        };
        // Eight bytes at the start of a page: whoever has it mapped reads the old number or the new one.
        file.write_all_at(&(-seconds).to_ne_bytes(), 0).context("cannot put a clock back")
    }

    /// Puts this process' clock back for a moment, and looks.
    fn try_out(&self) -> anyhow::Result<()> {
        let (before, began) = (Timestamp::now(), Instant::now());
        self.put_back(Whose::Bot, TRIAL)?;
        let after = Timestamp::now();
        self.put_back(Whose::Bot, Duration::ZERO)?;
        if before.since(after) < TRIAL.saturating_sub(began.elapsed() + Duration::from_secs(1)) {
            return Err(Stop::refused(
                format!("the clock of this process cannot be put back with what is in {}", self.dir.display()),
                "this drill needs a build against the C library (not a static one) and a TMPDIR from which programs may be loaded",
            )
            .into());
        }
        ensure!(before.since(Timestamp::now()) < TRIAL / 2, "the clock of this process does not come back");
        Ok(())
    }
}

impl Drop for Clocks {
    fn drop(&mut self) {
        for whose in [Whose::Bot, Whose::Servers] {
            // A process that still has it mapped ends with the drill.
            let _ = self.put_back(whose, Duration::ZERO);
        }
        let _ = remove_dir(&self.dir);
    }
}
