//! The macros of `nano-runtime`, which exports and documents them: `#[bot_function]`, `bot_functions![]` and
//! `#[derive(Argument)]`. What expanded code calls is there too; here is nothing that runs with a model.

#![forbid(unsafe_code)]

mod argument;
mod function;
mod list;

use proc_macro::TokenStream;

/// Makes a function that models can call of a plain `fn`, which stays what it is.
///
/// The first paragraph of the doc comment is the description; parameters may have doc comments too. Parameters are
/// owned values: integers, floats, `bool`, `String`, `Option`, `Vec`, `Value` and enums with `#[derive(Argument)]`. It
/// returns nothing, what implements `Display`, or an `Option` or a `Result` of these. `bot_functions![]` collects such
/// functions; `name::bot_function()` is a single one (for this a type of the same name stands beside the function).
///
/// Options: `#[bot_function(name = "TIME", timeout = 2.5)]`, the time-out in seconds.
///
/// ```
/// # mod robot {
/// use nano_runtime::bot_function;
///
/// /// Drives ahead.
/// #[bot_function(timeout = 2.5)]
/// pub fn drive(
///     /// Metres per second.
///     speed: f64,
///     angle: Option<f64>,
/// ) -> Result<String, String> {
///     if speed > 2.0 {
///         return Err("too fast".into());
///     }
///     Ok(format!("driving at {speed} m/s, {} degrees", angle.unwrap_or(0.0)))
/// }
/// # }
/// # use robot::drive;
///
/// assert_eq!(drive::bot_function().signature(), "drive(speed: float, angle: float = None) -> str");
/// assert!(drive(3.0, None).is_err());
/// ```
///
/// A parameter that no literal becomes is an error at its type:
///
/// ```compile_fail,E0277
/// #[nano_runtime::bot_function]
/// fn drive(speed: std::time::Duration) {}
/// ```
///
/// So is a result that cannot be shown:
///
/// ```compile_fail,E0277
/// #[nano_runtime::bot_function]
/// fn drive() -> std::time::Duration {
///     std::time::Duration::ZERO
/// }
/// ```
#[proc_macro_attribute]
pub fn bot_function(options: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    match function::expand(options.into(), item.clone()) {
        Ok(expanded) => expanded.into(),
        // The function stays, so that its callers are no errors on top.
        Err(error) => {
            let error = error.to_compile_error();
            quote::quote!(#item #error).into()
        }
    }
}

/// The `BotFunctions` of functions that have `#[bot_function]`, by their paths.
///
/// ```
/// use nano_runtime::{bot_function, bot_functions};
///
/// /// Counts to three.
/// #[bot_function]
/// fn count() -> String {
///     "1 2 3".into()
/// }
///
/// mod robot {
///     /// Stops at once.
///     #[nano_runtime::bot_function(name = "STOP")]
///     pub fn stop() {}
/// }
///
/// let functions = bot_functions![count, robot::stop];
/// assert_eq!(functions.names().collect::<Vec<_>>(), ["count", "STOP"]);
/// ```
///
/// Two functions of one name are an error:
///
/// ```compile_fail,E0080
/// # use nano_runtime::{bot_function, bot_functions};
/// #[bot_function]
/// fn stop() {}
///
/// #[bot_function(name = "stop")]
/// fn halt() {}
///
/// let functions = bot_functions![stop, halt];
/// ```
#[proc_macro]
pub fn bot_functions(paths: TokenStream) -> TokenStream {
    list::expand(paths.into()).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// Lets an enum without fields be a parameter: a call gives one of its names as a string.
///
/// A variant's name is its own in small letters, with `_` between words, unless it has `#[argument(name = "…")]`.
///
/// ```
/// use nano_runtime::{Argument, BotFunction};
///
/// #[derive(Argument)]
/// enum Gear {
///     Forward,
///     FastForward,
///     #[argument(name = "R")]
///     Reverse,
/// }
///
/// let shift = BotFunction::closure("shift", "", ["gear"], |_: Gear| ());
/// assert_eq!(shift.signature(), r#"shift(gear: Literal["forward", "fast_forward", "R"]) -> None"#);
/// ```
#[proc_macro_derive(Argument, attributes(argument))]
pub fn derive_argument(item: TokenStream) -> TokenStream {
    argument::expand(item.into()).unwrap_or_else(|error| error.to_compile_error()).into()
}
