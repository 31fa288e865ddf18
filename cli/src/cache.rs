//! `cache`: the packed weights that are kept for faster starts, listed and removed. Where they lie is decided here, from the
//! environment; when they are kept and used is not.

use crate::args::{CacheAction, CacheArgs};
use crate::model::megabytes;
use crate::out::{self, Log};
use anyhow::Result;
use nano_models::hub::Hub;
use nano_models::{KeptModel, PackedCache};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The folder of packed weights, or `off`.
const VARIABLE: &str = "NANO_PACKED_CACHE";
/// Beside the folder in which the Hub's clients keep models: who moves that to a larger disk moves this too.
const FOLDER: &str = "nano-packed";
/// Bytes that packed weights may take together.
const LIMIT: u64 = 20_000_000_000;
/// Bytes of tensors that must be converted: fewer take less than half a second on one core.
const LEAST: u64 = 64_000_000;

/// Where packed weights are kept; `None` if they are not.
pub fn packed() -> Option<PackedCache> {
    let folder = match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        Some(value) if ["off", "0", "no", "false"].iter().any(|off| value.eq_ignore_ascii_case(off)) => return None,
        Some(folder) => PathBuf::from(folder),
        None => default_folder(),
    };
    Some(PackedCache { folder, limit: LIMIT, least: LEAST })
}

fn default_folder() -> PathBuf {
    Hub::from_env().cache.with_file_name(FOLDER)
}

/// Does it.
pub fn run(args: &CacheArgs, log: &Log) -> Result<()> {
    // What was kept before it was turned off can be removed all the same.
    let cache = packed().unwrap_or(PackedCache { folder: default_folder(), limit: LIMIT, least: LEAST });
    match &args.action {
        CacheAction::List(args) if args.json => out::json(&cache.list()?.iter().map(entry).collect::<Vec<_>>()),
        CacheAction::List(_) => {
            let models = cache.list()?;
            let bytes = models.iter().map(|model| model.bytes).sum();
            out::write(table(&models, SystemTime::now()))?;
            log.note(format_args!("{} in {}, at most {}", megabytes(bytes), cache.folder.display(), megabytes(LIMIT)));
            Ok(())
        }
        CacheAction::Prune(args) => {
            let most = if args.all { 0 } else { args.max_size.unwrap_or(LIMIT) };
            let gone = cache.prune(most)?;
            let bytes = gone.iter().map(|model| model.bytes).sum();
            log.note(format_args!(
                "removed {} models, {}, from {}",
                gone.len(),
                megabytes(bytes),
                cache.folder.display()
            ));
            out::write(table(&gone, SystemTime::now()))
        }
    }
}

fn entry(model: &KeptModel) -> serde_json::Value {
    let used = model.used.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    json!({"model": model.model, "format": model.format, "bytes": model.bytes, "last_used": used, "path": model.path})
}

fn table(models: &[KeptModel], now: SystemTime) -> String {
    let head = ["model", "format", "size", "last used"].map(str::to_owned);
    let row = |model: &KeptModel| {
        let name = if model.model.is_empty() { "(damaged)" } else { &model.model };
        let age = now.duration_since(model.used).unwrap_or_default();
        [name.to_owned(), model.format.clone(), megabytes(model.bytes), ago(age)]
    };
    let rows: Vec<[String; 4]> = std::iter::once(head).chain(models.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [name, format, size] = [0, 1, 2].map(width);
    rows.iter().map(|[n, f, s, used]| format!("{n:<name$}  {f:<format$}  {s:>size$}  {used}\n")).collect()
}

/// How long ago, for people.
fn ago(age: Duration) -> String {
    let of = |n: u64, unit: &str| format!("{n} {unit}{} ago", if n == 1 { "" } else { "s" });
    match age.as_secs() {
        ..60 => "just now".to_owned(),
        seconds @ 60..3600 => of(seconds / 60, "minute"),
        seconds @ 3600..86_400 => of(seconds / 3600, "hour"),
        seconds => of(seconds / 86_400, "day"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let ages = [0, 60, 7_000, 86_400, 200_000].map(|seconds| ago(Duration::from_secs(seconds)));
        assert_eq!(ages, ["just now", "1 minute ago", "1 hour ago", "1 day ago", "2 days ago"]);
    }
}
