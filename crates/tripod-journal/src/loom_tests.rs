//! Claiming, publishing, counting, sealing and closing, in every order of steps and with every value that the memory model
//! lets a thread see: `RUSTFLAGS="--cfg loom" cargo test -p tripod-journal --release --lib loom`.
//!
//! # Constraints
//! - What runs is the journal's own code: `claim.rs`, `publish.rs`, the marks of `segment.rs`, `counts::read_lane`,
//!   `reader::read_on`. Only the memory is a model, and what is left of a lane and of its renewal when there are no files.
//! - A record's bytes are a cell that reports an access which no ordering puts before or after another one. So does what a
//!   lane guards. "Seen whole" and "written by one" are therefore not compared values: any race ends the model.
//! - Models are small, each of two threads and a reader with a few operations each, because the number of orders grows
//!   with every step. Each is run again with one ordering relaxed, for each ordering that it needs, and has to fail then.
//!
//! # Operation
//! [`holds`] runs a model; [`fails_without`] runs it relaxed. `LOOM_MAX_PREEMPTIONS=99` lets it try every order there is.
//! Loom keeps the last access to a word only, so a thread must not load what it alone stores as others would: see
//! [`Word::own`].

use std::panic::catch_unwind;
use std::path::Path;
use std::sync::atomic::Ordering;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, AtomicUsize};
use loom::thread;

use crate::claim::{Lanes, Refused};
use crate::cursor::Partial;
use crate::layout::wide;
use crate::publish::{self, Counters};
use crate::reader::{Published, Reached, read_on};
use crate::record::{self, Found};
use crate::segment::{self, Sealed, Started, Torn};
use crate::sync::{RELAXED, Step, Word, Words};
use crate::{Error, SchemaId, counts};

/// Schemas of a journal under loom.
const SCHEMAS: usize = crate::SCHEMAS_MAX;
const PAYLOAD_BYTES: usize = 8;
const RECORD_BYTES: usize = record::size_of(PAYLOAD_BYTES);
/// Most switches away from a thread that could have gone on: some seconds. Without a bound it is minutes, in `make soak`.
const PREEMPTIONS: usize = 4;
/// Where the header's marks begin and end.
const MARKS: std::ops::Range<usize> = 64..segment::WORDS_END;

/// A mapped segment.
struct Memory {
    id: u64,
    marks: Vec<AtomicU64>,
    heads: Vec<AtomicU64>,
    bodies: Vec<UnsafeCell<[u8; PAYLOAD_BYTES]>>,
    position: AtomicU64,
}

impl Memory {
    fn new(id: usize, records: usize) -> Self {
        Self {
            id: wide(id),
            marks: MARKS.step_by(8).map(|_| AtomicU64::new(0)).collect(),
            heads: (0..records).map(|_| AtomicU64::new(0)).collect(),
            bodies: (0..records).map(|_| UnsafeCell::new([0; PAYLOAD_BYTES])).collect(),
            position: AtomicU64::new(0),
        }
    }

    fn mark(&self) -> impl Fn(usize) -> u64 {
        |offset| self.word(offset).get(Step::LookAtMark.order(Ordering::Acquire))
    }
}

impl Words for Memory {
    type Word = AtomicU64;

    fn word(&self, offset: usize) -> &AtomicU64 {
        &self.marks[(offset - MARKS.start) / 8]
    }
}

impl Published for Memory {
    fn segment(&self) -> u64 {
        self.id
    }

    fn look(&self, offset: usize) -> Found<'_> {
        let at = offset / RECORD_BYTES;
        let Some(head) = self.heads.get(at) else { return Found::Nothing };
        let word = publish::look(head);
        if word == 0 {
            return Found::Nothing;
        }
        // SAFETY: loom ends the model here if anybody may be writing to it; nobody does so later, for the record is
        // published.
        let payload = self.bodies[at].with(|body| unsafe { &*body });
        assert_eq!(word, word_of(u64::from_le_bytes(*payload)), "a record that is not whole");
        Found::Whole { schema: SchemaId(0), payload, next: offset + RECORD_BYTES }
    }

    fn sealed_end(&self) -> Result<Option<usize>, Error> {
        let sealed = segment::load_sealed(self.mark(), self.id);
        sealed.map(|sealed| sealed.map(|sealed| sealed.end)).map_err(|Torn| self.damaged(0, "torn".to_owned()))
    }

    fn damaged(&self, offset: usize, what: String) -> Error {
        Error::damaged(Path::new("model"), offset, what)
    }
}

