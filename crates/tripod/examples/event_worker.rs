//! A worker that handles each event of a topic, beside others of its kind, and loses none when it is killed.
//!
//! ```text
//! tripod up
//! cargo run -p tripod --example event_worker [DATA_DIR]      # several at once share the work; Ctrl-C ends one
//! ```
//! Delivery is at least once: killed between the effect and the acknowledgement, the event comes again; lost with a primary
//! and published again, it comes with another id. This worker keeps its effects under the event's key, which stays the
//! same, so that one handled twice has its effect once. In a real one that is a table with the key as its primary key and
//! `INSERT … ON CONFLICT DO NOTHING`. An event that fails again and again is in `tripod events dead fills`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use tripod::events::{ConsumerOptions, Draft, Event, Events};
use tripod::{Config, Decimal, Error};

#[derive(Debug, Serialize, Deserialize)]
struct Fill {
    signature: String,
    price: Decimal,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data_dir = std::env::args().nth(1).unwrap_or_else(|| ".tripod".to_owned());
    let events = Events::connect(&Config::local(data_dir)?).await?;

    // The signature is the key: published again after a deadline that passed, it is still one event.
    let fill = Fill { signature: "5wHu1qwD7q4".to_owned(), price: "152.125".parse()? };
    let draft = Draft::new("fill", &fill)?.with_key(&fill.signature)?;
    println!("published as {}", events.publisher("fills")?.publish_draft(&draft).await?);

    let effects: Mutex<BTreeMap<String, Decimal>> = Mutex::default();
    let handle = |event: Event| {
        let done = event.decode::<Fill>().map(|fill| {
            println!("{} {}{}", event.id, fill.price, if event.claimed { " (again)" } else { "" });
            let mut effects = effects.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            effects.entry(event.effect_key()).or_insert(fill.price);
        });
        // An error here: not acknowledged, delivered again later, to this worker or another.
        std::future::ready::<Result<(), Error>>(done)
    };
    let mut consumer = events.consumer("fills", "example", ConsumerOptions::default()).await?;
    let ctrl_c = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    consumer.run(handle, ctrl_c).await?;
    println!("{:?}", consumer.counts());
    Ok(consumer.close().await?)
}
