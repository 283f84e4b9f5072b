//! A bot that runs its settings as a type of its own, and goes on with the last good ones whatever somebody types.
//!
//! ```text
//! tripod up && tripod migrate
//! cargo run -p tripod --example settings_watch [DATA_DIR] [SECONDS]
//! tripod settings set strategy slippage_bps 30 --why "calmer market"
//! tripod settings set strategy slippage_bps '"a lot"' --why "a slip of the hand" --revision 1
//! tripod settings bots
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use serde::Deserialize;
use tripod::Config;
use tripod::settings::SettingsWatch;

/// The keys of the namespace `strategy`; what nobody has set is as here.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Strategy {
    slippage_bps: u16,
    paused: bool,
}

impl Default for Strategy {
    fn default() -> Self {
        Self { slippage_bps: 50, paused: false }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let config = Config::local(arguments.next().unwrap_or_else(|| ".tripod".to_owned()))?;
    let seconds = arguments.next().map_or(Ok(60), |text| text.parse())?;
    let settings = SettingsWatch::<Strategy>::open(&config, "strategy", Duration::from_secs(1)).await?;
    let mut changes = settings.changes();
    println!("{:?}, revisions {:?}", settings.get(), settings.revisions());
    let end = tokio::time::sleep(Duration::from_secs(seconds));
    tokio::pin!(end);
    loop {
        tokio::select! {
            changed = changes.changed() => changed?,
            () = &mut end => return Ok(()),
        }
        println!("{:?}, revisions {:?}", settings.get(), settings.revisions());
        for refused in settings.refused() {
            println!("not taken: {} revision {}: {}", refused.key, refused.revision, refused.why);
        }
    }
}
