//! What a function written in Rust may take and return: the way from JSON values to its parameters, and from what it
//! returns to text.

use super::literal::written;
use serde_json::{Map, Value, json};
use std::any::TypeId;
use std::fmt::Display;

/// A type that a parameter of a bot function may have.
///
/// Integers, floats, `bool`, `String`, `Option`, `Vec` and [`Value`] have it; enums get it with
/// `#[derive(Argument)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of a bot function",
    label = "no literal becomes a `{Self}`",
    note = "a parameter may be an integer, a float, bool, String, Option, Vec, or an enum with #[derive(Argument)]"
)]
pub trait Argument: Sized {
    /// JSON schema of the values.
    fn schema() -> Value;

    /// Converts a value. The error is a phrase that follows the parameter's name: "must be …".
    fn from_value(value: &Value) -> Result<Self, String>;

    /// What a call that leaves the argument out gets; `None` if a call must give it.
    fn absent() -> Option<Self> {
        None
    }

    /// The argument of that name among the arguments of a call.
    fn of(arguments: &Map<String, Value>, name: &str) -> Result<Self, String> {
        match arguments.get(name) {
            Some(value) => Self::from_value(value).map_err(|why| format!("the argument \"{name}\" {why}")),
            None => Self::absent().ok_or_else(|| format!("the argument \"{name}\" is missing")),
        }
    }
}

/// The phrase for a value of the wrong kind.
pub(super) fn not(needed: &str, value: &Value) -> String {
    let written = written(value);
    let shown: String = written.chars().take(40).collect();
    let cut = if shown.len() < written.len() { "…" } else { "" };
    format!("must be {needed}, not {shown}{cut}")
}

/// A number without a fraction, also if it is written as a float.
pub(super) fn whole(value: &Value) -> Option<i128> {
    let number = value.as_number()?;
    let float = || number.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 2_f64.powi(63)).map(|f| f as i128);
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)).or_else(float)
}

macro_rules! integers {
    ($($kind:ty),*) => {$(
        impl Argument for $kind {
            fn schema() -> Value {
                let mut schema = json!({"type": "integer"});
                // Bounds that every number of a call keeps would only cost tokens.
                if <$kind>::MIN == 0 || <$kind>::BITS < 64 {
                    schema["minimum"] = json!(<$kind>::MIN);
                }
                if <$kind>::BITS < 64 {
                    schema["maximum"] = json!(<$kind>::MAX);
                }
                schema
            }

            fn from_value(value: &Value) -> Result<Self, String> {
                let whole = whole(value).ok_or_else(|| not("an integer", value))?;
                let range = format!("an integer from {} to {}", <$kind>::MIN, <$kind>::MAX);
                whole.try_into().map_err(|_| not(&range, value))
            }
        }
    )*};
}
integers!(i8, i16, i32, i64, isize, u8, u16, u32, u64, usize);

macro_rules! floats {
    ($($kind:ty),*) => {$(
        impl Argument for $kind {
            fn schema() -> Value {
                json!({"type": "number"})
            }

            fn from_value(value: &Value) -> Result<Self, String> {
                let number = value.as_f64().ok_or_else(|| not("a number", value))? as $kind;
                if number.is_finite() { Ok(number) } else { Err(not("a smaller number", value)) }
            }
        }
    )*};
}
floats!(f32, f64);

impl Argument for bool {
    fn schema() -> Value {
        json!({"type": "boolean"})
    }

    fn from_value(value: &Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| not("True or False", value))
    }
}

impl Argument for String {
    fn schema() -> Value {
        json!({"type": "string"})
    }

    fn from_value(value: &Value) -> Result<Self, String> {
        value.as_str().map(str::to_owned).ok_or_else(|| not("a string", value))
    }
}

/// Any literal.
impl Argument for Value {
    fn schema() -> Value {
        json!({})
    }

    fn from_value(value: &Value) -> Result<Self, String> {
        Ok(value.clone())
    }
}

/// May be left out, or be None.
impl<T: Argument> Argument for Option<T> {
    fn schema() -> Value {
        T::schema()
    }

    fn from_value(value: &Value) -> Result<Self, String> {
        if value.is_null() { Ok(None) } else { T::from_value(value).map(Some) }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: Argument> Argument for Vec<T> {
    fn schema() -> Value {
        json!({"type": "array", "items": T::schema()})
    }

    fn from_value(value: &Value) -> Result<Self, String> {
        let items = value.as_array().ok_or_else(|| not("a list", value))?;
        let item = |(i, value)| T::from_value(value).map_err(|why| format!("at position {i} {why}"));
        items.iter().enumerate().map(item).collect()
    }
}

/// What a bot function may return: nothing, anything that can be displayed, or an `Option` or a `Result` of these.
/// `Kind` tells them apart and is always found by the compiler.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result of a bot function",
    label = "a `{Self}` cannot be shown to the model",
    note = "a function may return (), what implements Display, or an Option or a Result of these"
)]
pub trait Returned<Kind> {
    /// Name of the type in a Python signature.
    fn annotation() -> &'static str;

