//! How the results of `bench` look: a table, or one JSON object.

use crate::model::megabytes;
use crate::out;
use anyhow::Result;
use serde::Serialize;

/// All results.
#[derive(Serialize)]
pub struct Report {
    pub model: String,
    pub device: String,
    pub results: Vec<Test>,
    /// Loading, seconds.
    pub load_s: f64,
    /// From the start of the program to the first token after a short prompt, loading included, seconds.
    pub first_token_s: f64,
    pub peak_rss_bytes: u64,
    /// By number of threads, GB/s.
    #[serde(serialize_with = "bandwidths")]
    pub bandwidth: Vec<(usize, f64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Gpu>,
}

/// What only a GPU has.
#[derive(Serialize)]
pub struct Gpu {
    /// Read and written by copies within its memory, GB/s.
    pub copy_gb_s: f64,
    pub launches_per_token: u64,
}

/// The result of one test.
#[derive(Serialize)]
pub struct Test {
    pub test: String,
    pub threads: usize,
    pub tok_s: Spread,
    /// Weights, keys and values read per second, GB.
    pub gb_s: f64,
    pub bandwidth_pct: f64,
    /// Tokens per joule, where the board measures its power.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tok_j: Option<f64>,
}

/// Several measurements of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of at least one measurement.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let (min, max) = (values.first().copied().unwrap_or(0.0), values.last().copied().unwrap_or(0.0));
        let middle = values.len() / 2;
        let median = match values.len() {
            0 => 0.0,
            n if n % 2 == 1 => values[middle],
            _ => (values[middle - 1] + values[middle]) / 2.0,
        };
        Self { median, min, max }
    }
}

impl Report {
    /// Prints it.
    pub fn print(&self, json: bool) -> Result<()> {
        if json { out::json(self) } else { out::write(self.text()) }
    }

    fn text(&self) -> String {
        let mut text = format!("{} on {}\n\n", self.model, self.device);
        let power = self.results.iter().any(|test| test.tok_j.is_some());
        let title = if power { "    tok/J" } else { "" };
        text.push_str(&format!("test      threads    tok/s      min      max     GB/s  of bandwidth{title}\n"));
        for Test { test, threads, tok_s, gb_s, bandwidth_pct, tok_j } in &self.results {
            let Spread { median, min, max } = tok_s;
            text.push_str(&format!(
                "{test:<9} {threads:>7} {median:>8.1} {min:>8.1} {max:>8.1} {gb_s:>8.2} {bandwidth_pct:>12.0}%"
            ));
            text.push_str(&tok_j.map_or_else(String::new, |rate| format!(" {rate:>8.2}")));
            text.push('\n');
        }
        text.push('\n');
        for (threads, rate) in &self.bandwidth {
            let s = if *threads == 1 { "" } else { "s" };
            text.push_str(&format!("memory read by {threads} thread{s}: {rate:.1} GB/s\n"));
        }
        if let Some(Gpu { copy_gb_s, launches_per_token }) = &self.gpu {
            text.push_str(&format!("memory read and written by the GPU's copies: {copy_gb_s:.1} GB/s\n"));
            text.push_str(&format!("kernels launched per token: {launches_per_token}\n"));
        }
        let (load, first, peak) = (self.load_s, self.first_token_s, megabytes(self.peak_rss_bytes));
        text.push_str(&format!("load {load:.3} s, first token {first:.3} s after the start, peak memory {peak}\n"));
        text
    }
}

fn bandwidths<S: serde::Serializer>(rates: &[(usize, f64)], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Rate {
        threads: usize,
        gb_s: f64,
    }
    serializer.collect_seq(rates.iter().map(|&(threads, gb_s)| Rate { threads, gb_s }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_measurements() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]).median, 2.5);
    }

    #[test]
    fn the_json_has_the_promised_names() {
        let spread = Spread { median: 2.0, min: 1.0, max: 3.0 };
        let test =
            Test { test: "pp512".into(), threads: 2, tok_s: spread, gb_s: 5.0, bandwidth_pct: 50.0, tok_j: None };
        let mut report = Report {
            model: "m".into(),
            device: "cpu".into(),
            results: vec![test],
            load_s: 0.1,
            first_token_s: 0.2,
            peak_rss_bytes: 3,
            bandwidth: vec![(2, 10.0)],
            gpu: None,
        };
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"{"model":"m","device":"cpu","results":[{"test":"pp512","threads":2,"tok_s":{"median":2.0,"min":1.0,"max":3.0},"gb_s":5.0,"bandwidth_pct":50.0}],"load_s":0.1,"first_token_s":0.2,"peak_rss_bytes":3,"bandwidth":[{"threads":2,"gb_s":10.0}]}"#
        );
        assert!(report.text().contains("pp512") && !report.text().contains("tok/J"));
        report.gpu = Some(Gpu { copy_gb_s: 180.0, launches_per_token: 170 });
        report.results[0].tok_j = Some(1.25);
        let text = report.text();
        for part in ["tok/J\n", "50%     1.25\n", "copies: 180.0 GB/s", "per token: 170"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["gpu"]["launches_per_token"], &json["results"][0]["tok_j"]), (&170.into(), &1.25.into()));
    }
}
