//! How values on the command line are read. A message here follows the flag's name and the value, which clap puts first.

use nano_kernels::KvFormat;
use nano_models::{Head, Lora, Quantization};
use nano_runtime::{Device, Overflow, ToolChoice, ToolFormat};
use serde_json::Value;

/// More of anything (threads, tokens, repetitions) is a slip of the finger.
const MOST: usize = 1 << 40;

pub fn positive(text: &str) -> Result<usize, String> {
    match text.trim().parse::<usize>() {
        Ok(n) if (1..=MOST).contains(&n) => Ok(n),
        Ok(0) => Err("it must be 1 or more".into()),
        Ok(_) => Err(format!("it must be at most {MOST}")),
        Err(_) => Err("it must be a whole number, 1 or more".into()),
    }
}

pub fn threads(text: &str) -> Result<usize, String> {
    // Every one gets a stack; no machine has more cores.
    const MOST: usize = 1024;
    positive(text).and_then(|n| if n <= MOST { Ok(n) } else { Err(format!("it must be at most {MOST}")) })
}

pub fn count(text: &str) -> Result<usize, String> {
    let n = text.trim().parse().ok().filter(|&n: &usize| n <= MOST);
    n.ok_or_else(|| "it must be a whole number, 0 or more".into())
}

pub fn counts(text: &str) -> Result<List, String> {
    list(text, |part| count(part).map_err(|_| format!("{part:?} is no count; write whole numbers as in 128,512")))
}

pub fn threads_list(text: &str) -> Result<List, String> {
    list(text, |part| threads(part).map_err(|why| format!("{part:?}: {why}")))
}

/// One value of a flag that holds several numbers. Under its own name clap does not take it for a repeatable flag.
pub type List = Vec<usize>;

fn list(text: &str, one: impl Fn(&str) -> Result<usize, String>) -> Result<List, String> {
    text.split(',').map(|part| one(part.trim())).collect()
}

pub fn window(text: &str) -> Result<usize, String> {
    // With fewer than 3 tokens no position is in the second half and has a next token.
    positive(text).and_then(|n| if n >= 3 { Ok(n) } else { Err("it must be 3 or more".into()) })
}

pub fn number(text: &str) -> Result<f32, String> {
    text.trim().parse().ok().filter(|x: &f32| x.is_finite()).ok_or_else(|| "it must be a number".into())
}

pub fn above_zero(text: &str) -> Result<f32, String> {
    check(text, |x| x > 0.0, "it must be above 0")
}

pub fn temperature(text: &str) -> Result<f32, String> {
    check(text, |x| x >= 0.0, "it must be 0 or more")
}

pub fn share(text: &str) -> Result<f32, String> {
    check(text, |x| x > 0.0 && x <= 1.0, "it must be above 0 and at most 1")
}

pub fn fraction(text: &str) -> Result<f32, String> {
    check(text, |x| (0.0..=1.0).contains(&x), "it must be between 0 and 1")
}

fn check(text: &str, fits: impl Fn(f32) -> bool, need: &str) -> Result<f32, String> {
    number(text).and_then(|x| if fits(x) { Ok(x) } else { Err(need.into()) })
}

pub fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 5] =
        [("", 1), ("k", 1000), ("m", 1_000_000), ("g", 1_000_000_000), ("t", 1_000_000_000_000)];
    const BINARY: [(&str, u64); 4] = [("ki", 1 << 10), ("mi", 1 << 20), ("gi", 1 << 30), ("ti", 1 << 40)];
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..digits], text[digits..].trim());
    let unit = unit.strip_suffix('b').unwrap_or(unit);
    let factor = UNITS.iter().chain(&BINARY).find(|(name, _)| *name == unit).map(|&(_, factor)| factor);
    let (Ok(number), Some(factor)) = (number.parse::<f64>(), factor) else {
        return Err("it must be a number of bytes, as in 2000000000, 2G or 1.5GiB".into());
    };
    match number * factor as f64 {
        n if n < 1.0 => Err("it must be 1 or more".into()),
        n if n > (1u64 << 62) as f64 => Err("no machine has that much".into()),
        n => Ok(n as u64),
    }
}

pub fn head(text: &str) -> Result<Head, String> {
    text.trim().to_ascii_lowercase().parse()
}

pub fn quantization(text: &str) -> Result<Quantization, String> {
    text.trim().to_ascii_lowercase().parse()
}

