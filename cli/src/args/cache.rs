//! The flags of `cache`.

use super::LogArgs;
use super::values::bytes;
use clap::{Args, Subcommand};

/// `cache`
#[derive(Debug, Args)]
pub struct CacheArgs {
    #[command(subcommand)]
    pub action: CacheAction,
}

/// What to do with the packed weights.
#[derive(Debug, Subcommand)]
pub enum CacheAction {
    /// List them: model, format, size, when they were used last
    List(CacheListArgs),
    /// Remove those that were not used for longest
    Prune(CachePruneArgs),
}

/// `cache list`
#[derive(Debug, Args)]
pub struct CacheListArgs {
    /// One JSON array
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    #[command(flatten)]
    pub log: LogArgs,
}

/// `cache prune`
#[derive(Debug, Args)]
pub struct CachePruneArgs {
    /// Keep so many bytes at most, as in 20G
    #[arg(long, value_name = "BYTES", value_parser = bytes, required_unless_present = "all", allow_negative_numbers = true)]
    pub max_size: Option<u64>,
    /// Remove all
    #[arg(long, conflicts_with = "max_size")]
    pub all: bool,
    #[command(flatten)]
    pub log: LogArgs,
}

impl CacheAction {
    /// How much is told.
    pub fn log(&self) -> &LogArgs {
        match self {
            CacheAction::List(args) => &args.log,
            CacheAction::Prune(args) => &args.log,
        }
    }
}
