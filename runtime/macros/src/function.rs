//! `#[bot_function]`: the function as it was, and beside it a type of the same name that makes the `BotFunction`.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, Expr, ExprLit, FnArg, Ident, ItemFn, Lit, Meta, Pat, PatType, Result, ReturnType, Token, Type,
};

/// The text of a function with the attribute, expanded.
pub(crate) fn expand(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let mut function: ItemFn = syn::parse2(item)?;
    let options = Options::parse(options)?;
    check_signature(&function)?;
    let parameters = function.sig.inputs.iter_mut().map(Parameter::take).collect::<Result<Vec<Parameter>>>()?;

    let (ident, visibility) = (&function.sig.ident, &function.vis);
    let name = match &options.name {
        Some(name) => name.clone(),
        None => checked(ident.unraw().to_string(), ident, "the name of a bot function")?,
    };
    let description = doc(&function.attrs);
    let conditions: Vec<&Attribute> =
        function.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect();
    let list = parameters.iter().map(Parameter::described);
    let arguments = parameters.iter().map(Parameter::taken);
    let returned = match &function.sig.output {
        ReturnType::Default => quote!(()),
        // An opaque type has no other name.
        ReturnType::Type(_, kind) if opaque(kind) => quote!(_),
        ReturnType::Type(_, kind) => kind.to_token_stream(),
    };
    let timeout = options.timeout.map(|seconds| quote!(.with_timeout(::std::time::Duration::from_secs_f64(#seconds))));
    Ok(quote! {
        #function

        #(#conditions)*
        #[doc(hidden)]
        #[allow(non_camel_case_types, dead_code)]
        #visibility enum #ident {}

        #(#conditions)*
        #[allow(dead_code)]
        impl #ident {
            pub const NAME: &'static str = #name;

            pub fn bot_function() -> ::nano_runtime::BotFunction {
                ::nano_runtime::BotFunction::new::<_, #returned>(
                    Self::NAME,
                    #description,
                    ::std::vec::Vec::<::nano_runtime::Parameter>::from([#(#list),*]),
                    |_arguments| ::std::result::Result::Ok(#ident(#(#arguments),*)),
                )
                #timeout
            }
        }
    })
}

/// A name as Python and the OpenAI interface take them.
pub(crate) fn checked(name: String, place: &impl ToTokens, what: &str) -> Result<String> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.len() > 64 || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(part) {
        let need = "must be made of at most 64 letters a to z, digits and _, and not begin with a digit";
        return Err(Error::new_spanned(place, format!("{what} {need}")));
    }
    Ok(name)
}

#[derive(Default)]
struct Options {
    name: Option<String>,
    timeout: Option<f64>,
}

impl Options {
    fn parse(tokens: TokenStream) -> Result<Self> {
        let mut options = Self::default();
        for meta in Punctuated::<Meta, Token![,]>::parse_terminated.parse2(tokens)? {
            let known = "the options are name = \"…\" and timeout = seconds";
            let Meta::NameValue(pair) = &meta else { return Err(Error::new_spanned(&meta, known)) };
            let twice = || Error::new_spanned(&pair.path, "this option is given twice");
            if pair.path.is_ident("name") {
                let name = checked(string(&pair.value)?, &pair.value, "the name of a bot function")?;
                options.name.replace(name).map_or(Ok(()), |_| Err(twice()))?;
            } else if pair.path.is_ident("timeout") {
                options.timeout.replace(seconds(&pair.value)?).map_or(Ok(()), |_| Err(twice()))?;
            } else {
                return Err(Error::new_spanned(&pair.path, known));
            }
        }
        Ok(options)
    }
}

/// A string literal.
pub(crate) fn string(value: &Expr) -> Result<String> {
    text(value).ok_or_else(|| Error::new_spanned(value, "a string is expected here"))
}

fn text(value: &Expr) -> Option<String> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    }
}

fn seconds(value: &Expr) -> Result<f64> {
    let wrong = || Error::new_spanned(value, "a time-out is a number of seconds, more than 0 and less than a year");
    let Expr::Lit(literal) = value else { return Err(wrong()) };
    let seconds: f64 = match &literal.lit {
        Lit::Float(number) => number.base10_parse()?,
        Lit::Int(number) => number.base10_parse()?,
        _ => return Err(wrong()),
    };
    if seconds > 0.0 && seconds < 365.0 * 24.0 * 3600.0 { Ok(seconds) } else { Err(wrong()) }
}

fn check_signature(function: &ItemFn) -> Result<()> {
    let signature = &function.sig;
    let refuse = |place: &dyn ToTokens, what: &str| Err(Error::new_spanned(place.to_token_stream(), what));
    if let Some(token) = &signature.asyncness {
        return refuse(token, "a bot function is not async: it has a thread of its own and may wait there");
    }
    if let Some(token) = &signature.unsafety {
        return refuse(token, "a bot function is not unsafe: a model calls it with what it likes");
    }
    if let Some(token) = &signature.abi {
        return refuse(token, "a bot function is a plain fn");
    }
    if !signature.generics.params.is_empty() {
        return refuse(
            &signature.generics,
            "a bot function has no generic parameters: its types are told to the model",
        );
    }
    if let Some(token) = &signature.variadic {
        return refuse(token, "a bot function has a fixed list of parameters; take a Vec");
    }
    Ok(())
}

struct Parameter {
    name: String,
    description: String,
    kind: Type,
}

impl Parameter {
    /// Reads a parameter, and takes the doc comment off it, which Rust allows for macros only.
    fn take(argument: &mut FnArg) -> Result<Self> {
        let typed: &mut PatType = match argument {
            FnArg::Typed(typed) => typed,
            FnArg::Receiver(receiver) => {
                return Err(Error::new_spanned(receiver, "a bot function has no self: make a closure of a method"));
            }
        };
        let name = match &*typed.pat {
            Pat::Ident(pattern) if pattern.subpat.is_none() && pattern.by_ref.is_none() => &pattern.ident,
            other => {
                return Err(Error::new_spanned(other, "a parameter of a bot function needs a name that can be told"));
            }
        };
        let name: &Ident = name;
        let name = checked(name.unraw().to_string(), name, "the name of a parameter of a bot function")?;
        if let Type::Reference(reference) = &*typed.ty {
            return Err(Error::new_spanned(
                reference,
                "a parameter of a bot function owns its value: take String, not &str",
            ));
        }
        if opaque(&typed.ty) {
            return Err(Error::new_spanned(&typed.ty, "a parameter of a bot function has a type of its own"));
        }
        let description = doc(&typed.attrs);
        typed.attrs.retain(|attribute| !attribute.path().is_ident("doc"));
        Ok(Self { name, description, kind: (*typed.ty).clone() })
    }

    fn described(&self) -> TokenStream {
        let Self { name, description, kind } = self;
        quote_spanned!(kind.span()=> ::nano_runtime::Parameter::of::<#kind>(#name, #description))
    }

    fn taken(&self) -> TokenStream {
        let Self { name, kind, .. } = self;
        quote_spanned!(kind.span()=> <#kind as ::nano_runtime::Argument>::of(_arguments, #name)?)
    }
}

fn opaque(kind: &Type) -> bool {
    matches!(kind, Type::ImplTrait(_))
}

/// The first paragraph of a doc comment, in one line.
fn doc(attributes: &[Attribute]) -> String {
    let mut lines = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        let Meta::NameValue(pair) = &attribute.meta else { continue };
        if let Some(text) = text(&pair.value) {
            // Lines of `/** … */` may begin with a star.
            let star = if text.contains('\n') { "*" } else { "" };
            lines.extend(text.lines().map(|line| line.trim().trim_start_matches(star).trim().to_owned()));
            lines.extend(text.is_empty().then(String::new));
        }
    }
    let first = lines.iter().skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty());
    first.map(String::as_str).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(options: &str, item: &str) -> Result<TokenStream> {
        expand(options.parse().unwrap(), item.parse().unwrap())
    }

    #[track_caller]
    fn refused(options: &str, item: &str, why: &str) {
        let error = parsed(options, item).expect_err(item);
        assert!(error.to_string().contains(why), "{item}: {error}");
    }

    #[test]
    fn what_cannot_be_is_said() {
        refused("", "fn f(a: f64, s: &str) {}", "take String");
        refused("", "fn f(a: f64, &self) {}", "unexpected method receiver");
        refused("", "fn f(self, a: f64) {}", "no self");
        refused("", "fn f(a: f64, (b, c): (f64, f64)) {}", "needs a name");
        refused("", "fn f(_: f64) {}", "needs a name");
        refused("", "fn f(a: f64, größe: f64) {}", "the name of a parameter");
        refused("", "fn f(a: impl Into<f64>) {}", "type of its own");
        refused("", "fn f<T>(a: T) {}", "no generic");
        refused("", "async fn f() {}", "not async");
        refused("", "unsafe fn f() {}", "not unsafe");
        refused("", "fn größe() {}", "the name of a bot function");
    }

    #[test]
    fn options_are_checked() {
        refused("name = \"my time\"", "fn f() {}", "at most 64 letters");
        refused("name = 1", "fn f() {}", "a string is expected");
        refused("timeout = 0", "fn f() {}", "more than 0");
        refused("timeout = \"1\"", "fn f() {}", "a number of seconds");
        refused("time = 1", "fn f() {}", "the options are");
        refused("name", "fn f() {}", "the options are");
        refused("timeout = 1, timeout = 2", "fn f() {}", "twice");
        assert!(parsed("name = \"F\", timeout = 2.5,", "fn f() {}").is_ok());
    }

    #[test]
    fn descriptions_are_the_first_paragraph() {
        let doc = |item: &str| doc(&syn::parse_str::<ItemFn>(item).unwrap().attrs);
        assert_eq!(doc("///\n/// Drives\n/// ahead.\n///\n/// More.\nfn f() {}"), "Drives ahead.");
        assert_eq!(doc("/** Drives\n * ahead.\n *\n * More. */\nfn f() {}"), "Drives ahead.");
        assert_eq!(doc("#[inline]\nfn f() {}"), "");
    }
}
