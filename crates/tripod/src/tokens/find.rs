//! Which tokens have this extension, this authority, this fee? Questions about what is on the chain.
//!
//! Constraints: each question has its own statement and index (migration 10), numbers of extensions stand in the
//! statement's text so that partial indexes fit, and what an index finds is found before it is sorted: a planner that may
//! stop early walks through everything in the sorted order instead. Answers are pages by mint.
//!
//! Not asked here: by verdict. An assessment holds for an epoch, a time and a policy; it is made, not stored. What weighs
//! in it (a fee, a hook, a delegate, a pause, a default state, an extension at all) is what these questions find.

use super::Address;
use super::ask::{ANSWERS_MAX, Hit, hit};
use super::store::Tokens;
use crate::error::{Error, Result};
use crate::postgres::Failure;

/// What is asked. As text in [`Hit::matched`]: its first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Question {
    /// They have the extension of this number, known or not.
    Extension(u16),
    /// This address has some power over them: it mints, freezes, closes, pauses, sets the fee, is the delegate, the hook.
    Authority(Address),
    /// Each transfer calls this program.
    HookProgram(Address),
    /// This address may move or burn anyone's tokens.
    PermanentDelegate(Address),
    /// A transfer in `epoch` costs more than this; the cap is not looked at.
    FeeAbove {
        /// Basis points.
        bps: u16,
        /// The epoch.
        epoch: u64,
    },
    /// All transfers are stopped.
    Paused,
    /// They are members of the group of this mint.
    MembersOf(Address),
    /// An extension of theirs could not be read.
    Unread,
}

/// The columns of a [`Hit`], for the mints that `$found` gives, from `$1` on.
macro_rules! of_found {
    ($matched:literal, $found:literal) => {
        concat!(
            "WITH found AS MATERIALIZED (",
            $found,
            ") SELECT t.mint, t.symbol, t.name, t.decimals, t.program IS NOT NULL, t.named_by, '",
            $matched,
            "' FROM tripod.tokens AS t WHERE t.mint IN (SELECT f.mint FROM found AS f WHERE f.mint > $1
               ORDER BY f.mint LIMIT $2) ORDER BY t.mint"
        )
    };
}

/// In the order of its index, so that a page ends early.
const BY_EXTENSION: &str = "
SELECT t.mint, t.symbol, t.name, t.decimals, t.program IS NOT NULL, t.named_by, 'extension'
FROM (SELECT mint FROM tripod.token_extensions
      WHERE number = $3 AND mint > $1 ORDER BY mint LIMIT $2) AS e
JOIN tripod.tokens AS t USING (mint) ORDER BY t.mint";

const BY_AUTHORITY: &str = of_found!(
    "authority",
    "SELECT mint FROM tripod.tokens WHERE mint_authority = $3
     UNION SELECT mint FROM tripod.tokens WHERE freeze_authority = $3
     UNION SELECT mint FROM tripod.token_extensions
     WHERE number <> 19 AND fields IS NOT NULL AND tripod.extension_keys(fields) @> ARRAY[$4::text]"
);
const BY_HOOK: &str = of_found!(
    "hook",
    "SELECT DISTINCT mint FROM tripod.token_extensions
     WHERE number <> 19 AND fields IS NOT NULL AND tripod.extension_keys(fields) @> ARRAY[$3::text]
       AND number = 14 AND fields ->> 'programId' = $3"
);
const BY_DELEGATE: &str = of_found!(
    "delegate",
    "SELECT DISTINCT mint FROM tripod.token_extensions
     WHERE number <> 19 AND fields IS NOT NULL AND tripod.extension_keys(fields) @> ARRAY[$3::text]
       AND number = 12 AND fields ->> 'delegate' = $3"
);
const BY_GROUP: &str = of_found!(
    "member",
    "SELECT DISTINCT mint FROM tripod.token_extensions
     WHERE number <> 19 AND fields IS NOT NULL AND tripod.extension_keys(fields) @> ARRAY[$3::text]
       AND number = 23 AND fields ->> 'group' = $3"
);
/// The index knows the higher of the two fees; which one holds is looked at afterwards.
const BY_FEE: &str = of_found!(
    "fee",
    "SELECT DISTINCT mint FROM tripod.token_extensions
     WHERE number = 1 AND fields IS NOT NULL
       AND greatest((fields -> 'olderTransferFee' ->> 'transferFeeBasisPoints')::integer,
                    (fields -> 'newerTransferFee' ->> 'transferFeeBasisPoints')::integer) > $3
       AND CASE WHEN (fields -> 'newerTransferFee' ->> 'epoch')::numeric <= $4::text::numeric
                THEN (fields -> 'newerTransferFee' ->> 'transferFeeBasisPoints')::integer
                ELSE (fields -> 'olderTransferFee' ->> 'transferFeeBasisPoints')::integer END > $3"
);
const PAUSED: &str = of_found!(
    "paused",
    "SELECT DISTINCT mint FROM tripod.token_extensions WHERE number = 26 AND fields ->> 'paused' = 'true'"
);
const UNREAD: &str =
    of_found!("unread", "SELECT DISTINCT mint FROM tripod.token_extensions WHERE decode_error IS NOT NULL");

