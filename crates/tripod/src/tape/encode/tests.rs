use proptest::prelude::*;
use questdb::ingress::{Buffer, ProtocolVersion};

use super::*;
use crate::tape::row::ColumnWriter;
use crate::tape::spec::Importance;

/// A row whose spec and values are chosen by the test; the trait is written against statics, so specs are leaked, as
/// one would be by a program that lives as long.
struct Chosen {
    spec: &'static TableSpec,
    values: Vec<Owned>,
}

#[derive(Debug, Clone, PartialEq)]
enum Owned {
    Boolean(bool),
    Long(Option<i64>),
    Double(Option<f64>),
    Decimal(Option<Decimal>),
    Unsigned(Option<u64>),
    Timestamp(Option<Timestamp>),
    Uuid(Option<Uuid>),
    Symbol(Option<String>),
    Text(Option<String>),
}

impl Owned {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Boolean(v) => Value::Boolean(*v),
            Self::Long(v) => v.map_or(Value::Null, Value::Long),
            Self::Double(v) => v.map_or(Value::Null, Value::Double),
            Self::Decimal(v) => v.map_or(Value::Null, Value::Decimal),
            Self::Unsigned(v) => v.map_or(Value::Null, Value::Unsigned),
            Self::Timestamp(v) => v.map_or(Value::Null, Value::Timestamp),
            Self::Uuid(v) => v.map_or(Value::Null, Value::Uuid),
            Self::Symbol(v) => v.as_deref().map_or(Value::Null, Value::Symbol),
            Self::Text(v) => v.as_deref().map_or(Value::Null, Value::Text),
        }
    }
}

impl Chosen {
    fn write<W: ColumnWriter>(&self, writer: &mut W) -> Result<()> {
        for value in &self.values {
            match value {
                Owned::Boolean(v) => writer.boolean(*v)?,
                Owned::Long(v) => writer.long(*v)?,
                Owned::Double(v) => writer.double(*v)?,
                Owned::Decimal(v) => writer.decimal(*v)?,
                Owned::Unsigned(v) => writer.unsigned(*v)?,
                Owned::Timestamp(v) => writer.timestamp(*v)?,
                Owned::Uuid(v) => writer.uuid(*v)?,
                Owned::Symbol(v) => writer.symbol(v.as_deref())?,
                Owned::Text(v) => writer.text(v.as_deref())?,
            }
        }
        Ok(())
    }

    /// What `measure` and `fill` do, for a spec that is not a type's.
    fn payload(&self) -> Result<Vec<u8>> {
        let payload = self.payload_in_two_passes();
        // In one pass, as a row is recorded, it is the same or refused in the same words.
        let mut room = vec![0; bytes_max(self.spec)];
        let filled = write::Fill::new(self.spec, &mut room).and_then(|mut fill| {
            self.write(&mut fill)?;
            fill.finish()
        });
        match (&payload, filled) {
            (Ok(payload), Ok(bytes)) => {
                assert_eq!(&room[..bytes], &payload[..]);
                assert!(room[bytes..].iter().all(|byte| *byte == 0), "something was written behind the payload");
            }
            (Err(expected), Err(error)) => assert_eq!(error.to_string(), expected.to_string()),
            (payload, filled) => panic!("{payload:?} in two passes, {filled:?} in one"),
        }
        payload
    }

    fn payload_in_two_passes(&self) -> Result<Vec<u8>> {
        let mut measure = write::Measure::new(self.spec);
        self.write(&mut measure)?;
        // Dirty memory, as a reused segment's is.
        let mut payload = vec![0xaa; measure.finish()?];
        let mut fill = write::Fill::new(self.spec, &mut payload)?;
        self.write(&mut fill)?;
        fill.finish_full()?;
        Ok(payload)
    }
}

fn column(name: &str, kind: Kind, optional: bool) -> ColumnSpec {
    ColumnSpec { name: name.into(), kind, key: false, optional, doc: String::new() }
}

/// One mandatory and one optional column of each kind.
fn every_kind() -> TableSpec {
    let kinds = [
        ("b", Kind::Boolean),
        ("l", Kind::Long),
        ("f", Kind::Double),
        ("d", Kind::Decimal { precision: 38, scale: 18 }),
        ("u", Kind::Unsigned),
        ("ts", Kind::Timestamp),
        ("id", Kind::Uuid),
        ("s", Kind::Symbol),
        ("t", Kind::Text { max_bytes: 300 }),
    ];
    let mut columns = vec![ColumnSpec { key: true, ..column("at", Kind::Timestamp, false) }];
    for (name, kind) in kinds {
        columns.push(ColumnSpec { key: name == "id", ..column(name, kind, false) });
        if kind != Kind::Boolean {
            columns.push(column(&format!("{name}_or_none"), kind, true));
        }
    }
    let spec = TableSpec {
        name: "every_kind".into(),
        importance: Importance::Standard,
        retain_days: 1,
        columns,
        doc: String::new(),
    };
    spec.check().unwrap();
    spec
}

