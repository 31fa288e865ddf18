//! `bot_functions![]`: a set of functions by their paths, whose names are compared when it is compiled.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Path, Result, Token};

/// The expression for a list of paths.
pub(crate) fn expand(paths: TokenStream) -> Result<TokenStream> {
    let paths = Punctuated::<Path, Token![,]>::parse_terminated.parse2(paths)?;
    let (names, functions) = (paths.iter(), paths.iter());
    Ok(quote! {{
        const _: () = ::nano_runtime::macros::distinct(&[#(#names::NAME),*]);
        ::nano_runtime::macros::functions(::std::vec::Vec::from([#(#functions::bot_function()),*]))
    }})
}
