//! Jupiter's list of validated tokens: `Name,Symbol,Mint,Decimals,LogoURI,…`, mainnet only.
//!
//! Constraints: columns are found by their names; a quoted field may hold commas and doubled quotes, and ends on its
//! line.

use super::{Entry, List, MAINNET, Refused, listing};
use crate::error::{Error, Result};

/// What has to be there.
const COLUMNS: [&str; 4] = ["name", "symbol", "mint", "decimals"];

pub(super) fn read(bytes: &[u8]) -> Result<List> {
    let text = std::str::from_utf8(bytes).map_err(|e| Error::invalid("import", format!("is not UTF-8: {e}")))?;
    let mut lines = text.lines().enumerate();
    let header: Vec<String> = lines.next().and_then(|(_, line)| fields(line).ok()).unwrap_or_default();
    let place = |name: &str| header.iter().position(|column| column.trim().eq_ignore_ascii_case(name));
    let [Some(name), Some(symbol), Some(mint), Some(decimals)] = COLUMNS.map(place) else {
        let why = format!("is neither JSON nor a CSV with the columns {}", COLUMNS.join(", "));
        return Err(Error::invalid("import", why));
    };
    let mut list = List::default();
    for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let row = fields(line).unwrap_or_default();
        let field = |at: usize| row.get(at).map(String::as_str).unwrap_or_default();
        let taken = if row.len() == header.len() {
            field(decimals)
                .trim()
                .parse()
                .map_err(|_| format!("decimals `{}` are no number", field(decimals)))
                .and_then(|decimals| {
                    listing(&Entry {
                        chain_id: MAINNET,
                        address: field(mint).trim().to_owned(),
                        symbol: field(symbol).to_owned(),
                        name: field(name).to_owned(),
                        decimals,
                    })
                })
        } else {
            Err(format!("has {} fields, the header has {}", row.len(), header.len()))
        };
        match taken {
            Ok(listing) => list.listings.push(listing),
            // Lines count from 1, as editors do; the header is one.
            Err(why) => list.refused.push(Refused { place: number + 1, entry: field(mint).to_owned(), why }),
        }
    }
    Ok(list)
}

/// One line's fields; an error where a quote is left open.
fn fields(line: &str) -> Result<Vec<String>, ()> {
    let mut found = vec![String::new()];
    let mut quoted = false;
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        let Some(field) = found.last_mut() else { break };
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => found.push(String::new()),
            c => field.push(c),
        }
    }
    if quoted { Err(()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_by_the_headers_names_and_bad_ones_are_named_by_their_number() {
        let csv = "Symbol,Name,Mint,Decimals,LogoURI\n\
                   WIF,\"dogwif\"\"hat\"\", the\",EKpQGSJtjMFqKZ9KQanSqYXRcF8fBopzLHYxdM65zcjm,6,x\n\
                   A,B,nothing,6,x\n\
                   A,B,EKpQGSJtjMFqKZ9KQanSqYXRcF8fBopzLHYxdM65zcjm,20,x\n\n\
                   A,\"B,EKpQGSJtjMFqKZ9KQanSqYXRcF8fBopzLHYxdM65zcjm,6,x\n\
                   A,B,EKpQGSJtjMFqKZ9KQanSqYXRcF8fBopzLHYxdM65zcjm,six,x\r\n";
        let list = read(csv.as_bytes()).unwrap();
        assert_eq!(list.listings.len(), 1);
        assert_eq!(list.listings[0].name.as_deref(), Some("dogwif\"hat\", the"));
        assert_eq!(list.refused.iter().map(|r| r.place).collect::<Vec<_>>(), [3, 4, 6, 7]);
        assert!(list.refused[3].why.contains("`six`"), "{:?}", list.refused[3]);
    }

    #[test]
    fn another_csv_is_one_error() {
        for text in ["Mint,Reasons\n3mXx1bNiB5bhgwznk4eeqM9eoy6DU3CeCkm1LPabeoEh,scam\n", "x", "\"", "\u{ff}"] {
            assert!(matches!(read(text.as_bytes()), Err(Error::Invalid { .. })), "{text}");
        }
        assert!(read(&[b'a', 0xff]).is_err());
    }
}
