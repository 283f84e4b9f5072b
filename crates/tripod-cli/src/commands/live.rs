//! When a command that shows what comes ends by itself.

use std::time::Duration;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Until {
    /// End after this many [default: at ^C]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End after so many seconds [default: at ^C]
    #[arg(long = "for", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub(crate) seconds: Option<u64>,
}

/// Returns at ^C or when the time is over.
pub(crate) async fn ended(until: &Until) {
    let over = async {
        match until.seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // Without a handler of its own the process ends at ^C all the same.
        _ = tokio::signal::ctrl_c() => {}
        () = over => {}
    }
}
