//! A few questions to a Redis or a sentinel, over one connection, within a deadline.
//!
//! Constraints: the supervisor waits for nobody longer than it says, and takes no more bytes than an answer can have.

use std::io::{BufReader, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::secrets::Secret;

/// More than any answer to the questions of this crate has.
const ANSWER_BYTES_MAX: u64 = 256 * 1024;
/// Lists in lists; `ROLE` has two levels.
const DEPTH_MAX: u32 = 4;

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Text, a number, a state.
    Text(String),
    /// A list.
    List(Vec<Reply>),
    /// Nothing.
    Nil,
    /// A refusal, in the server's words.
    Refused(String),
}

impl Reply {
    /// Its text; empty where it is none.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Refused(text) => text,
            Self::List(_) | Self::Nil => "",
        }
    }

    /// Its parts; none where it is no list.
    pub(crate) fn parts(&self) -> &[Self] {
        match self {
            Self::List(parts) => parts,
            _ => &[],
        }
    }

    /// The value behind a name, in a list of names and values.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.parts().chunks_exact(2).find(|pair| pair[0].text() == name).map(|pair| pair[1].text())
    }
}

/// Logs in and asks; gives one answer a question. A login that is refused is an error.
pub(crate) fn ask(
    port: u16,
    user: &str,
    password: &Secret,
    questions: &[&str],
    at_most: Duration,
) -> std::io::Result<Vec<Reply>> {
    let mut stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), at_most)?;
    stream.set_read_timeout(Some(at_most))?;
    stream.set_write_timeout(Some(at_most))?;
    let mut text = format!("AUTH {user} {}\r\n", password.expose());
    for question in questions {
        text.push_str(question);
        text.push_str("\r\n");
    }
    stream.write_all(text.as_bytes())?;
    let mut reader = BufReader::new(stream.take(ANSWER_BYTES_MAX));
    if let Reply::Refused(words) = read(&mut reader, DEPTH_MAX)? {
        return Err(std::io::Error::other(words));
    }
    questions.iter().map(|_| read(&mut reader, DEPTH_MAX)).collect()
}

fn read(reader: &mut impl std::io::BufRead, depth: u32) -> std::io::Result<Reply> {
    let nonsense = || std::io::Error::from(ErrorKind::InvalidData);
    let mut line = String::new();
    reader.by_ref().read_line(&mut line)?;
    let line = line.trim_end();
    let Some((kind, rest)) = line.split_at_checked(1) else { return Err(ErrorKind::UnexpectedEof.into()) };
    let count = || rest.parse::<i64>().map_err(|_| nonsense());
    Ok(match kind {
        "+" | ":" => Reply::Text(rest.to_owned()),
        "-" => Reply::Refused(rest.to_owned()),
        "$" => match u64::try_from(count()?) {
            Err(_) => Reply::Nil,
            Ok(bytes) if bytes > ANSWER_BYTES_MAX => return Err(nonsense()),
            Ok(bytes) => {
                let mut text = vec![0; usize::try_from(bytes + 2).map_err(|_| nonsense())?];
                reader.read_exact(&mut text)?;
                text.truncate(text.len() - 2);
                Reply::Text(String::from_utf8_lossy(&text).into_owned())
            }
        },
        "*" => match u64::try_from(count()?) {
            Err(_) => Reply::Nil,
            Ok(parts) if depth == 0 || parts > ANSWER_BYTES_MAX => return Err(nonsense()),
            Ok(parts) => Reply::List((0..parts).map(|_| read(reader, depth - 1)).collect::<Result<_, _>>()?),
        },
        _ => return Err(nonsense()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> std::io::Result<Reply> {
        read(&mut text.as_bytes(), DEPTH_MAX)
    }

    #[test]
    fn what_a_server_says_is_read_and_nonsense_is_an_error() {
        let role =
            parsed("*3\r\n$6\r\nmaster\r\n:12\r\n*1\r\n*3\r\n$9\r\n127.0.0.1\r\n$1\r\n7\r\n$1\r\n9\r\n").unwrap();
        assert_eq!((role.parts()[0].text(), role.parts()[1].text()), ("master", "12"));
        assert_eq!(role.parts()[2].parts()[0].parts()[1].text(), "7");
        let master = parsed("*4\r\n$4\r\nport\r\n$5\r\n26379\r\n$5\r\nflags\r\n$6\r\nmaster\r\n").unwrap();
        assert_eq!((master.field("port"), master.field("ip")), (Some("26379"), None));
        assert_eq!(parsed("-NOPERM no\r\n").unwrap(), Reply::Refused("NOPERM no".into()));
        assert_eq!(parsed("$-1\r\n").unwrap(), Reply::Nil);
        for wrong in ["", "\r\n", "?x\r\n", "$5\r\nab", "*2\r\n+a\r\n", "$99999999999\r\n", "*9999999999\r\n"] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }
}
