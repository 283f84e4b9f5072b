//! `tripod tokens assess MINT`: the verdict by the policy in force, with every reason.

use serde::Serialize;
use tripod::Timestamp;
use tripod::settings::Settings;
use tripod::tokens::{Assessment, Policy, Tokens, Verdict, assess_stored, epoch_of, estimate_epoch};

use super::{Assess, known, plain, postgres};
use crate::args::Global;
use crate::exit::Exit;
use crate::output::{self, Output};

#[derive(Debug, Serialize)]
struct Assessed {
    #[serde(flatten)]
    assessment: Assessment,
    /// No epoch was given, and this one comes from the clock.
    epoch_estimated: bool,
    /// The policy's revision; none where the defaults hold.
    policy_revision: Option<i64>,
}

pub(super) async fn run(arguments: &Assess, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let postgres = postgres(global)?;
    let token = known(&Tokens::new(postgres.clone()), &arguments.mint).await?;
    let setting = Settings::new(postgres).get::<Policy>(Policy::NAMESPACE, Policy::KEY).await?;
    let policy_revision = setting.as_ref().map(|setting| setting.revision);
    let policy = setting.map(|setting| setting.value).unwrap_or_default();
    let at = arguments.at.unwrap_or_else(Timestamp::now);
    // The chain is at least where it was seen.
    let epoch = arguments.epoch.unwrap_or_else(|| match arguments.at {
        Some(at) => estimate_epoch(at),
        None => estimate_epoch(at).max(epoch_of(token.slot)),
    });
    let assessment = assess_stored(&token, epoch, at, &policy);
    let epoch_estimated = arguments.epoch.is_none();
    if epoch_estimated && assessment.transfer_fee.is_some() {
        output.say(format!("note: epoch {epoch} is estimated from the clock; `solana epoch` knows, --epoch N says it"));
    }
    let refused = assessment.verdict == Verdict::Refused;
    let assessed = Assessed { assessment, epoch_estimated, policy_revision };
    output.result(&assessed, || words(&assessed))?;
    Ok(if refused { Exit::False } else { Exit::Done })
}

fn words(assessed: &Assessed) -> String {
    let found = &assessed.assessment;
    let policy = match assessed.policy_revision {
        Some(revision) => format!("policy revision {revision}"),
        None => "the default policy".to_owned(),
    };
    let mut text = format!("{} is {} in epoch {} by {policy}\n", found.mint, found.verdict.as_str(), found.epoch);
    if !found.reasons.is_empty() {
        let mut table = output::table(&["weight", "extension", "reason"]);
        for reason in &found.reasons {
            let extension = reason.extension.as_deref().unwrap_or("-");
            table.add_row([reason.verdict.as_str(), extension, &plain(&reason.detail)]);
        }
        text += &output::table_text(&table);
    }
    text
}
