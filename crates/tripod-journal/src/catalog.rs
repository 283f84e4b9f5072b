//! The schemas of a journal: id, name, opaque text. Kept beside the segments and in the header of each.
//!
//! Constraints: an id never changes its meaning; entries are only ever added; the file is replaced whole (temporary
//! file, fsync, rename), so a crash leaves the old one or the new one. A lost file is rebuilt from segment headers.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::layout::{Fields, narrow, wide};
use crate::{Error, disk};

/// Most schemas a journal can have: the counters of that many stand in `counts` and in each segment's header.
pub const SCHEMAS_MAX: usize = if cfg!(loom) { 2 } else { 256 };
/// Longest schema name.
pub const SCHEMA_NAME_BYTES_MAX: usize = 256;
/// Longest schema text.
const TEXT_BYTES_MAX: usize = 64 * 1024;
const MAGIC: &[u8; 8] = b"TRIPODC1";
const HEAD_BYTES: usize = 12;

/// A schema's number in one journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SchemaId(pub u16);

impl SchemaId {
    /// Its place in tables of counters.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// One schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number in this journal.
    pub id: SchemaId,
    /// What it is called; several entries may share a name, with different texts.
    pub name: String,
    /// What it is; opaque to the journal.
    pub text: String,
}

/// All schemas of a journal, in the order of their ids, which are 0, 1, 2 and so on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    entries: Vec<Entry>,
}

impl Catalog {
    /// Reads the catalog of the journal in `dir`; from any process, at any time.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        Self::read_if_there(dir)?.ok_or_else(|| Error::Missing { path: dir.to_owned() })
    }

    pub(crate) fn read_if_there(dir: &Path) -> Result<Option<Self>, Error> {
        let path = path_in(dir);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        Self::decode(&bytes).map(Some).ok_or_else(|| Error::damaged(&path, 0, "the checksum does not match"))
    }

    /// The schemas.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The schema with this id.
    pub fn get(&self, id: SchemaId) -> Option<&Entry> {
        self.entries.get(id.index())
    }

    pub(crate) fn find(&self, name: &str, text: &str) -> Option<SchemaId> {
        self.entries.iter().find(|entry| entry.name == name && entry.text == text).map(|entry| entry.id)
    }

    pub(crate) fn add(&mut self, name: &str, text: &str) -> Result<SchemaId, Error> {
        let refuse = |name: &'static str, why: String| Err(Error::Option { name, why });
        if name.is_empty() || name.len() > SCHEMA_NAME_BYTES_MAX {
            return refuse("schema name", format!("{} bytes are not from 1 to {SCHEMA_NAME_BYTES_MAX}", name.len()));
        }
        if text.len() > TEXT_BYTES_MAX {
            return refuse("schema text", format!("{} bytes are more than {TEXT_BYTES_MAX}", text.len()));
        }
        let (Ok(number), true) = (u16::try_from(self.entries.len()), self.entries.len() < SCHEMAS_MAX) else {
            return refuse("schemas", format!("a journal takes {SCHEMAS_MAX}; start a new one for more"));
        };
        let id = SchemaId(number);
        self.entries.push(Entry { id, name: name.to_owned(), text: text.to_owned() });
        Ok(id)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for entry in &self.entries {
            body.extend_from_slice(&entry.id.0.to_le_bytes());
            for text in [&entry.name, &entry.text] {
                body.extend_from_slice(&wide(text.len()).to_le_bytes());
                body.extend_from_slice(text.as_bytes());
            }
        }
        let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        if fields.bytes(MAGIC.len())? != MAGIC || fields.u32()? != crc32c::crc32c(bytes.get(HEAD_BYTES..)?) {
            return None;
        }
        let mut entries = Vec::new();
        while !fields.0.is_empty() {
            let id = SchemaId(fields.u16()?);
            let mut text = || -> Option<String> {
                let len = narrow(fields.u64()?);
                String::from_utf8(fields.bytes(len)?.to_vec()).ok()
            };
            let (name, text) = (text()?, text()?);
            if id.index() != entries.len() || entries.len() == SCHEMAS_MAX {
                return None;
            }
            entries.push(Entry { id, name, text });
        }
        Some(Self { entries })
    }

    /// Replaces the file; when this returns, the new catalog is on the disk.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Error> {
        replace(&path_in(dir), &self.encode())
    }
}

/// Where the catalog of the journal in `dir` is.
pub(crate) fn path_in(dir: &Path) -> PathBuf {
    dir.join("catalog")
}

/// Replaces a file as a whole, durably.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary).map_err(Error::io("create", &temporary))?;
    file.write_all(bytes).and_then(|()| disk::sync_file(&file, &temporary)).map_err(Error::io("write", &temporary))?;
    disk::rename(&temporary, path).map_err(Error::io("rename", &temporary))?;
    sync_parent(path)
}

/// Makes a new name in a directory durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), Error> {
    let Some(parent) = path.parent() else { return Ok(()) };
    disk::sync_dir(parent).map_err(Error::io("sync", parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_any_flipped_byte_is_noticed() {
        let mut catalog = Catalog::default();
        catalog.add("trades", "{\"columns\":[]}").unwrap();
        catalog.add("quotes", "").unwrap();
        let bytes = catalog.encode();
        assert_eq!(Catalog::decode(&bytes).as_ref(), Some(&catalog));
        for at in 0..bytes.len() {
            let mut torn = bytes.clone();
            torn[at] ^= 0x10;
            assert_eq!(Catalog::decode(&torn), None, "byte {at}");
        }
        for len in 0..bytes.len() {
            assert_eq!(Catalog::decode(&bytes[..len]), None, "length {len}");
        }
    }

    #[test]
    fn the_limit_of_schemas_is_refused_by_name() {
        let mut catalog = Catalog::default();
        for n in 0..SCHEMAS_MAX {
            catalog.add("t", &n.to_string()).unwrap();
        }
        assert!(catalog.add("one more", "").unwrap_err().to_string().contains("256"));
    }
}