/// Stands for length and checksum: never zero, and of this body alone.
fn word_of(id: u64) -> u64 {
    id + 1_000
}

/// What the holder of a lane works with.
struct Lane {
    index: usize,
    /// A segment, and how many records it has.
    open: Option<(usize, usize)>,
    /// Of the lane, before this segment.
    first_record: u64,
}

/// Counters of one lane.
#[derive(Default)]
struct Counts {
    recorded: [AtomicU64; SCHEMAS],
    total: AtomicU64,
}

#[derive(Debug, PartialEq, Eq)]
struct Full;

struct Journal {
    lanes: Lanes<Lane>,
    segments: Vec<Memory>,
    /// How many segments were given to lanes.
    started: AtomicUsize,
    counts: Vec<Counts>,
    records: usize,
}

impl Journal {
    /// `records`: of a segment.
    fn new(lanes: usize, segments: usize, records: usize) -> Arc<Self> {
        Arc::new(Self {
            lanes: Lanes::new(lanes, |index| Lane { index, open: None, first_record: 0 }),
            segments: (0..segments).map(|id| Memory::new(id, records)).collect(),
            started: AtomicUsize::new(0),
            counts: (0..lanes).map(|_| Counts::default()).collect(),
            records,
        })
    }

    fn append(&self, id: u64) -> Result<(), Refused<Full>> {
        self.append_or_stop(id, false)
    }

    /// `stop`: between claiming and publishing, for ever.
    fn append_or_stop(&self, id: u64, stop: bool) -> Result<(), Refused<Full>> {
        let has_room = |lane: &Lane| lane.open.is_some_and(|(_, records)| records < self.records);
        let (mut lane, index) = self.lanes.claim(0, has_room, |lane| self.renew(lane))?;
        assert_eq!(lane.index, index);
        let Some((segment, at)) = lane.open else { unreachable!("it has room") };
        let memory = &self.segments[segment];
        // SAFETY: loom ends the model here if anybody else may have this lane, or may read this record.
        memory.bodies[at].with_mut(|body| unsafe { *body = id.to_le_bytes() });
        if stop {
            std::mem::forget(lane);
            return Ok(());
        }
        let counts = &self.counts[index];
        let counters = Counters { recorded: &counts.recorded[schema_of(id)], total: &counts.total };
        let end = wide((at + 1) * RECORD_BYTES);
        publish::publish(&memory.heads[at], word_of(id), &memory.position, end, &counters);
        lane.open = Some((segment, at + 1));
        Ok(())
    }

    /// In the order of the real one: a fresh segment, the seal, the start.
    fn renew(&self, lane: &mut Lane) -> Result<(), Full> {
        let fresh = self.started.fetch_add(1, Ordering::Relaxed);
        self.seal(lane);
        let memory = self.segments.get(fresh).ok_or(Full)?;
        lane.first_record = self.counts[lane.index].total.own();
        let started = Started { lane: lane.index, first_record: lane.first_record };
        segment::store_started(memory, memory.id, started);
        lane.open = Some((fresh, 0));
        Ok(())
    }

    fn seal(&self, lane: &mut Lane) {
        let Some((segment, records)) = lane.open.take() else { return };
        let (memory, end) = (&self.segments[segment], records * RECORD_BYTES);
        let sealed = Sealed { end, records: wide(records), at_ns: 7 };
        segment::store_sealed(memory, memory.id, sealed, &[3; SCHEMAS]);
    }

    /// What a reader finds in a segment, and whether it is the end; `None` before a lane has it.
    fn read_segment(&self, segment: usize) -> Option<(Vec<u64>, Reached)> {
        let memory = &self.segments[segment];
        segment::load_started(memory.mark(), memory.id).expect("a torn mark")?;
        let mut ids = Vec::new();
        let mut place = Partial { segment: memory.id, offset: 0, records: 0 };
        let reached = read_on(memory, &mut place, &mut 0, &mut |record| {
            ids.push(u64::from_le_bytes(record.payload.try_into().unwrap()));
            std::ops::ControlFlow::Continue(())
        });
        Some((ids, reached.expect("nothing is damaged")))
    }

