//! Crash-safe append-only log on memory-mapped segments. It knows bytes, not rows.
//!
//! # Constraints
//! - [`Journal::append`] is called by a trading thread. It allocates nothing, calls no server, never waits for the disk
//!   and never for another thread's record. When it returned `Ok`, the record survives a kill -9 of the process.
//! - A thread that is preempted, parked or killed between claiming its place and publishing its record neither blocks
//!   other threads nor hides what they publish afterwards.
//! - A reader needs no help from the writer: it may live in another process, and go on after the writer died.
//! - Space is really allocated before it is mapped. A full disk is an error at allocation, never a SIGBUS.
//! - Nothing is repaired in silence. What recovery cuts off, counts or finds contradictory is returned in [`Recovery`].
//! - Every limit is an option or a constant with its unit in the name.
//!
//! # Picture
//! ```text
//!  dir/
//!    writer.lock        flock of the one writer            catalog   schemas: id, name, text
//!    counts             mapped: recorded per lane and schema, dropped per schema, how long appends took
//!    checkpoint.a .b    counts and sinks' commits that no power loss takes back
//!    segments/0000000000000007.seg
//!    sinks/<name>.cursor  two slots: what this sink has passed, with its own state      <name>.lock
//!
//!  recorders ──try-lock──▶ lane 0 ─▶ segment 5 [header│rec│rec│rec│........]      keeper (one background thread)
//!     first free lane  ──▶ lane 1 ─▶ segment 6 [header│rec│................]       makes spares ahead, syncs,
//!                                    segment 7 (spare: allocated, mapped, faulted)  deletes what every sink passed
//!
//!  sink ──own read-only mapping──▶ every segment in id order, up to what is published
//! ```
//!
//! # Operation
//! A *lane* is an open segment and a lock that is only ever tried. A recorder takes the first free lane, writes its
//! record behind the last one, and publishes it by storing length and checksum in one word, last, with release order.
//! If all lanes are taken a further one is opened. So within a segment records stand without gaps, and the first record
//! that is not whole is the segment's last. When a segment is full its recorder seals it (a word in the header) and
//! takes a spare.
//!
//! [`Journal::open`] never rewrites a record: it seals what a dead writer left open at the first record that is not
//! whole, says how much lay behind it, and starts new segments.
//!
//! A [`Sink`] reads everything published, in segment order, and commits its [`Cursor`] together with a state of its
//! own. [`Snapshot`] sets the writer's counts, a sink's cursor and a sink's state side by side, exactly: whatever is
//! recorded and not pending has been passed.
//!
//! ```
//! use std::ops::ControlFlow;
//! use tripod_journal::{Journal, Options, Sink};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let (journal, _recovery) = Journal::open(Options { segment_bytes: 1 << 16, ..Options::new(dir.path()) })?;
//! let trades = journal.register("trades", "{}")?;
//! journal.append(trades, 5, |out| {
//!     out.copy_from_slice(b"hello");
//!     Ok::<(), std::convert::Infallible>(())
//! })?;
//!
//! let mut sink = Sink::open(dir.path(), "primary")?;
//! sink.read(|record| {
//!     assert_eq!(record.payload, b"hello");
//!     ControlFlow::Continue(())
//! })?;
//! let mark = sink.mark();
//! sink.commit(&mark, b"delivered 1")?;
//! # Ok(())
//! # }
//! ```

mod boot;
mod catalog;
mod checkpoint;
#[allow(unsafe_code)] // The lock of a lane; each block says why it is sound, and loom looks for what it misses.
mod claim;
mod counts;
#[cfg(test)]
mod crash_tests;
#[allow(unsafe_code)] // One call of a function compiled for what the processor was just found to have.
mod crc;
mod cursor;
mod disk;
mod error;
mod format;
#[allow(unsafe_code)] // One advice to the kernel, which changes no byte.
mod huge;
mod inspect;
mod keeper;
mod lane;
mod layout;
mod lock;
#[cfg(all(test, loom))]
#[allow(unsafe_code)] // A model of mapped memory, which reports every access that could be a race.
mod loom_tests;
#[allow(unsafe_code)] // The one module that maps memory; each block says why it is sound.
mod mapping;
mod options;
mod pool;
#[cfg(test)]
mod power_tests;
mod publish;
mod reader;
mod record;
mod recover;
mod segment;
mod slots;
mod snapshot;
#[cfg_attr(loom, allow(unsafe_code))] // What loom calls unsafe; see there.
mod sync;
mod took;
mod writer;

pub use catalog::{Catalog, Entry, SCHEMA_NAME_BYTES_MAX, SCHEMAS_MAX, SchemaId};
pub use counts::Counts;
pub use cursor::{Cursor, Position};
pub use error::{AppendError, Error};
pub use huge::prefer_huge_pages;
pub use inspect::{Inventory, Segment, SegmentState, SinkProgress, Verified, verify};
pub use options::{LANES_MAX, Options, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, Sync};
pub use reader::{Damage, Record, Sink};
pub use recover::{Difference, Healed, Recovery, SealedTail};
pub use slots::STATE_BYTES_MAX;
pub use snapshot::Snapshot;
pub use took::Took;
pub use writer::{Journal, Usage};
