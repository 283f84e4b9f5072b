//! From the table to `impl Row`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::DeriveInput;
use syn::spanned::Spanned;

use crate::attributes::{Form, Importance};
use crate::parse::{Column, Table};

pub(crate) fn implementation(input: &DeriveInput, table: &Table<'_>) -> TokenStream {
    let ident = &input.ident;
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    let Table { name, retain_days, doc, columns, .. } = table;
    let importance = match table.importance {
        Importance::Critical => quote!(Critical),
        Importance::Standard => quote!(Standard),
        Importance::Debug => quote!(Debug),
    };
    let specs = columns.iter().map(column_spec);
    let writes = columns.iter().map(write);
    quote! {
        #[automatically_derived]
        impl #impl_generics ::tripod::tape::row::Row for #ident #type_generics #where_clause {
            fn spec() -> &'static ::tripod::tape::spec::TableSpec {
                static SPEC: ::std::sync::OnceLock<::tripod::tape::spec::TableSpec> = ::std::sync::OnceLock::new();
                SPEC.get_or_init(|| ::tripod::tape::spec::TableSpec {
                    name: ::std::string::String::from(#name),
                    importance: ::tripod::tape::spec::Importance::#importance,
                    retain_days: #retain_days,
                    columns: ::std::vec![#(#specs),*],
                    doc: ::std::string::String::from(#doc),
                })
            }

            // So that the writer's state stays in registers from the first column to the last.
            #[inline(always)]
            fn write<RowWriter: ::tripod::tape::row::ColumnWriter>(
                &self,
                writer: &mut RowWriter,
            ) -> ::tripod::error::Result<()> {
                #(#writes)*
                ::std::result::Result::Ok(())
            }
        }
    }
}

fn column_spec(column: &Column<'_>) -> TokenStream {
    let Column { name, ty, doc, .. } = column;
    let key = column.key || column.timestamp;
    // Spanned at the field's type: where a trait is missing, the error points there.
    let (kind, optional) = match column.form {
        _ if column.timestamp => (quote!(::tripod::tape::spec::Kind::Timestamp), quote!(false)),
        None => {
            let field = quote_spanned!(ty.span()=> <#ty as ::tripod::tape::row::Field>);
            (quote!(#field::KIND), quote!(#field::OPTIONAL))
        }
        Some(Form::Symbol) => (quote!(::tripod::tape::spec::Kind::Symbol), text_optional(column)),
        Some(Form::Text { max_bytes }) => {
            (quote!(::tripod::tape::spec::Kind::Text { max_bytes: #max_bytes }), text_optional(column))
        }
        Some(Form::Decimal { precision, scale }) => (
            quote!(::tripod::tape::spec::Kind::Decimal { precision: #precision, scale: #scale }),
            quote_spanned!(ty.span()=> <#ty as ::tripod::tape::row::DecimalField>::OPTIONAL),
        ),
    };
    quote! {
        ::tripod::tape::spec::ColumnSpec {
            name: ::std::string::String::from(#name),
            kind: #kind,
            key: #key,
            optional: #optional,
            doc: ::std::string::String::from(#doc),
        }
    }
}

fn text_optional(column: &Column<'_>) -> TokenStream {
    let ty = column.ty;
    quote_spanned!(ty.span()=> <#ty as ::tripod::tape::row::TextField>::OPTIONAL)
}

fn write(column: &Column<'_>) -> TokenStream {
    let Column { field, ty, .. } = column;
    let value = match column.form {
        // Another type than Timestamp is a mismatch at the field's own type.
        _ if column.timestamp => {
            let instant = quote_spanned!(ty.span()=> { let at: &::tripod::value::Timestamp = &self.#field; *at });
            return quote!(writer.timestamp(::std::option::Option::Some(#instant))?;);
        }
        None => return quote_spanned!(ty.span()=> <#ty as ::tripod::tape::row::Field>::write(&self.#field, writer)?;),
        Some(Form::Symbol | Form::Text { .. }) => {
            quote_spanned!(ty.span()=> <#ty as ::tripod::tape::row::TextField>::text(&self.#field))
        }
        Some(Form::Decimal { .. }) => {
            quote_spanned!(ty.span()=> <#ty as ::tripod::tape::row::DecimalField>::decimal(&self.#field))
        }
    };
    let method = match column.form {
        Some(Form::Symbol) => quote!(symbol),
        Some(Form::Text { .. }) => quote!(text),
        _ => quote!(decimal),
    };
    quote!(writer.#method(#value)?;)
}
