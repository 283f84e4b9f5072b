//! What QuestDB's answer to one request means for the rows in it.
//!
//! Constraints: pure, decided once per request, and erring towards keeping rows: only an answer that is surely about a
//! row's *content* (QuestDB's own `"code":"invalid"`) may ever send a row to quarantine. Anything not understood, such
//! as a proxy's page, counts as "the server is away" and the rows wait.
//!
//! The texts are QuestDB 9.3.4's as seen through `questdb-rs` 7.2, which hands over the body but not the status.

use questdb::ErrorCode;

/// The server's words are kept up to this many characters; beyond it they repeat the row.
const WORDS_CHARS_MAX: usize = 600;

/// What to do with the request's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// All rows are in the server's write-ahead log.
    Accepted,
    /// Nothing of the request was taken, because of one row. `line` counts from 1 and is the first bad one.
    Refused {
        /// Which line, where the server said so.
        line: Option<usize>,
        /// The server's words.
        words: String,
    },
    /// Nothing was taken: a table or column is missing. `tripod migrate` makes it.
    Behind(String),
    /// Nothing was taken: user or password is wrong.
    Login(String),
    /// Nothing was sent: the server's certificate is of an unknown authority, of another name, or expired.
    Certificate(String),
    /// The server's disk is full; a write more may kill it.
    DiskFull(String),
    /// Whether anything was taken is not known; sent again later.
    Unavailable(String),
}

/// Reads the answer.
pub(super) fn of(result: Result<(), questdb::Error>) -> Answer {
    match result {
        Ok(()) => Answer::Accepted,
        Err(error) => classify(error.code(), error.msg()),
    }
}

fn classify(code: ErrorCode, text: &str) -> Answer {
    let report = Report::read(text);
    let words = shorten(&report.message);
    if words.contains("errno: 28") || words.contains("No space left") {
        return Answer::DiskFull(words);
    }
    // rustls' words; a row's own text is only in what the server has refused.
    if code != ErrorCode::ServerFlushError && words.contains("invalid peer certificate") {
        return Answer::Certificate(words);
    }
    match code {
        ErrorCode::AuthError => Answer::Login(words),
        ErrorCode::ServerFlushError if report.code == "invalid" => {
            if words.contains("creating new tables is disabled") || words.contains("creating new columns is disabled") {
                Answer::Behind(missing(&words))
            } else {
                Answer::Refused { line: report.line, words }
            }
        }
        _ => Answer::Unavailable(words),
    }
}

/// The parts of QuestDB's error document that matter here.
#[derive(Default)]
struct Report {
    code: String,
    line: Option<usize>,
    message: String,
}

impl Report {
    /// `Could not flush buffer: {json}`; or, where the client unpacked the document itself,
    /// `Could not flush buffer: words [id: …, code: …, line: …]`; or any other text.
    fn read(text: &str) -> Self {
        let body = text.strip_prefix("Could not flush buffer: ").unwrap_or(text).trim();
        if let Ok(document) = serde_json::from_str::<serde_json::Value>(body) {
            let field = |name: &str| document.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
            return Self {
                code: field("code").to_owned(),
                line: document.get("line").and_then(serde_json::Value::as_u64).and_then(|n| usize::try_from(n).ok()),
                message: field("message").to_owned(),
            };
        }
        let mut report = Self { message: body.to_owned(), ..Self::default() };
        if let Some((message, tail)) = body.strip_suffix(']').and_then(|b| b.rsplit_once(" [")) {
            for part in tail.split(", ") {
                match part.split_once(": ") {
                    Some(("code", code)) => report.code = code.to_owned(),
                    Some(("line", line)) => report.line = line.parse().ok(),
                    _ => {}
                }
            }
            message.clone_into(&mut report.message);
        }
        report
    }
}

/// `table: a, column: zzz does not exist, …` becomes the part that names what is missing.
fn missing(words: &str) -> String {
    let from = words.find("table: ").unwrap_or(0);
    words[from..].trim_end().to_owned()
}

fn shorten(words: &str) -> String {
    let words = words.trim();
    match words.char_indices().nth(WORDS_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flush_error(body: &str) -> Answer {
        classify(ErrorCode::ServerFlushError, &format!("Could not flush buffer: {body}"))
    }

    #[test]
    fn a_refused_line_is_named() {
        let body = r#"{"code":"invalid","message":"failed to parse line protocol:errors encountered on line(s):\nerror in line 3: table: a, column: price; cast error","line":3,"errorId":"x-1"}"#;
        let Answer::Refused { line, words } = flush_error(body) else { panic!("{:?}", flush_error(body)) };
        assert_eq!(line, Some(3));
        assert!(words.contains("cast error"), "{words}");
        let unpacked = "table: a, column: price; cast error [id: x-1, code: invalid, line: 3]";
        assert!(matches!(flush_error(unpacked), Answer::Refused { line: Some(3), .. }));
    }

    #[test]
    fn a_missing_table_or_column_waits_for_migrate() {
        for (message, named) in [
            ("error in line 1: table: nope; table does not exist, creating new tables is disabled", "table: nope"),
            ("error in line 1: table: a, column: zzz does not exist, creating new columns is disabled", "column: zzz"),
        ] {
            let body = format!(r#"{{"code":"invalid","message":"{message}","line":1}}"#);
            let Answer::Behind(what) = flush_error(&body) else { panic!("{:?}", flush_error(&body)) };
            assert!(what.starts_with("table: ") && what.contains(named), "{what}");
        }
    }

    #[test]
    fn a_full_disk_is_neither_a_bad_row_nor_a_passing_outage() {
        let body =
            r#"{"code":"internal error","message":"write error: a, errno: 28, error: No space left","line":995}"#;
        assert!(matches!(flush_error(body), Answer::DiskFull(_)));
    }

    #[test]
    fn what_is_not_understood_never_condemns_a_row() {
        for body in [
            r#"{"code":"internal error","message":"out of memory","line":4}"#,
            r#"{"code":"not accepting writes","message":"this instance cannot receive writes"}"#,
            "<html>502 Bad Gateway</html>",
            "",
            "[]",
        ] {
            assert!(matches!(flush_error(body), Answer::Unavailable(_)), "{body}: {:?}", flush_error(body));
        }
        let refused =
            classify(ErrorCode::SocketError, "Could not flush buffer: http://h:1/write: io: Connection refused");
        assert!(matches!(refused, Answer::Unavailable(words) if words.contains("Connection refused")));
        let login = classify(ErrorCode::AuthError, "Could not flush buffer: HTTP endpoint authentication error");
        assert!(matches!(login, Answer::Login(_)));
    }
}