    fn read(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = (0..self.segments.len())
            .filter_map(|segment| self.read_segment(segment))
            .flat_map(|(ids, _)| ids)
            .collect();
        ids.sort_unstable();
        ids
    }
}

fn schema_of(id: u64) -> usize {
    if id % 2 == 0 { 0 } else { 1 }
}

/// Appends each, in a thread of its own; gives those that were kept.
fn recorder(journal: &Arc<Journal>, ids: &'static [u64]) -> thread::JoinHandle<Vec<u64>> {
    let journal = Arc::clone(journal);
    thread::spawn(move || ids.iter().copied().filter(|id| journal.append(*id).is_ok()).collect())
}

fn run(model: fn()) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(PREEMPTIONS));
    builder.max_branches = 10_000;
    builder.check(model);
}

fn holds(model: fn()) {
    run(model);
}

/// The model is worth something: without any one of these orderings it finds what is wrong.
fn fails_without(steps: &[Step], model: fn()) {
    for step in steps {
        RELAXED.set(Some(*step));
        let outcome = catch_unwind(|| run(model));
        RELAXED.set(None);
        assert!(outcome.is_err(), "the model does not need the ordering of {step:?}");
    }
}

fn one_recorder_and_a_reader() {
    let journal = Journal::new(1, 1, 2);
    let recording = recorder(&journal, &[1, 2]);
    let early = journal.read();
    assert!([&[][..], &[1], &[1, 2]].contains(&&early[..]), "{early:?}");
    assert_eq!(recording.join().unwrap(), [1, 2]);
    assert_eq!(journal.read(), [1, 2]);
}

#[test]
fn whoever_sees_a_records_length_sees_the_whole_record() {
    holds(one_recorder_and_a_reader);
    fails_without(&[Step::Publish, Step::Look], one_recorder_and_a_reader);
}

fn two_recorders() {
    let journal = Journal::new(2, 2, 3);
    let recording = [recorder(&journal, &[1, 2]), recorder(&journal, &[3])];
    let kept: Vec<u64> = recording.into_iter().flat_map(|recorder| recorder.join().unwrap()).collect();
    assert_eq!(kept, [1, 2, 3]);
    assert_eq!(journal.read(), [1, 2, 3]);
}

#[test]
fn no_two_threads_write_to_the_same_bytes() {
    holds(two_recorders);
    fails_without(&[Step::TakeLane, Step::FreeLane], two_recorders);
}

fn two_recorders_and_a_reader() {
    let journal = Journal::new(2, 2, 2);
    let recording = [recorder(&journal, &[1]), recorder(&journal, &[2])];
    let early = journal.read();
    assert!([&[][..], &[1], &[2], &[1, 2]].contains(&&early[..]), "{early:?}");
    recording.into_iter().for_each(|recorder| drop(recorder.join().unwrap()));
    assert_eq!(journal.read(), [1, 2]);
}

#[test]
fn a_reader_beside_two_recorders_finds_whole_records_and_no_hole() {
    holds(two_recorders_and_a_reader);
    fails_without(&[Step::Publish, Step::Look, Step::TakeLane, Step::FreeLane], two_recorders_and_a_reader);
}

fn one_of_two_recorders_stops() {
    let journal = Journal::new(2, 2, 3);
    let stops = {
        let journal = Arc::clone(&journal);
        thread::spawn(move || journal.append_or_stop(7, true).unwrap())
    };
    let recording = recorder(&journal, &[8]);
    stops.join().unwrap();
    assert_eq!(recording.join().unwrap(), [8]);
    // Also one who comes later, and surely finds a lane taken.
    journal.append(9).unwrap();
    assert_eq!(journal.read(), [8, 9]);
}

#[test]
fn who_stops_between_claiming_and_publishing_holds_up_nobody_and_hides_nothing() {
    holds(one_of_two_recorders_stops);
    fails_without(&[Step::TakeLane, Step::FreeLane], one_of_two_recorders_stops);
}

