//! Arithmetic for models: whole numbers are exact as long as 128 bits hold them. An expression has a length and a depth
//! that it must keep, no operation takes longer than another, and the result is always a number that can be read.

/// Characters of an expression.
const LONGEST: usize = 1000;
/// Parentheses, signs and powers within each other.
const DEPTH: usize = 64;

/// The value of an expression, as text.
pub(super) fn compute(expression: &str) -> Result<String, String> {
    if expression.chars().count() > LONGEST {
        return Err(format!("the expression is longer than {LONGEST} characters"));
    }
    let mut parser = Parser { rest: expression, depth: 0 };
    let value = parser.sum()?;
    if parser.space().is_empty() { Ok(value.shown()) } else { Err(parser.unexpected()) }
}

#[derive(Clone, Copy, Debug)]
enum Number {
    Whole(i128),
    Real(f64),
}

use Number::{Real, Whole};

impl Number {
    fn real(self) -> f64 {
        match self {
            Whole(value) => value as f64,
            Real(value) => value,
        }
    }

    fn is_zero(self) -> bool {
        self.real() == 0.0
    }

    /// In whole numbers if both are and the result fits, else in floats.
    fn with(
        self,
        other: Self,
        whole: fn(i128, i128) -> Option<i128>,
        real: fn(f64, f64) -> f64,
    ) -> Result<Self, String> {
        if let (Whole(a), Whole(b)) = (self, other)
            && let Some(value) = whole(a, b)
        {
            return Ok(Whole(value));
        }
        let value = real(self.real(), other.real());
        if value.is_finite() {
            Ok(Real(value))
        } else if value.is_nan() {
            Err("the result is no real number".into())
        } else {
            Err("the result is too large".into())
        }
    }

    /// Without the noise of the last digits.
    fn shown(self) -> String {
        let value = match self {
            Whole(value) => return value.to_string(),
            Real(value) => format!("{value:.14e}").parse().unwrap_or(value),
        };
        let size = value.abs();
        if value == 0.0 {
            "0".to_owned()
        } else if (1e-5..1e15).contains(&size) {
            value.to_string()
        } else {
            format!("{value:e}")
        }
    }
}

fn exact_quotient(a: i128, b: i128) -> Option<i128> {
    if a.checked_rem(b)? == 0 { a.checked_div(b) } else { None }
}

/// Has the sign of the divisor, as in Python.
fn remainder(a: i128, b: i128) -> Option<i128> {
    let rest = a.checked_rem(b)?;
    if rest != 0 && (rest < 0) != (b < 0) { rest.checked_add(b) } else { Some(rest) }
}

fn floor_quotient(a: i128, b: i128) -> Option<i128> {
    a.checked_sub(remainder(a, b)?)?.checked_div(b)
}

