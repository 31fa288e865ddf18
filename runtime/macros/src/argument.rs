//! `#[derive(Argument)]`: an enum without fields as one of several strings.

use crate::function::{checked, string};
use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{Data, DeriveInput, Error, Fields, Meta, MetaNameValue, Result, Variant};

/// The implementation of the trait.
pub(crate) fn expand(item: TokenStream) -> Result<TokenStream> {
    let input: DeriveInput = syn::parse2(item)?;
    let Data::Enum(body) = &input.data else {
        return Err(Error::new_spanned(&input.ident, "only an enum can derive Argument"));
    };
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(&input.generics, "an enum that derives Argument has no generic parameters"));
    }
    if body.variants.is_empty() {
        return Err(Error::new_spanned(&input.ident, "an enum that derives Argument has at least one variant"));
    }
    let mut names: Vec<String> = Vec::new();
    for variant in &body.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(Error::new_spanned(
                &variant.fields,
                "a variant of an enum that derives Argument has no fields",
            ));
        }
        let name = name(variant)?;
        if names.contains(&name) {
            return Err(Error::new_spanned(variant, format!("another variant is named \"{name}\" too")));
        }
        names.push(name);
    }
    let (ident, variants) = (&input.ident, body.variants.iter().map(|variant| &variant.ident));
    Ok(quote! {
        impl ::nano_runtime::Argument for #ident {
            fn schema() -> ::nano_runtime::macros::Value {
                ::nano_runtime::macros::choice(&[#(#names),*])
            }

            fn from_value(value: &::nano_runtime::macros::Value) -> ::std::result::Result<Self, ::std::string::String> {
                match value.as_str() {
                    #(::std::option::Option::Some(#names) => ::std::result::Result::Ok(Self::#variants),)*
                    _ => ::std::result::Result::Err(::nano_runtime::macros::no_choice(&[#(#names),*], value)),
                }
            }
        }
    })
}

fn name(variant: &Variant) -> Result<String> {
    if let Some(attribute) = variant.attrs.iter().find(|attribute| attribute.path().is_ident("argument")) {
        let known = || Error::new_spanned(attribute, "the option is #[argument(name = \"…\")]");
        let Meta::List(list) = &attribute.meta else { return Err(known()) };
        let pair: MetaNameValue = list.parse_args().map_err(|_| known())?;
        if !pair.path.is_ident("name") {
            return Err(known());
        }
        return checked(string(&pair.value)?, &pair.value, "the name of a variant");
    }
    let mut name = String::new();
    let ident = variant.ident.unraw().to_string();
    for (i, c) in ident.char_indices() {
        if c.is_uppercase() && ident[..i].ends_with(|before: char| before.is_lowercase() || before.is_numeric()) {
            name.push('_');
        }
        name.extend(c.to_lowercase());
    }
    checked(name, &variant.ident, "the name of a variant")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(item: &str, why: &str) {
        let error = expand(item.parse().unwrap()).expect_err(item);
        assert!(error.to_string().contains(why), "{item}: {error}");
    }

    #[test]
    fn what_cannot_be_is_said() {
        refused("struct Gear;", "only an enum");
        refused("enum Gear {}", "at least one");
        refused("enum Gear<T> { A }", "no generic");
        refused("enum Gear { Forward, Back(f64) }", "no fields");
        refused("enum Gear { Fast, FAST }", "named \"fast\" too");
        refused("enum Gear { #[argument(nam = \"a\")] A }", "the option is");
        refused("enum Gear { #[argument(name = \"a b\")] A }", "letters");
    }
}
