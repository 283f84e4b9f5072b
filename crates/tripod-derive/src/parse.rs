//! From the struct to a table: the rules that hold across fields. All mistakes are reported at once.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Fields, GenericArgument, Ident, PathArguments, Type};

use crate::attributes::{self, FieldAttributes, Form, Importance};

/// Bytes of a name at most, as in `tripod::tape::spec`.
const NAME_BYTES_MAX: usize = 64;

pub(crate) struct Table<'a> {
    pub(crate) name: String,
    pub(crate) importance: Importance,
    pub(crate) retain_days: u16,
    pub(crate) doc: String,
    /// The designated timestamp first, the others as they stand in the struct.
    pub(crate) columns: Vec<Column<'a>>,
}

pub(crate) struct Column<'a> {
    pub(crate) field: &'a Ident,
    pub(crate) ty: &'a Type,
    pub(crate) name: String,
    pub(crate) form: Option<Form>,
    pub(crate) timestamp: bool,
    pub(crate) key: bool,
    pub(crate) doc: String,
}

pub(crate) fn table(input: &DeriveInput) -> syn::Result<Table<'_>> {
    let mut mistakes = Mistakes(None);
    if let Some(parameter) = input.generics.params.iter().find(|p| !matches!(p, syn::GenericParam::Lifetime(_))) {
        mistakes.add(parameter.span(), "a row is one table, so it takes lifetimes but no type or const parameters");
    }
    let attributes = mistakes.keep(attributes::of_table(&input.attrs, input.ident.span()));
    if let Some(attributes) = &attributes {
        mistakes.check_name(&attributes.name.value(), attributes.name.span());
    }
    let columns = match &input.data {
        Data::Struct(data) if matches!(data.fields, Fields::Named(_)) => columns(&data.fields, &mut mistakes),
        _ => {
            mistakes.add(input.ident.span(), "a row is a struct with named fields");
            Vec::new()
        }
    };
    across(input, &columns, &mut mistakes);
    match (mistakes.0, attributes) {
        (Some(mistakes), _) => Err(mistakes),
        (None, None) => {
            Err(syn::Error::new(input.ident.span(), "a row needs #[row(table = \"…\", importance = \"…\")]"))
        }
        (None, Some(attributes)) => Ok(Table {
            name: attributes.name.value(),
            importance: attributes.importance,
            retain_days: attributes.retain_days,
            doc: attributes::doc(&input.attrs),
            columns: timestamp_first(columns),
        }),
    }
}

fn columns<'a>(fields: &'a Fields, mistakes: &mut Mistakes) -> Vec<Column<'a>> {
    let mut columns = Vec::new();
    for field in fields {
        let Some(ident) = &field.ident else { continue };
        let Some(attributes) = mistakes.keep(attributes::of_field(&field.attrs)) else { continue };
        let (name, span) = match &attributes.rename {
            Some(rename) => (rename.value(), rename.span()),
            None => (ident.to_string().trim_start_matches("r#").to_owned(), ident.span()),
        };
        mistakes.check_name(&name, span);
        check_field(&field.ty, &attributes, mistakes);
        columns.push(Column {
            field: ident,
            ty: &field.ty,
            name,
            form: attributes.form.map(|(form, _)| form),
            timestamp: attributes.timestamp.is_some(),
            key: attributes.key.is_some(),
            doc: attributes::doc(&field.attrs),
        });
    }
    columns
}

/// What one field's type and attributes say together. Types are compared by their last name only, to give a better
/// message than the traits can; what an alias hides from this, the traits and the spec's own check refuse.
fn check_field(ty: &Type, attributes: &FieldAttributes, mistakes: &mut Mistakes) {
    let inner = option_of(ty);
    let plain = last_name(inner.unwrap_or(ty));
    if let (Some(span), Some(_)) = (attributes.timestamp, attributes.form) {
        mistakes.add(span, "the designated timestamp is a Timestamp, not symbol, text or decimal");
    }
    if let (Some(span), Some(_)) = (attributes.timestamp, attributes.key) {
        mistakes.add(span, "the designated timestamp is a key already; remove `key`");
    }
    if attributes.timestamp.is_some() && inner.is_some() {
        mistakes.add(ty.span(), "the designated timestamp is never absent; remove the Option");
    }
    if attributes.key.is_some() && inner.is_some() {
        mistakes.add(ty.span(), "a key is never absent, or rows could not be told apart; remove the Option");
    }
    if attributes.key.is_some() && plain.as_deref() == Some("f64") {
        mistakes.add(ty.span(), "a float is no key: values that look alike differ; use a decimal or an integer");
    }
    if attributes.form.is_none() {
        match plain.as_deref() {
            Some("Decimal") => mistakes.add(ty.span(), "a Decimal needs its digits: #[row(decimal = \"28,18\")]"),
            Some("str" | "String" | "Cow") => mistakes.add(
                ty.span(),
                "text needs #[row(symbol)] (a bounded set of short names) or #[row(text = 256)] (at most so many bytes)",
            ),
            Some("bool") if inner.is_some() => {
                mistakes.add(ty.span(), "QuestDB has no NULL boolean; use a bool, or a symbol with a name for unknown");
            }
            _ => {}
        }
    }
}

/// What all fields say together.
fn across(input: &DeriveInput, columns: &[Column<'_>], mistakes: &mut Mistakes) {
    let mut timestamps = columns.iter().filter(|column| column.timestamp);
    match (timestamps.next(), timestamps.next()) {
        (None, _) if !columns.is_empty() => mistakes.add(
            input.ident.span(),
            "a row needs its designated timestamp: #[row(timestamp)] on one field of type Timestamp",
        ),
        (Some(_), Some(second)) => {
            mistakes.add(second.field.span(), "a row has one designated timestamp; remove #[row(timestamp)] here");
        }
        _ => {}
    }
    if !columns.is_empty() && !columns.iter().any(|column| column.key) {
        mistakes.add(
            input.ident.span(),
            "a row needs a key besides its timestamp, or two rows of one instant become one: #[row(key)] on an id, or \
             on source and seq",
        );
    }
    for (index, column) in columns.iter().enumerate() {
        if columns.iter().take(index).any(|earlier| earlier.name == column.name) {
            mistakes.add(column.field.span(), "two columns of this name; rename one");
        }
    }
}

fn timestamp_first(columns: Vec<Column<'_>>) -> Vec<Column<'_>> {
    let (mut first, rest): (Vec<_>, Vec<_>) = columns.into_iter().partition(|column| column.timestamp);
    first.extend(rest);
    first
}

fn option_of(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let segment = path.path.segments.last().filter(|segment| segment.ident == "Option")?;
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

fn last_name(ty: &Type) -> Option<String> {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        Type::Reference(reference) => last_name(&reference.elem),
        _ => None,
    }
}

/// Collects mistakes, so that one compile shows all of them.
struct Mistakes(Option<syn::Error>);

impl Mistakes {
    fn add(&mut self, span: Span, what: &str) {
        self.push(syn::Error::new(span, what));
    }

    fn push(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            None => self.0 = Some(error),
        }
    }

    fn keep<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    fn check_name(&mut self, name: &str, span: Span) {
        let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !plain || !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.len() > NAME_BYTES_MAX {
            self.add(
                span,
                "a table's or column's name is 1 to 64 lower-case letters, digits and `_` and starts with a letter; \
                 for a field, say it with #[row(rename = \"…\")]",
            );
        }
    }
}
