//! A day as one Parquet file, and back.
//!
//! Constraints: what Parquet has a type for keeps it: TIMESTAMP(NANOS), DECIMAL(p,s), UUID, STRING; every column may be
//! NULL. Memory is bounded by a row group. QuestDB's own Parquet export is not used, see
//! `docs/decisions/0002-parquet-archive.md`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use tripod::tape::retention::{Cell, Checksum, ExactColumn, ExactKind};
use tripod::{Error, Result};

use super::failed;

/// Rows of a row group. More compresses a little better; they are in memory at once.
const GROUP_ROWS: usize = 65_536;

/// Writes one file.
pub(super) struct Writer {
    path: PathBuf,
    file: SerializedFileWriter<File>,
    columns: Vec<ExactColumn>,
    /// By column.
    group: Vec<Vec<Cell>>,
}

impl Writer {
    pub(super) fn create(path: &Path, columns: &[ExactColumn]) -> Result<Self> {
        let broken = |e| broken(path, e);
        let schema = Arc::new(parse_message_type(&message(columns)).map_err(broken)?);
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        let file = File::create(path).map_err(|e| failed("create", path, e))?;
        let file = SerializedFileWriter::new(file, schema, Arc::new(properties)).map_err(broken)?;
        let group = columns.iter().map(|_| Vec::new()).collect();
        Ok(Self { path: path.to_owned(), file, columns: columns.to_vec(), group })
    }

    pub(super) fn add(&mut self, row: &[Cell]) -> Result<()> {
        for (column, cell) in self.group.iter_mut().zip(row) {
            column.push(cell.clone());
        }
        if self.group.first().is_some_and(|column| column.len() >= GROUP_ROWS) { self.write_group() } else { Ok(()) }
    }

    /// Writes the end, and syncs.
    pub(super) fn finish(mut self) -> Result<()> {
        if self.group.first().is_some_and(|column| !column.is_empty()) {
            self.write_group()?;
        }
        let file = self.file.into_inner().map_err(|e| broken(&self.path, e))?;
        file.sync_all().map_err(|e| failed("sync", &self.path, e))
    }

    fn write_group(&mut self) -> Result<()> {
        let path = &self.path;
        let mut group = self.file.next_row_group().map_err(|e| broken(path, e))?;
        for (column, cells) in self.columns.iter().zip(&mut self.group) {
            write_column(&mut group, column.kind, cells).map_err(|e| broken(path, e))?;
            cells.clear();
        }
        group.close().map(drop).map_err(|e| broken(path, e))
    }
}

/// The schema in Parquet's own words.
fn message(columns: &[ExactColumn]) -> String {
    let fields: String = columns
        .iter()
        .map(|column| {
            let name = &column.name;
            match column.kind {
                ExactKind::Boolean => format!("OPTIONAL BOOLEAN {name};\n"),
                ExactKind::Long => format!("OPTIONAL INT64 {name};\n"),
                ExactKind::Double => format!("OPTIONAL DOUBLE {name};\n"),
                ExactKind::Decimal { precision, scale } => {
                    format!("OPTIONAL FIXED_LEN_BYTE_ARRAY (16) {name} (DECIMAL({precision},{scale}));\n")
                }
                ExactKind::Timestamp => format!("OPTIONAL INT64 {name} (TIMESTAMP(NANOS,true));\n"),
                ExactKind::Uuid => format!("OPTIONAL FIXED_LEN_BYTE_ARRAY (16) {name} (UUID);\n"),
                ExactKind::Text => format!("OPTIONAL BYTE_ARRAY {name} (STRING);\n"),
            }
        })
        .collect();
    format!("message row {{\n{fields}}}")
}

fn write_column(
    group: &mut SerializedRowGroupWriter<'_, File>,
    kind: ExactKind,
    cells: &[Cell],
) -> std::result::Result<(), ParquetError> {
    match kind {
        ExactKind::Boolean => write::<BoolType>(group, cells, |cell| match cell {
            Cell::Boolean(value) => Some(*value),
            _ => None,
        }),
        ExactKind::Long | ExactKind::Timestamp => write::<Int64Type>(group, cells, |cell| match cell {
            Cell::Long(value) | Cell::Nanos(value) => Some(*value),
            _ => None,
        }),
        ExactKind::Double => write::<DoubleType>(group, cells, |cell| match cell {
            Cell::Double(bits) => Some(f64::from_bits(*bits)),
            _ => None,
        }),
        ExactKind::Decimal { .. } | ExactKind::Uuid => write::<FixedLenByteArrayType>(group, cells, |cell| {
            let bytes = match cell {
                Cell::Decimal(value) => value.to_be_bytes(),
                Cell::Uuid(value) => value.to_be_bytes(),
                _ => return None,
            };
            Some(FixedLenByteArray::from(bytes.to_vec()))
        }),
        ExactKind::Text => write::<ByteArrayType>(group, cells, |cell| match cell {
            Cell::Text(text) => Some(ByteArray::from(text.as_bytes().to_vec())),
            _ => None,
        }),
    }
}