fn power(a: i128, b: i128) -> Option<i128> {
    a.checked_pow(u32::try_from(b).ok()?)
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn space(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        self.rest
    }

    fn take(&mut self, operator: &str) -> bool {
        let rest = self.space().strip_prefix(operator);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn unexpected(&mut self) -> String {
        let rest: String = self.space().chars().take(20).collect();
        if rest.is_empty() { "the expression ends too early".into() } else { format!("{rest:?} is no arithmetic") }
    }

    fn sum(&mut self) -> Result<Number, String> {
        let mut value = self.product()?;
        loop {
            if self.take("+") {
                value = value.with(self.product()?, i128::checked_add, |a, b| a + b)?;
            } else if self.take("-") || self.take("−") {
                value = value.with(self.product()?, i128::checked_sub, |a, b| a - b)?;
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<Number, String> {
        let mut value = self.signed()?;
        loop {
            value = if self.take("//") {
                value.with(self.divisor()?, floor_quotient, |a, b| (a / b).floor())?
            } else if self.take("/") || self.take("÷") {
                value.with(self.divisor()?, exact_quotient, |a, b| a / b)?
            } else if self.take("%") {
                value.with(self.divisor()?, remainder, |a, b| a - b * (a / b).floor())?
            } else if self.take("*") || self.take("×") {
                value.with(self.signed()?, i128::checked_mul, |a, b| a * b)?
            } else {
                return Ok(value);
            }
        }
    }

    fn divisor(&mut self) -> Result<Number, String> {
        let value = self.signed()?;
        if value.is_zero() { Err("a division by zero".into()) } else { Ok(value) }
    }

    fn signed(&mut self) -> Result<Number, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(format!("the expression is nested more than {DEPTH} deep"));
        }
        let value = if self.take("-") || self.take("−") {
            Whole(0).with(self.signed()?, i128::checked_sub, |a, b| a - b)
        } else if self.take("+") {
            self.signed()
        } else {
            self.power()
        };
        self.depth -= 1;
        value
    }

    /// Binds tighter than a sign before it, and to the right.
    fn power(&mut self) -> Result<Number, String> {
        let base = self.atom()?;
        if self.take("**") || self.take("^") { base.with(self.signed()?, power, f64::powf) } else { Ok(base) }
    }

    fn atom(&mut self) -> Result<Number, String> {
        if self.take("(") {
            let value = self.sum()?;
            return if self.take(")") { Ok(value) } else { Err(self.unexpected()) };
        }
        let rest = self.space();
        let digits =
            |text: &str| text.find(|c: char| !c.is_ascii_digit() && c != '_' && c != '.').unwrap_or(text.len());
        let mut end = digits(rest);
        if let Some(exponent) = rest[end..].strip_prefix(['e', 'E']).filter(|_| end > 0) {
            let sign = usize::from(exponent.starts_with(['+', '-']));
            let length = digits(&exponent[sign..]);
            end += if length > 0 { 1 + sign + length } else { 0 };
        }
        let written = rest[..end].replace('_', "");
        let whole = written.parse().ok().map(Whole);
        let real = || written.parse().ok().filter(|value: &f64| value.is_finite()).map(Real);
        let value = whole.or_else(real).ok_or_else(|| self.unexpected())?;
        self.rest = &rest[end..];
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for (expression, value) in [
            ("1 + 2 * 3", "7"),
            ("(1 + 2) * 3", "9"),
            ("2 - 3 - 4", "-5"),
            ("7 / 2", "3.5"),
            ("6 / 3", "2"),
            ("-7 // 2", "-4"),
            ("-7 % 3", "2"),
            ("7 % -3", "-2"),
            ("7.5 % 2", "1.5"),
            ("2 ** 10", "1024"),
            ("2 ^ 3 ** 2", "512"),
            ("-2 ** 2", "-4"),
            ("2 ** -1", "0.5"),
            ("2**0.5", "1.4142135623731"),
            ("0.1 + 0.2", "0.3"),
            ("123456789 * 987654321", "121932631112635269"),
            ("2 ** 100", "1267650600228229401496703205376"),
            ("2 ** 200", "1.60693804425899e60"),
            ("1_000 × 3 ÷ 4 − 1", "749"),
            ("1.5e3 + .5", "1500.5"),
            ("1/3", "0.333333333333333"),
            ("--5", "5"),
            ("0 * -1.0", "0"),
        ] {
            assert_eq!(compute(expression).as_deref(), Ok(value), "{expression}");
        }
    }

    #[test]
    fn what_is_no_arithmetic_is_refused() {
        for (expression, why) in [
            ("", "ends too early"),
            ("1 +", "ends too early"),
            ("(1", "ends too early"),
            ("1 2", "\"2\" is no arithmetic"),
            ("2 * x", "\"x\" is no arithmetic"),
            ("__import__('os')", "is no arithmetic"),
            ("1..2", "is no arithmetic"),
            ("1 / 0", "division by zero"),
            ("1 % 0.0", "division by zero"),
            ("5 // (1 - 1)", "division by zero"),
            ("9 ** 9 ** 9 ** 9", "too large"),
            ("0 ** -1", "too large"),
            ("(-8) ** 0.5", "no real number"),
            ("1e400", "is no arithmetic"),
        ] {
            let error = compute(expression).unwrap_err();
            assert!(error.contains(why), "{expression}: {error}");
        }
    }

    #[test]
    fn long_and_deep_expressions_are_refused() {
        assert!(compute(&"1+".repeat(600)).unwrap_err().contains("longer"));
        for deep in ["(".repeat(900), "-".repeat(900), "2**".repeat(300)] {
            assert!(compute(&deep).unwrap_err().contains("nested"), "{deep}");
        }
        assert_eq!(compute(&(format!("{}1", "1+".repeat(499)))).as_deref(), Ok("500"));
        let least = "(0 - 170141183460469231731687303715884105727 - 1)";
        for expression in ["// -1", "% -1", "/ -1", "* 3", "- 1"] {
            assert!(compute(&format!("{least} {expression}")).is_ok(), "{expression}");
        }
    }
}
