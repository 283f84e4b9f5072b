//! Jupiter's list of validated tokens: `Name,Symbol,Mint,Decimals,LogoURI,…`, mainnet only.
//!
//! Constraints: columns are found by their names; a quoted field may hold commas and doubled quotes, and ends on its
//! line.

use std::io::{BufRead, Read as _};

use super::collect::{Batch, Collector};
use super::list::{Entry, listing};
use super::{Kind, MAINNET};
use crate::error::{Error, Result};
use crate::tokens::store::Listing;

/// What has to be there.
const COLUMNS: [&str; 4] = ["name", "symbol", "mint", "decimals"];
/// Bytes of a line at most.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// Where the header says that each column is.
#[derive(Debug)]
pub(super) struct Columns {
    name: usize,
    symbol: usize,
    mint: usize,
    decimals: usize,
    /// Of every line.
    count: usize,
}

impl Columns {
    /// Reads the header.
    pub(super) fn read(source: &mut impl BufRead) -> Result<Self> {
        let mut text = String::new();
        let line = line(source, &mut text).map_err(|why| Error::invalid("import", why))?.unwrap_or_default();
        let header = fields(line).unwrap_or_default();
        let place = |name: &str| header.iter().position(|column| column.trim().eq_ignore_ascii_case(name));
        let [Some(name), Some(symbol), Some(mint), Some(decimals)] = COLUMNS.map(place) else {
            let why = format!("is neither JSON nor a CSV with the columns {}", COLUMNS.join(", "));
            return Err(Error::invalid("import", why));
        };
        Ok(Self { name, symbol, mint, decimals, count: header.len() })
    }

    /// Reads the lines behind the header.
    ///
    /// # Errors
    /// Why the rest cannot be read, in words.
    pub(super) fn read_lines<F: FnMut(Batch) -> bool>(
        &self,
        mut source: impl BufRead,
        collector: &mut Collector<F>,
    ) -> Result<(), String> {
        collector.holds(Kind::JupiterCsv);
        let mut text = String::new();
        // Lines count from 1, as editors do; the header is one.
        for number in 2.. {
            let Some(line) = line(&mut source, &mut text).map_err(|why| format!("line {number}: {why}"))? else {
                break;
            };
            if line.trim().is_empty() {
                continue;
            }
            let row = fields(line).unwrap_or_default();
            match self.listing(&row) {
                Ok(listing) => collector.listed(listing).map_err(|_| "nobody wants the rest".to_owned())?,
                Err(why) => collector.refuse_at(number, row.get(self.mint).cloned().unwrap_or_default(), why),
            }
        }
        Ok(())
    }

    fn listing(&self, row: &[String]) -> Result<Listing, String> {
        if row.len() != self.count {
            return Err(format!("has {} fields, the header has {}", row.len(), self.count));
        }
        let field = |at: usize| row.get(at).map(String::as_str).unwrap_or_default();
        let decimals = field(self.decimals);
        listing(&Entry {
            chain_id: MAINNET,
            address: field(self.mint).trim().to_owned(),
            symbol: field(self.symbol).to_owned(),
            name: field(self.name).to_owned(),
            decimals: decimals.trim().parse().map_err(|_| format!("decimals `{decimals}` are no number"))?,
        })
    }
}

/// The next line without its end; none behind the last.
fn line<'a>(source: &mut impl BufRead, text: &'a mut String) -> Result<Option<&'a str>, String> {
    text.clear();
    match source.by_ref().take(LINE_BYTES_MAX).read_line(text) {
        Ok(0) => Ok(None),
        Ok(_) if !text.ends_with('\n') && u64::try_from(text.len()) == Ok(LINE_BYTES_MAX) => {
            Err(format!("is longer than {LINE_BYTES_MAX} bytes"))
        }
        Ok(_) => Ok(Some(text.trim_end_matches(['\r', '\n']))),
        Err(e) => Err(format!("cannot be read: {e}")),
    }
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

    fn read(bytes: &[u8]) -> Result<super::super::List> {
        let mut list = super::super::List::default();
        let mut collector = Collector::new(MAINNET, 0, None, |batch| {
            if let Batch::Listings(listings) = batch {
                list.listings.extend(listings);
            }
            true
        });
        let mut source = bytes;
        let torn = Columns::read(&mut source)?.read_lines(source, &mut collector).err();
        let report = collector.finish(torn)?;
        match report.torn {
            Some(why) => Err(Error::invalid("import", why)),
            None => Ok(super::super::List { refused: report.refused, ..list }),
        }
    }

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