fn leak(spec: TableSpec) -> &'static TableSpec {
    Box::leak(Box::new(spec))
}

/// A table of the designated timestamp, an id, and one column.
fn one_column(kind: Kind, optional: bool) -> &'static TableSpec {
    leak(TableSpec {
        name: "one".into(),
        importance: Importance::Standard,
        retain_days: 1,
        columns: vec![
            ColumnSpec { key: true, ..column("at", Kind::Timestamp, false) },
            ColumnSpec { key: true, ..column("id", Kind::Uuid, false) },
            column("x", kind, optional),
        ],
        doc: String::new(),
    })
}

fn one(spec: &'static TableSpec, value: Owned) -> Result<Vec<u8>> {
    let at = Timestamp::from_nanos(1_795_438_712_000_000_001).unwrap();
    Chosen { spec, values: vec![Owned::Timestamp(Some(at)), Owned::Uuid(Some(Uuid::nil())), value] }.payload()
}

fn decimals() -> impl Strategy<Value = Decimal> {
    // Any 64-bit mantissa at any scale up to 18 fits DECIMAL(38,18).
    prop_oneof![
        (any::<i64>(), 0_u32..=18).prop_map(|(mantissa, scale)| Decimal::from_i128_with_scale(mantissa.into(), scale)),
        Just(Decimal::ZERO),
        Just("99999999999.999999999999999999".parse().unwrap()),
        Just("-99999999999999999999.99999999".parse().unwrap()),
    ]
}

fn texts(max: usize) -> impl Strategy<Value = String> {
    any::<String>().prop_map(move |mut text| {
        text.retain(|c| c != '\0');
        while text.len() > max {
            text.pop();
        }
        text
    })
}

fn instants() -> impl Strategy<Value = Timestamp> {
    prop_oneof![0..=Timestamp::MAX.as_nanos(), Just(0), Just(Timestamp::MAX.as_nanos())]
        .prop_map(|nanos| Timestamp::from_nanos(nanos).unwrap())
}

fn value_of(kind: Kind, optional: bool) -> BoxedStrategy<Owned> {
    fn absent_or<T: std::fmt::Debug + Clone + 'static>(
        value: impl Strategy<Value = T> + 'static,
        optional: bool,
    ) -> BoxedStrategy<Option<T>> {
        if optional { prop::option::of(value).boxed() } else { value.prop_map(Some).boxed() }
    }
    match kind {
        Kind::Boolean => any::<bool>().prop_map(Owned::Boolean).boxed(),
        Kind::Long => {
            absent_or(any::<i64>().prop_filter("NULL", |v| *v != i64::MIN), optional).prop_map(Owned::Long).boxed()
        }
        Kind::Double => {
            absent_or(any::<f64>().prop_filter("NULL", |v| v.is_finite()), optional).prop_map(Owned::Double).boxed()
        }
        Kind::Decimal { .. } => absent_or(decimals(), optional).prop_map(Owned::Decimal).boxed(),
        Kind::Unsigned => absent_or(any::<u64>(), optional).prop_map(Owned::Unsigned).boxed(),
        Kind::Timestamp => absent_or(instants(), optional).prop_map(Owned::Timestamp).boxed(),
        Kind::Uuid => absent_or(any::<u128>().prop_map(Uuid::from_u128), optional).prop_map(Owned::Uuid).boxed(),
        Kind::Symbol => {
            absent_or(texts(64).prop_filter("empty", |text| !text.is_empty()), optional).prop_map(Owned::Symbol).boxed()
        }
        Kind::Text { max_bytes } => absent_or(texts(usize::from(max_bytes)), optional).prop_map(Owned::Text).boxed(),
    }
}

fn rows() -> impl Strategy<Value = Vec<Owned>> {
    every_kind().columns.iter().map(|column| value_of(column.kind, column.optional)).collect::<Vec<_>>()
}