    /// The text; `None` if there is nothing to tell.
    fn returned(self) -> Result<Option<String>, String>;
}

/// Kinds of results, see [`Returned`].
pub mod kinds {
    /// Nothing.
    #[derive(Debug)]
    pub enum Nothing {}
    /// What can be displayed.
    #[derive(Debug)]
    pub enum Shown {}
    /// An `Option`.
    #[derive(Debug)]
    pub struct Maybe<Kind>(std::marker::PhantomData<Kind>);
    /// A `Result`.
    #[derive(Debug)]
    pub struct Fallible<Kind>(std::marker::PhantomData<Kind>);
}

impl Returned<kinds::Nothing> for () {
    fn annotation() -> &'static str {
        "None"
    }

    fn returned(self) -> Result<Option<String>, String> {
        Ok(None)
    }
}

impl<T: Display + 'static> Returned<kinds::Shown> for T {
    fn annotation() -> &'static str {
        let among = |kinds: &[TypeId]| kinds.contains(&TypeId::of::<T>());
        let of = TypeId::of::<i32>;
        let signed = [of(), TypeId::of::<i8>(), TypeId::of::<i16>(), TypeId::of::<i64>(), TypeId::of::<isize>()];
        let unsigned = [TypeId::of::<u8>(), TypeId::of::<u16>(), TypeId::of::<u32>(), TypeId::of::<u64>()];
        if among(&signed) || among(&unsigned) || among(&[TypeId::of::<usize>()]) {
            "int"
        } else if among(&[TypeId::of::<f32>(), TypeId::of::<f64>()]) {
            "float"
        } else if among(&[TypeId::of::<bool>()]) {
            "bool"
        } else {
            "str"
        }
    }

    fn returned(self) -> Result<Option<String>, String> {
        Ok(Some(self.to_string()))
    }
}

impl<K, T: Returned<K>> Returned<kinds::Maybe<K>> for Option<T> {
    fn annotation() -> &'static str {
        T::annotation()
    }

    fn returned(self) -> Result<Option<String>, String> {
        self.map_or(Ok(None), T::returned)
    }
}

impl<K, T: Returned<K>, E: Display> Returned<kinds::Fallible<K>> for Result<T, E> {
    fn annotation() -> &'static str {
        T::annotation()
    }

    fn returned(self) -> Result<Option<String>, String> {
        self.map_err(|error| error.to_string()).and_then(T::returned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong<T: Argument>(value: Value) -> String {
        T::from_value(&value).err().unwrap_or_else(|| panic!("{value} was taken"))
    }

    #[test]
    fn numbers_fit_or_are_refused() {
        assert_eq!(u8::from_value(&json!(255)), Ok(255));
        assert_eq!(i32::from_value(&json!(-3.0)), Ok(-3));
        assert_eq!(u64::from_value(&json!(u64::MAX)), Ok(u64::MAX));
        assert_eq!(f32::from_value(&json!(2)), Ok(2.0));
        assert_eq!(wrong::<u8>(json!(256)), "must be an integer from 0 to 255, not 256");
        assert_eq!(wrong::<i64>(json!(1.5)), "must be an integer, not 1.5");
        assert_eq!(wrong::<i64>(json!(1e30)), "must be an integer, not 1e+30");
        assert_eq!(wrong::<i64>(json!(true)), "must be an integer, not True");
        assert_eq!(wrong::<f32>(json!(1e300)), "must be a smaller number, not 1e+300");
        assert_eq!(wrong::<f64>(json!("1")), "must be a number, not \"1\"");
    }

    #[test]
    fn other_kinds() {
        assert_eq!(wrong::<bool>(json!(1)), "must be True or False, not 1");
        assert_eq!(wrong::<String>(json!(null)), "must be a string, not None");
        assert_eq!(Vec::<u8>::from_value(&json!([1, 2])), Ok(vec![1, 2]));
        assert_eq!(wrong::<Vec<u8>>(json!([1, "a"])), "at position 1 must be an integer, not \"a\"");
        assert_eq!(Option::<f64>::from_value(&json!(null)), Ok(None));
        assert!(wrong::<String>(json!(vec![1; 100])).ends_with('…'));
    }

    #[test]
    fn what_functions_return() {
        fn shown<K, T: Returned<K>>(value: T) -> (&'static str, Result<Option<String>, String>) {
            (T::annotation(), value.returned())
        }
        let text = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(shown(()), ("None", Ok(None)));
        assert_eq!(shown(3_u16), ("int", text("3")));
        assert_eq!(shown(1.5), ("float", text("1.5")));
        assert_eq!(shown("a"), ("str", text("a")));
        assert_eq!(shown(Some('a')), ("str", text("a")));
        assert_eq!(shown(None::<i32>), ("int", Ok(None)));
        assert_eq!(shown(Ok::<_, String>(())), ("None", Ok(None)));
        assert_eq!(shown(Ok::<_, std::fmt::Error>(true)), ("bool", text("true")));
        assert_eq!(shown(Err::<String, _>("no")), ("str", Err("no".into())));
    }
}