fn a_segment_is_left_beside_a_reader() {
    let journal = Journal::new(1, 2, 1);
    let recording = recorder(&journal, &[1, 2]);
    for (segment, id) in [(0, 1), (1, 2)] {
        match journal.read_segment(segment) {
            None => {}
            Some((ids, Reached::Published)) => assert!(ids.is_empty() || ids == [id], "{ids:?}"),
            Some((ids, Reached::End)) => assert_eq!(ids, [id], "the end, and a record is missing"),
            Some((_, Reached::Break)) => unreachable!("nobody breaks"),
        }
    }
    assert_eq!(recording.join().unwrap(), [1, 2]);
    assert_eq!(journal.read_segment(0), Some((vec![1], Reached::End)));
    assert_eq!(journal.read(), [1, 2]);
}

#[test]
fn whoever_sees_a_seal_sees_every_record_before_it() {
    holds(a_segment_is_left_beside_a_reader);
    fails_without(&[Step::Mark, Step::LookAtMark], a_segment_is_left_beside_a_reader);
}

fn two_recorders_leave_their_segments() {
    let journal = Journal::new(2, 3, 1);
    let recording = [recorder(&journal, &[1, 2]), recorder(&journal, &[3])];
    let kept: Vec<u64> = recording.into_iter().flat_map(|recorder| recorder.join().unwrap()).collect();
    assert_eq!(kept, [1, 2, 3], "there are as many segments as records");
    assert_eq!(journal.read(), [1, 2, 3]);
    // Nothing is free: who was refused leaves no lane open that a reader would wait at for ever.
    assert_eq!(journal.append(4), Err(Refused::By(Full)));
}

#[test]
fn a_segment_is_sealed_by_who_claims_its_lane_and_never_written_to_again() {
    holds(two_recorders_leave_their_segments);
    fails_without(&[Step::TakeLane, Step::FreeLane], two_recorders_leave_their_segments);
}

fn closed_while_it_records() {
    let journal = Journal::new(2, 3, 1);
    let recording = recorder(&journal, &[1, 2]);
    let closed = journal.lanes.close(
        |lane| journal.seal(lane),
        || {
            thread::yield_now();
            true
        },
    );
    assert!(closed, "who records ends some time");
    let at_close = journal.read();
    for segment in 0..3 {
        let reached = journal.read_segment(segment).map(|(_, reached)| reached);
        assert!(reached.is_none_or(|reached| reached == Reached::End), "open behind the close");
    }
    assert_eq!(recording.join().unwrap(), at_close, "kept, and not there at the close; or there, and not kept");
    assert_eq!(journal.append(3), Err(Refused::Closed));
    assert_eq!(journal.read(), at_close);
}

#[test]
fn what_is_kept_beside_a_close_is_before_the_seals_and_nothing_is_kept_behind_them() {
    holds(closed_while_it_records);
    fails_without(&[Step::TakeLane, Step::FreeLane], closed_while_it_records);
}

fn counted_beside_a_recorder() {
    // Of schemas 0, 1 and 0 again.
    const IDS: &[u64] = &[2, 1, 4];
    let journal = Journal::new(1, 1, 3);
    let recording = recorder(&journal, IDS);
    let counts = &journal.counts[0];
    let load = |offset| {
        let word = match offset {
            counts::IN_USE => return wide(SCHEMAS),
            _ if offset == counts::total_at(0) => &counts.total,
            _ if offset == counts::recorded_at(0, 0) => &counts.recorded[0],
            _ => &counts.recorded[1],
        };
        word.get(Step::LookAtCounts.order(Ordering::Acquire))
    };
    let (table, exact) = counts::read_lane(&load, 0);
    if exact {
        assert!([[0, 0], [1, 0], [1, 1], [2, 1]].contains(&table), "{table:?} is no prefix");
        let counted = table.iter().sum::<u64>();
        let synced_up_to = journal.segments[0].position.load(Ordering::Acquire);
        assert!(counted * wide(RECORD_BYTES) <= synced_up_to, "{counted} counted, {synced_up_to} would be synced");
        assert!(counted <= wide(journal.read().len()), "counted, and not published");
    }
    assert_eq!(recording.join().unwrap(), IDS);
    assert_eq!(counts::read_lane(&load, 0), (Box::new([2, 1]), true));
}

#[test]
fn what_is_counted_is_an_exact_prefix_of_what_is_published_and_will_be_synced() {
    holds(counted_beside_a_recorder);
    fails_without(&[Step::CountBegins, Step::LookAtCounts, Step::CountEnds], counted_beside_a_recorder);
}
