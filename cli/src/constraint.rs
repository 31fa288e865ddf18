//! What replies must look like, as flags say it: a text, or a file that holds it.

use crate::args::ConstraintArgs;
use anyhow::{Context, Result, ensure};
use nano_runtime::{Constraint, GenerateOptions, NanoModel};
use std::path::Path;

/// No schema and no grammar is longer.
const LONGEST: u64 = 16 << 20;

/// A constraint that a flag asks for.
#[derive(Debug)]
pub struct Asked {
    constraint: Constraint,
    /// The flag, with the file if there is one.
    name: String,
}

/// The constraint that a flag asks for, if one does.
pub fn asked_for(args: &ConstraintArgs) -> Result<Option<Asked>> {
    if let Some(value) = &args.json_schema {
        let is_text = matches!(value.trim(), "true" | "false") || value.trim_start().starts_with('{');
        let (text, name) = read("--json-schema", value, is_text)?;
        let schema = serde_json::from_str(&text).with_context(|| format!("{name}: this is not JSON"))?;
        return Ok(Some(Asked { constraint: Constraint::JsonSchema(schema), name }));
    }
    if let Some(regex) = &args.regex {
        return Ok(Some(Asked { constraint: Constraint::Regex(regex.clone()), name: "--regex".into() }));
    }
    let Some(value) = &args.grammar else { return Ok(None) };
    // Every grammar has a rule.
    let is_text = value.contains(':') && !Path::new(value).is_file();
    let (grammar, name) = read("--grammar", value, is_text)?;
    Ok(Some(Asked { constraint: Constraint::Grammar(grammar), name }))
}

impl Asked {
    /// The constraint, if it can be enforced with this model.
    pub fn check(self, model: &NanoModel) -> Result<Constraint> {
        model.check_constraint(&self.constraint).context(self.name)?;
        Ok(self.constraint)
    }

    /// The constraint, for those who cannot be asked before.
    pub fn unchecked(self) -> Result<Constraint> {
        let options = GenerateOptions { constraint: Some(self.constraint.clone()), ..GenerateOptions::default() };
        options.check().context(self.name)?;
        Ok(self.constraint)
    }
}

/// The text that a flag gives, and what to call it.
fn read(flag: &str, value: &str, is_text: bool) -> Result<(String, String)> {
    if is_text {
        return Ok((value.to_owned(), flag.to_owned()));
    }
    let name = format!("{flag} {value}");
    let cannot = || format!("{name}: the file cannot be read");
    let size = std::fs::metadata(value).with_context(cannot)?.len();
    ensure!(size <= LONGEST, "{name}: {size} bytes are too many");
    let bytes = std::fs::read(value).with_context(cannot)?;
    let text = String::from_utf8(bytes).with_context(|| format!("{name}: the file is not UTF-8 text"))?;
    Ok((text, name))
}
