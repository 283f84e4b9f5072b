//! Bringing a QuestDB server to the specs: what is there, what is to do, doing it.
//!
//! Constraints: nothing is ever dropped, and nothing that holds rows is changed in kind. What cannot be reached by adding
//! is a conflict, which says the way out and stops everything. A critical table's TTL is never shortened here: retention
//! verifies its archive first. Planning is pure, so that `migrate --plan` is the whole truth.
//!
//! Picture:
//! ```text
//! read_live ──▶ LiveTables ─┐
//!                           ├─plan──▶ [Action] ──apply──▶ server
//! specs ────────────────────┘            │
//!                                        └──▶ printed: create · add column · set ttl · view · none · conflict
//! ```

mod apply;
mod live;
mod plan;
mod rollup;
mod view;

pub use apply::{apply, wait_table};
pub use live::{LiveColumn, LiveTable, LiveTables, read_live};
pub use plan::plan;
pub use rollup::{Rollup, rollups};
pub use view::{LiveView, LiveViews, plan_rollups, read_views};

use std::fmt;

use serde::Serialize;

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Action {
    /// The table, or `table.column`, by its name on the server.
    pub object: String,
    /// What is to do.
    pub action: ActionKind,
    /// Why, in words; for a conflict with the way out.
    pub detail: String,
    /// The statement that does it; none where nothing is to do.
    pub sql: Option<String>,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum ActionKind {
    /// Create the table.
    #[serde(rename = "create")]
    Create,
    /// Add a column; rows that are there have NULL in it.
    #[serde(rename = "add column")]
    AddColumn,
    /// Set the TTL.
    #[serde(rename = "set ttl")]
    SetTtl,
    /// Create a materialised view; rows that are there are in it.
    #[serde(rename = "create view")]
    CreateView,
    /// Set how old a bucket may be and still be computed anew.
    #[serde(rename = "set refresh limit")]
    SetLimit,
    /// The table is as specified.
    #[serde(rename = "none")]
    None,
    /// Cannot be done without losing something; a human decides.
    #[serde(rename = "conflict")]
    Conflict,
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Create => "create",
            Self::AddColumn => "add column",
            Self::SetTtl => "set ttl",
            Self::CreateView => "create view",
            Self::SetLimit => "set refresh limit",
            Self::None => "none",
            Self::Conflict => "conflict",
        })
    }
}