fn write<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    cells: &[Cell],
    value: impl Fn(&Cell) -> Option<T::T>,
) -> std::result::Result<(), ParquetError> {
    let values: Vec<T::T> = cells.iter().filter_map(value).collect();
    let levels: Vec<i16> = cells.iter().map(|cell| i16::from(*cell != Cell::Null)).collect();
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General("a column too many".into()));
    };
    // A cell of another kind than its column's would be taken for NULL in silence.
    if levels.iter().filter(|level| **level == 1).count() != values.len() {
        return Err(ParquetError::General("a value of another kind than its column".into()));
    }
    column.typed::<T>().write_batch(&values, Some(&levels), None)?;
    column.close()
}

/// Count and checksum of what the file holds, read back from the disk.
pub(super) fn sum(path: &Path, columns: &[ExactColumn]) -> Result<Checksum> {
    let broken = |e| broken(path, e);
    let file = File::open(path).map_err(|e| failed("open", path, e))?;
    let reader = SerializedFileReader::new(file).map_err(broken)?;
    let mut sum = Checksum::default();
    for index in 0..reader.num_row_groups() {
        let group = reader.get_row_group(index).map_err(broken)?;
        let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        let mut cells = Vec::with_capacity(columns.len());
        for (place, column) in columns.iter().enumerate() {
            let reader = group.get_column_reader(place).map_err(broken)?;
            cells.push(read_column(reader, column.kind, rows).map_err(broken)?.into_iter());
        }
        let mut row = Vec::with_capacity(columns.len());
        for _ in 0..rows {
            row.clear();
            row.extend(cells.iter_mut().filter_map(Iterator::next));
            sum.add(&row);
        }
    }
    Ok(sum)
}

fn read_column(reader: ColumnReader, kind: ExactKind, rows: usize) -> std::result::Result<Vec<Cell>, ParquetError> {
    let wrong = || ParquetError::General("a column of another type than was written".into());
    let sixteen = |bytes: &FixedLenByteArray| <[u8; 16]>::try_from(bytes.data()).map_err(|_| wrong());
    match (kind, reader) {
        (ExactKind::Boolean, reader @ ColumnReader::BoolColumnReader(_)) => {
            read::<BoolType>(reader, rows, |value| Ok(Cell::Boolean(*value)))
        }
        (ExactKind::Long, reader @ ColumnReader::Int64ColumnReader(_)) => {
            read::<Int64Type>(reader, rows, |value| Ok(Cell::Long(*value)))
        }
        (ExactKind::Timestamp, reader @ ColumnReader::Int64ColumnReader(_)) => {
            read::<Int64Type>(reader, rows, |value| Ok(Cell::Nanos(*value)))
        }
        (ExactKind::Double, reader @ ColumnReader::DoubleColumnReader(_)) => {
            read::<DoubleType>(reader, rows, |value| Ok(Cell::Double(value.to_bits())))
        }
        (ExactKind::Decimal { .. }, reader @ ColumnReader::FixedLenByteArrayColumnReader(_)) => {
            read::<FixedLenByteArrayType>(reader, rows, |value| Ok(Cell::Decimal(i128::from_be_bytes(sixteen(value)?))))
        }
        (ExactKind::Uuid, reader @ ColumnReader::FixedLenByteArrayColumnReader(_)) => {
            read::<FixedLenByteArrayType>(reader, rows, |value| Ok(Cell::Uuid(u128::from_be_bytes(sixteen(value)?))))
        }
        (ExactKind::Text, reader @ ColumnReader::ByteArrayColumnReader(_)) => {
            read::<ByteArrayType>(reader, rows, |value| Ok(Cell::Text(value.as_utf8()?.to_owned())))
        }
        _ => Err(wrong()),
    }
}

fn read<T: DataType>(
    reader: ColumnReader,
    rows: usize,
    cell: impl Fn(&T::T) -> std::result::Result<Cell, ParquetError>,
) -> std::result::Result<Vec<Cell>, ParquetError> {
    let mut reader: ColumnReaderImpl<T> = get_typed_column_reader(reader);
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    while levels.len() < rows {
        let (read, ..) = reader.read_records(rows - levels.len(), Some(&mut levels), None, &mut values)?;
        if read == 0 {
            return Err(ParquetError::General("a column ends before its row group".into()));
        }
    }
    let mut values = values.iter();
    let missing = || ParquetError::General("a value is missing".into());
    levels
        .iter()
        .map(|level| if *level == 0 { Ok(Cell::Null) } else { cell(values.next().ok_or_else(missing)?) })
        .collect()
}

fn broken(path: &Path, error: ParquetError) -> Error {
    Error::File { what: "write or read back", path: path.to_owned(), source: std::io::Error::other(error) }
}