impl Tokens {
    /// Tokens that `question` fits, by mint, behind `after`; at most `limit`, and never more than 10,000. Ask again behind
    /// the last one for more.
    ///
    /// # Errors
    /// [`Error::Invalid`] for basis points that no fee can be above; else as
    /// [`Postgres::call`](crate::postgres::Postgres::call).
    pub async fn find(&self, question: Question, after: Option<&Address>, limit: u32) -> Result<Vec<Hit>> {
        if matches!(question, Question::FeeAbove { bps, .. } if bps >= super::BASIS_POINTS_MAX) {
            return Err(Error::invalid("fee", "no fee is above 10,000 basis points"));
        }
        let after: &[u8] = after.map_or(&[], |mint| mint.as_ref());
        let limit = i64::from(limit.min(ANSWERS_MAX));
        self.postgres()
            .call("find tokens", async |client| {
                let statement = client.prepare_cached(question.sql()).await?;
                let rows = match question {
                    Question::Extension(number) => {
                        client.query(&statement, &[&after, &limit, &i32::from(number)]).await
                    }
                    Question::Authority(who) => {
                        let bytes: &[u8] = who.as_ref();
                        client.query(&statement, &[&after, &limit, &bytes, &who.to_string()]).await
                    }
                    Question::HookProgram(who) | Question::PermanentDelegate(who) | Question::MembersOf(who) => {
                        client.query(&statement, &[&after, &limit, &who.to_string()]).await
                    }
                    Question::FeeAbove { bps, epoch } => {
                        client.query(&statement, &[&after, &limit, &i32::from(bps), &epoch.to_string()]).await
                    }
                    Question::Paused | Question::Unread => client.query(&statement, &[&after, &limit]).await,
                }?;
                rows.iter().map(hit).collect::<Result<Vec<Hit>, Failure>>()
            })
            .await
    }
}

impl Question {
    fn sql(self) -> &'static str {
        match self {
            Self::Extension(_) => BY_EXTENSION,
            Self::Authority(_) => BY_AUTHORITY,
            Self::HookProgram(_) => BY_HOOK,
            Self::PermanentDelegate(_) => BY_DELEGATE,
            Self::MembersOf(_) => BY_GROUP,
            Self::FeeAbove { .. } => BY_FEE,
            Self::Paused => PAUSED,
            Self::Unread => UNREAD,
        }
    }
}

/// Every statement that asks the store something, with a name: for the test of their plans.
#[doc(hidden)]
#[must_use]
pub fn statements() -> Vec<(&'static str, &'static str)> {
    vec![
        ("by mint", super::sql::BY_MINT),
        ("by mints", super::sql::BY_MINTS),
        ("by symbol", super::sql::BY_SYMBOL),
        ("search", super::ask::SEARCH),
        ("changes of a token", super::ask::CHANGES),
        ("changed since", super::cache::CHANGED),
        ("by extension", BY_EXTENSION),
        ("by authority", BY_AUTHORITY),
        ("by hook program", BY_HOOK),
        ("by permanent delegate", BY_DELEGATE),
        ("by group", BY_GROUP),
        ("by fee", BY_FEE),
        ("paused", PAUSED),
        ("unread", UNREAD),
    ]
}
