//! Reading `#[row(…)]`: one function for the struct's, one for a field's.

use proc_macro2::Span;
use syn::meta::ParseNestedMeta;
use syn::{Attribute, Expr, ExprLit, Lit, LitInt, LitStr};

/// Digits of a decimal at most, as in `tripod::tape::spec`.
const PRECISION_MAX: u8 = 38;
/// Digits after the point at most: what a `Decimal` holds.
const SCALE_MAX: u8 = 28;
/// TTL where none is said.
const RETAIN_DAYS_DEFAULT: u16 = 30;

/// `#[row(table = …, importance = …, retain_days = …)]`
pub(crate) struct TableAttributes {
    pub(crate) name: LitStr,
    pub(crate) importance: Importance,
    pub(crate) retain_days: u16,
}

#[derive(Clone, Copy)]
pub(crate) enum Importance {
    Critical,
    Standard,
    Debug,
}

/// `#[row(…)]` of a field.
#[derive(Default)]
pub(crate) struct FieldAttributes {
    pub(crate) timestamp: Option<Span>,
    pub(crate) key: Option<Span>,
    pub(crate) form: Option<(Form, Span)>,
    pub(crate) rename: Option<LitStr>,
}

/// How a field is written where its type alone does not say it.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    Symbol,
    Text { max_bytes: u16 },
    Decimal { precision: u8, scale: u8 },
}

pub(crate) fn of_table(attributes: &[Attribute], at: Span) -> syn::Result<TableAttributes> {
    let (mut name, mut importance, mut retain_days) = (None, None, None);
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("row")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("table") {
                once(&mut name, meta.value()?.parse::<LitStr>()?, &meta)
            } else if meta.path.is_ident("importance") {
                let text: LitStr = meta.value()?.parse()?;
                let parsed = match text.value().as_str() {
                    "critical" => Importance::Critical,
                    "standard" => Importance::Standard,
                    "debug" => Importance::Debug,
                    _ => return Err(syn::Error::new(text.span(), "importance is critical, standard or debug")),
                };
                once(&mut importance, parsed, &meta)
            } else if meta.path.is_ident("retain_days") {
                let days: LitInt = meta.value()?.parse()?;
                match days.base10_parse::<u16>() {
                    Ok(parsed) if parsed > 0 => once(&mut retain_days, parsed, &meta),
                    _ => Err(syn::Error::new(days.span(), "retain_days is a whole number of days, 1 to 65535")),
                }
            } else {
                Err(meta.error("unknown attribute; a table has table, importance, retain_days"))
            }
        })?;
    }
    let missing = |what| syn::Error::new(at, what);
    Ok(TableAttributes {
        name: name.ok_or_else(|| missing("a row needs its table: #[row(table = \"…\", importance = \"…\")]"))?,
        importance: importance.ok_or_else(|| {
            missing("a row needs its importance: #[row(table = \"…\", importance = \"critical\")], standard or debug")
        })?,
        retain_days: retain_days.unwrap_or(RETAIN_DAYS_DEFAULT),
    })
}

pub(crate) fn of_field(attributes: &[Attribute]) -> syn::Result<FieldAttributes> {
    let mut field = FieldAttributes::default();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("row")) {
        attribute.parse_nested_meta(|meta| {
            let span = meta.path.get_ident().map_or_else(Span::call_site, syn::Ident::span);
            if meta.path.is_ident("timestamp") {
                once(&mut field.timestamp, span, &meta)
            } else if meta.path.is_ident("key") {
                once(&mut field.key, span, &meta)
            } else if meta.path.is_ident("symbol") {
                form(&mut field.form, Form::Symbol, span, &meta)
            } else if meta.path.is_ident("text") {
                let bytes: LitInt = meta.value()?.parse()?;
                match bytes.base10_parse::<u16>() {
                    Ok(max_bytes) if max_bytes > 0 => form(&mut field.form, Form::Text { max_bytes }, span, &meta),
                    _ => Err(syn::Error::new(bytes.span(), "text is a maximum of bytes, 1 to 65535")),
                }
            } else if meta.path.is_ident("decimal") {
                let digits = decimal(&meta.value()?.parse()?)?;
                form(&mut field.form, digits, span, &meta)
            } else if meta.path.is_ident("rename") {
                once(&mut field.rename, meta.value()?.parse()?, &meta)
            } else {
                Err(meta.error("unknown attribute; a field has timestamp, key, symbol, text, decimal, rename"))
            }
        })?;
    }
    Ok(field)
}

fn once<T>(place: &mut Option<T>, value: T, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
    if place.replace(value).is_some() {
        return Err(meta.error("stands twice; remove one"));
    }
    Ok(())
}

fn form(place: &mut Option<(Form, Span)>, value: Form, span: Span, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
    if place.replace((value, span)).is_some() {
        return Err(meta.error("a column is one of symbol, text, decimal; remove the others"));
    }
    Ok(())
}

fn decimal(digits: &Expr) -> syn::Result<Form> {
    let shape = || syn::Error::new_spanned(digits, "decimal is \"precision,scale\", as in decimal = \"28,18\"");
    let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = digits else { return Err(shape()) };
    let text = text.value();
    let (precision, scale) = text.split_once(',').ok_or_else(shape)?;
    let precision: u8 = precision.trim().parse().map_err(|_| shape())?;
    let scale: u8 = scale.trim().parse().map_err(|_| shape())?;
    let refuse = |why| Err(syn::Error::new_spanned(digits, why));
    if !(1..=PRECISION_MAX).contains(&precision) {
        return refuse("the precision is the digits in all, 1 to 38");
    }
    if scale > SCALE_MAX {
        return refuse("the scale is above 28, more digits after the point than a Decimal holds; lower it");
    }
    if scale > precision {
        return refuse("the scale is above the precision; raise the precision");
    }
    Ok(Form::Decimal { precision, scale })
}

/// Doc comments as one line.
pub(crate) fn doc(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        syn::Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    });
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