pub fn lora(text: &str) -> Result<Lora, String> {
    text.parse()
}

pub fn device(text: &str) -> Result<Device, String> {
    match text {
        "auto" => Ok(Device::Auto),
        "cpu" => Ok(Device::Cpu),
        "cuda" => Ok(Device::Cuda),
        _ => Err("it must be auto, cpu or cuda".into()),
    }
}

pub fn overflow(text: &str) -> Result<Overflow, String> {
    let found = Overflow::ALL.into_iter().find(|policy| policy.as_str() == text);
    found.ok_or_else(|| "it must be error, drop or shift".into())
}

pub fn kv_format(text: &str) -> Result<KvFormat, String> {
    match text {
        "f16" => Ok(KvFormat::F16),
        "q8" => Ok(KvFormat::Q8),
        "f32" => Ok(KvFormat::F32),
        _ => Err("it must be f16, q8 or f32".into()),
    }
}

pub fn tool_choice(text: &str) -> Result<ToolChoice, String> {
    Ok(match text.trim() {
        "" => return Err("it must be auto, none, required or the name of a function".into()),
        "auto" => ToolChoice::Auto,
        "none" => ToolChoice::None,
        "required" => ToolChoice::Required,
        name => ToolChoice::Named(name.to_owned()),
    })
}

pub fn tool_format(text: &str) -> Result<ToolFormat, String> {
    ToolFormat::by_name(text.trim()).ok_or_else(|| {
        let known: Vec<String> = ToolFormat::ALL.iter().map(|f| format!("{} ({})", f.name(), f.models())).collect();
        format!("the formats are {}", known.join("; "))
    })
}

pub fn key_value(text: &str) -> Result<(String, Value), String> {
    let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
        return Err("it must be KEY=JSON, as in enable_thinking=false".into());
    };
    let value =
        serde_json::from_str(value).map_err(|e| format!("{value:?} is not JSON ({e}); a string needs quotes"))?;
    Ok((key.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_bytes() {
        for (text, value) in [
            ("1", 1),
            ("2000000000", 2_000_000_000),
            ("2G", 2_000_000_000),
            ("1.5GiB", 3 << 29),
            ("64 kb", 64000),
            ("8Mi", 8 << 20),
        ] {
            assert_eq!(bytes(text), Ok(value), "{text}");
        }
        for text in ["", "0", "-1", "G", "1x", "1e9", "0.1", "99999999T", "nan", "1..2"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for text in ["0", "-1", "1.5", "", "x", "99999999999999999999", "2000000000000"] {
            assert!(positive(text).is_err(), "{text}");
        }
        for text in ["-0.1", "nan", "inf", "x", ""] {
            assert!(temperature(text).is_err() && fraction(text).is_err() && above_zero(text).is_err(), "{text}");
        }
        assert!(share("0").is_err() && share("1.1").is_err() && fraction("1.01").is_err() && above_zero("0").is_err());
        assert!(share("1").is_ok() && fraction("0").is_ok() && temperature("0").is_ok() && window("3").is_ok());
        assert!(window("2").is_err());
    }

    #[test]
    fn lists_of_counts() {
        assert_eq!(counts("128, 512"), Ok(vec![128, 512]));
        assert_eq!(counts("0"), Ok(vec![0]));
        assert!(counts("1,,2").is_err() && counts("-1").is_err());
        assert_eq!(threads_list("1,2"), Ok(vec![1, 2]));
        assert!(threads_list("2,0").is_err() && threads_list("1,100000").is_err());
    }

    #[test]
    fn choices_and_formats_of_tools() {
        assert_eq!(tool_choice("required"), Ok(ToolChoice::Required));
        assert_eq!(tool_choice("battery"), Ok(ToolChoice::Named("battery".into())));
        assert!(tool_choice(" ").is_err());
        assert_eq!(tool_format("Hermes"), Ok(ToolFormat::Hermes));
        let error = tool_format("nonesuch").unwrap_err();
        assert!(ToolFormat::ALL.iter().all(|format| error.contains(format.name())), "{error}");
    }

    #[test]
    fn variables_are_json() {
        assert_eq!(key_value("a=true"), Ok(("a".into(), Value::Bool(true))));
        assert_eq!(key_value("a=\"x=y\""), Ok(("a".into(), "x=y".into())));
        assert!(key_value("a").is_err() && key_value("=1").is_err() && key_value("a=word").is_err());
    }
}