proptest! {
    /// What goes in comes out, for every kind, present and absent; and the line protocol takes it.
    #[test]
    fn a_row_comes_back_as_it_went_in(values in rows()) {
        let spec = leak(every_kind());
        let row = Chosen { spec, values };
        let payload = row.payload().unwrap();
        let expected: Vec<_> = row.values.iter().map(Owned::value).collect();
        prop_assert_eq!(decode(spec, &payload).unwrap(), expected);
        let Owned::Timestamp(at) = &row.values[0] else { unreachable!() };
        prop_assert_eq!(Some(timestamp_of(&payload)), *at);

        let mut buffer = Buffer::new(ProtocolVersion::V3);
        append_line(spec, "dev_every_kind", &payload, &mut buffer).unwrap();
        prop_assert_eq!(buffer.row_count(), 1);
        prop_assert!(buffer.check_can_flush().is_ok());
    }

    /// Cut off anywhere, a payload is an error, and the line buffer stays as it was.
    #[test]
    fn a_payload_that_is_cut_off_is_refused(values in rows(), cut in any::<prop::sample::Index>()) {
        let spec = leak(every_kind());
        let payload = Chosen { spec, values }.payload().unwrap();
        let short = &payload[..cut.index(payload.len())];
        prop_assert!(decode(spec, short).is_err());
        let mut buffer = Buffer::new(ProtocolVersion::V3);
        append_line(spec, "t", &payload, &mut buffer).unwrap();
        let before = buffer.as_bytes().to_vec();
        prop_assert!(append_line(spec, "t", short, &mut buffer).is_err());
        prop_assert_eq!(buffer.as_bytes(), &before[..]);
        prop_assert_eq!(buffer.row_count(), 1);
        append_line(spec, "t", &payload, &mut buffer).unwrap();
        prop_assert_eq!(buffer.row_count(), 2);
    }

    /// Wild bytes never panic; what decodes has exactly one value per column.
    #[test]
    fn wild_bytes_are_an_error_or_a_row(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let spec = every_kind();
        if let Ok(values) = decode(&spec, &bytes) {
            prop_assert_eq!(values.len(), spec.columns.len());
        }
        let _ = timestamp_of(&bytes);
        let _ = append_line(&spec, "t", &bytes, &mut Buffer::new(ProtocolVersion::V3));
    }

    /// One flipped bit never panics either: it gets far deeper than wild bytes do.
    #[test]
    fn a_flipped_bit_is_an_error_or_a_row(values in rows(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let spec = leak(every_kind());
        let mut payload = Chosen { spec, values }.payload().unwrap();
        let at = at.index(payload.len());
        payload[at] ^= 1 << bit;
        let _ = decode(spec, &payload);
        let _ = append_line(spec, "t", &payload, &mut Buffer::new(ProtocolVersion::V3));
    }

    /// The decimal rule against arithmetic on text: a value fits where its digits do.
    #[test]
    fn a_decimal_fits_where_its_digits_do(
        mantissa in prop_oneof![any::<i64>().prop_map(i128::from), -79_228_162_514_264_337_593_543_950_335_i128..=79_228_162_514_264_337_593_543_950_335],
        at in 0_u32..=28,
        zeros in 0_u32..10,
        precision in 1_u8..=38,
        scale in 0_u8..=28,
    ) {
        prop_assume!(scale <= precision);
        // Zeros at the end make a wide mantissa that is still a short number.
        let mantissa = mantissa / 10_i128.pow(zeros) * 10_i128.pow(zeros);
        let value = Decimal::from_i128_with_scale(mantissa, at);
        let text = value.abs().to_string();
        let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
        let whole_digits = whole.trim_start_matches('0').len();
        let part_digits = part.trim_end_matches('0').len();
        let fits = part_digits <= usize::from(scale) && whole_digits <= usize::from(precision - scale);
        prop_assert_eq!(limits::decimal(value, precision, scale).is_ok(), fits, "{} in ({},{})", value, precision, scale);
    }
}

/// Whatever QuestDB would refuse or silently alter, and the words that must stand in the refusal.
#[test]
fn a_value_that_would_be_refused_or_altered_is_refused_before_it_is_written() {
    let symbol = |text: &str| Owned::Symbol(Some(text.into()));
    let text = |text: &str| Owned::Text(Some(text.into()));
    let decimal = |text: &str| Owned::Decimal(Some(text.parse().unwrap()));
    let short = Kind::Decimal { precision: 6, scale: 2 };
    let cases = [
        (Kind::Long, Owned::Long(Some(i64::MIN)), "NULL"),
        (Kind::Double, Owned::Double(Some(f64::NAN)), "NULL"),
        (Kind::Double, Owned::Double(Some(f64::INFINITY)), "NULL"),
        (Kind::Double, Owned::Double(Some(f64::NEG_INFINITY)), "NULL"),
        (short, decimal("0.001"), "2 digits after the point"),
        (short, decimal("10000"), "4 digits before the point"),
        (short, decimal("-10000.00"), "4 digits before the point"),
        (Kind::Symbol, symbol(""), "empty"),
        (Kind::Symbol, symbol(&"s".repeat(65)), "at most 64"),
        (Kind::Symbol, symbol("a\0b"), "NUL"),
        (Kind::Text { max_bytes: 4 }, text("12345"), "room for 4"),
        (Kind::Text { max_bytes: 4 }, text("ééé"), "room for 4"),
        (Kind::Text { max_bytes: 4 }, text("\0"), "NUL"),
        (Kind::Long, Owned::Long(None), "mandatory"),
        (Kind::Symbol, Owned::Symbol(None), "mandatory"),
        (Kind::Long, Owned::Double(Some(1.0)), "handed over a double"),
        (Kind::Unsigned, Owned::Long(Some(1)), "handed over a long"),
        (Kind::Text { max_bytes: 4 }, symbol("a"), "handed over a symbol"),
    ];
    for (kind, value, words) in cases {
        let error = one(one_column(kind, false), value).expect_err(words).to_string();
        assert!(error.starts_with("one.x: ") && error.contains(words), "expected `{words}` in `{error}`");
    }
}

#[test]
fn a_value_at_the_limit_is_taken() {
    let decimal = |text: &str| Owned::Decimal(Some(text.parse().unwrap()));
    for (kind, value) in [
        (Kind::Long, Owned::Long(Some(i64::MIN + 1))),
        (Kind::Long, Owned::Long(Some(i64::MAX))),
        (Kind::Double, Owned::Double(Some(f64::MIN_POSITIVE))),
        (Kind::Double, Owned::Double(Some(-0.0))),
        (Kind::Decimal { precision: 6, scale: 2 }, decimal("9999.99")),
        (Kind::Decimal { precision: 6, scale: 2 }, decimal("-9999.9900000000000000000000")),
        (Kind::Decimal { precision: 1, scale: 0 }, decimal("-0")),
        (Kind::Decimal { precision: 38, scale: 28 }, decimal("7.9228162514264337593543950335")),
        (Kind::Unsigned, Owned::Unsigned(Some(u64::MAX))),
        (Kind::Symbol, Owned::Symbol(Some("s".repeat(64)))),
        (Kind::Text { max_bytes: 4 }, Owned::Text(Some("1234".into()))),
        (Kind::Text { max_bytes: u16::MAX }, Owned::Text(Some("x".repeat(65_535)))),
        (Kind::Text { max_bytes: 4 }, Owned::Text(Some(String::new()))),
    ] {
        let spec = one_column(kind, false);
        let payload = one(spec, value.clone()).unwrap();
        assert_eq!(decode(spec, &payload).unwrap()[2], value.value());
    }
}

#[test]
fn a_row_that_hands_over_too_few_or_too_many_columns_is_refused() {
    let spec = one_column(Kind::Long, false);
    let mut values =
        vec![Owned::Timestamp(Some(Timestamp::EPOCH)), Owned::Uuid(Some(Uuid::nil())), Owned::Long(Some(1))];
    values.push(Owned::Long(Some(2)));
    let error = Chosen { spec, values: values.clone() }.payload().unwrap_err().to_string();
    assert!(error.contains("one more"), "{error}");
    values.truncate(2);
    let error = Chosen { spec, values }.payload().unwrap_err().to_string();
    assert!(error.contains("one.x: was not handed over"), "{error}");
}

#[test]
fn a_row_that_changes_between_measure_and_fill_is_an_error_not_a_panic() {
    let spec = one_column(Kind::Text { max_bytes: 100 }, true);
    let row = |text: Option<&str>| Chosen {
        spec,
        values: vec![
            Owned::Timestamp(Some(Timestamp::EPOCH)),
            Owned::Uuid(Some(Uuid::nil())),
            Owned::Text(text.map(Into::into)),
        ],
    };
    let measured = row(Some("abc")).payload().unwrap().len();
    for changed in [Some("abcd"), Some("ab"), None] {
        let mut out = vec![0; measured];
        let mut fill = write::Fill::new(spec, &mut out).unwrap();
        let outcome = row(changed).write(&mut fill).and_then(|()| fill.finish_full());
        assert!(outcome.is_err(), "{changed:?} was taken");
    }
    assert!(write::Fill::new(spec, &mut [0; 8]).is_err());
}

#[test]
fn the_layout_is_the_one_that_older_journals_have() {
    let spec = leak(every_kind());
    let row = Chosen {
        spec,
        values: vec![
            Owned::Timestamp(Some(Timestamp::from_nanos(1).unwrap())),
            Owned::Boolean(true),
            Owned::Long(Some(-2)),
            Owned::Long(None),
            Owned::Double(Some(1.5)),
            Owned::Double(None),
            Owned::Decimal(Some("-1.25".parse().unwrap())),
            Owned::Decimal(None),
            Owned::Unsigned(Some(3)),
            Owned::Unsigned(None),
            Owned::Timestamp(Some(Timestamp::from_nanos(4).unwrap())),
            Owned::Timestamp(None),
            Owned::Uuid(Some(Uuid::from_u128(5))),
            Owned::Uuid(None),
            Owned::Symbol(Some("sym".into())),
            Owned::Symbol(None),
            Owned::Text(Some(String::new())),
            Owned::Text(None),
        ],
    };
    let expected: Vec<u8> = [
        &1_i64.to_le_bytes()[..],
        &[0b1010_1000, 0b1010_1010, 0b10],
        &[1],
        &(-2_i64).to_le_bytes(),
        &1.5_f64.to_le_bytes(),
        // Flags (scale 2, sign), then 96 bits of mantissa.
        &[0, 0, 2, 0x80, 125, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &3_u64.to_le_bytes(),
        &4_i64.to_le_bytes(),
        &5_u128.to_be_bytes(),
        b"\x03sym",
        &[0, 0],
    ]
    .concat();
    assert_eq!(row.payload().unwrap(), expected);
}

#[test]
fn a_line_has_symbols_first_leaves_nulls_out_and_ends_in_nanoseconds() {
    let spec = one_column(Kind::Symbol, true);
    let mut buffer = Buffer::new(ProtocolVersion::V3);
    append_line(spec, "p_one", &one(spec, Owned::Symbol(Some("a b".into()))).unwrap(), &mut buffer).unwrap();
    append_line(spec, "p_one", &one(spec, Owned::Symbol(None)).unwrap(), &mut buffer).unwrap();
    assert_eq!(
        std::str::from_utf8(buffer.as_bytes()).unwrap(),
        "p_one,x=a\\ b id=\"00000000-0000-0000-0000-000000000000\" 1795438712000000001n\n\
         p_one id=\"00000000-0000-0000-0000-000000000000\" 1795438712000000001n\n"
    );
}

#[test]
fn a_decimal_goes_as_few_bytes_and_without_the_zeros_its_column_has_no_room_for() {
    let spec = one_column(Kind::Decimal { precision: 10, scale: 2 }, false);
    let line_of = |text: &str| {
        let mut buffer = Buffer::new(ProtocolVersion::V3);
        let payload = one(spec, Owned::Decimal(Some(text.parse().unwrap()))).unwrap();
        append_line(spec, "t", &payload, &mut buffer).unwrap();
        let line = buffer.as_bytes().to_vec();
        let start = line.windows(3).position(|w| w == b"x==").unwrap() + 4;
        line[start..start + 2 + usize::from(line[start + 1])].to_vec()
    };
    assert_eq!(line_of("1.2500000"), [2, 1, 125]);
    assert_eq!(line_of("1.28"), [2, 2, 0, 128]);
    assert_eq!(line_of("-1.28"), [2, 1, 128]);
    assert_eq!(line_of("-1.29"), [2, 2, 0xff, 0x7f]);
    assert_eq!(line_of("0"), [0, 1, 0]);
    assert_eq!(line_of("3"), [0, 1, 3]);
}

#[test]
fn a_buffer_of_an_older_protocol_is_refused() {
    let spec = one_column(Kind::Long, true);
    let payload = one(spec, Owned::Long(None)).unwrap();
    let error = append_line(spec, "t", &payload, &mut Buffer::new(ProtocolVersion::V2)).unwrap_err().to_string();
    assert!(error.contains("protocol version 3"), "{error}");
}

#[test]
fn bytes_that_are_no_payload_count_as_1970() {
    assert_eq!(timestamp_of(&[1, 2, 3]), Timestamp::EPOCH);
    assert_eq!(timestamp_of(&(-1_i64).to_le_bytes()), Timestamp::EPOCH);
    assert_eq!(timestamp_of(&i64::MAX.to_le_bytes()), Timestamp::EPOCH);
}
