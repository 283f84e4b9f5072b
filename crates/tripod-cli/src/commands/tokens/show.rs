//! `tripod tokens show MINT`: the token as it stands, every extension in words.

use std::fmt::Write as _;

use serde_json::Value;
use tripod::tokens::{StoredToken, TOKEN_2022_PROGRAM, TOKEN_PROGRAM, Tokens};

use super::{Show, known, plain, postgres};
use crate::args::Global;
use crate::exit::Exit;
use crate::output::{self, Output};

pub(super) async fn run(arguments: &Show, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let token = known(&Tokens::new(postgres(global)?), &arguments.mint).await?;
    output.result(&token, || words(&token))?;
    Ok(Exit::Done)
}

fn words(token: &StoredToken) -> String {
    let mut table = output::table(&["token", &token.mint.to_string()]);
    let text = |value: &Option<String>| value.as_deref().map_or_else(|| "-".to_owned(), plain);
    let program = token.program.map_or_else(
        || "unknown: only lists know this token".to_owned(),
        |program| match program {
            TOKEN_PROGRAM => "SPL Token".to_owned(),
            TOKEN_2022_PROGRAM => "Token-2022".to_owned(),
            other => other.to_string(),
        },
    );
    let key = |key: Option<tripod::tokens::Address>| key.map_or_else(|| "none".to_owned(), |key| key.to_string());
    let names = match &token.named_by {
        Some(by) => format!("{} ({}), says {}", text(&token.name), text(&token.symbol), plain(by)),
        None => "-".to_owned(),
    };
    for (what, value) in [
        ("name", names),
        ("program", program),
        ("decimals", token.decimals.to_string()),
        ("supply", token.supply.map_or_else(|| "-".to_owned(), |supply| supply.to_string())),
        ("mint authority", key(token.mint_authority)),
        ("freeze authority", key(token.freeze_authority)),
        ("uri", text(&token.uri)),
        ("seen", format!("slot {}, by {}, stored {}", token.slot, plain(&token.source), token.updated_at)),
    ] {
        table.add_row([what.to_owned(), value]);
    }
    let mut text = output::table_text(&table);
    for extension in &token.extensions {
        let _ = writeln!(text, "\n{} (extension {})", extension.name, extension.number);
        let mut table = output::table(&[]);
        match (&extension.fields, &extension.decode_error) {
            (_, Some(why)) => {
                table.add_row(["cannot be read".to_owned(), plain(why)]);
            }
            (Some(fields), None) => flatten(String::new(), fields, &mut |name, value| {
                table.add_row([name, value]);
            }),
            (None, None) => {}
        }
        // A table without a header begins with an empty line for it.
        for line in output::table_text(&table).lines().filter(|line| !line.is_empty()) {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

/// Nested fields as `olderTransferFee.epoch`.
fn flatten(name: String, value: &Value, row: &mut impl FnMut(String, String)) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let name = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
                flatten(name, value, row);
            }
        }
        Value::Null => row(name, "none".to_owned()),
        Value::String(text) => row(name, plain(text)),
        other => row(name, plain(&other.to_string())),
    }
}
