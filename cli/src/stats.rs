//! What a reply took, as people and programs read it.

use nano_runtime::{Finish, Stats};
use serde::Serialize;

/// Statistics under NanoLLM's names.
#[derive(Serialize)]
pub struct Numbers {
    input_tokens: usize,
    reused_tokens: usize,
    output_tokens: usize,
    spliced_tokens: usize,
    function_calls: usize,
    function_time: f64,
    mask_time: f64,
    worst_mask_time: f64,
    prefill_time: f64,
    prefill_rate: f64,
    decode_time: f64,
    decode_rate: f64,
    first_token_time: f64,
    gb_s: f64,
}

impl Numbers {
    pub fn of(stats: &Stats) -> Self {
        Self {
            input_tokens: stats.input_tokens,
            reused_tokens: stats.reused_tokens,
            output_tokens: stats.output_tokens,
            spliced_tokens: stats.spliced_tokens,
            function_calls: stats.function_calls,
            function_time: stats.function_time,
            mask_time: stats.mask_time,
            worst_mask_time: stats.worst_mask_time,
            prefill_time: stats.prefill_time,
            prefill_rate: stats.prefill_rate(),
            decode_time: stats.decode_time,
            decode_rate: stats.decode_rate(),
            first_token_time: stats.first_token_time,
            gb_s: stats.gb_s(),
        }
    }
}

/// Statistics in one line.
pub fn line(stats: &Stats, finish: Finish) -> String {
    let reused = if stats.reused_tokens > 0 { format!(" ({} reused)", stats.reused_tokens) } else { String::new() };
    let calls = match stats.function_calls {
        0 => String::new(),
        1 => format!(" · 1 call, {:.2} s", stats.function_time),
        n => format!(" · {n} calls, {:.2} s", stats.function_time),
    };
    let mut line = format!(
        "{} tokens in{reused}, {} out · first after {:.2} s · prefill {:.0} tok/s · decode {:.1} tok/s, {:.1} GB/s{calls}",
        stats.input_tokens,
        stats.output_tokens,
        stats.first_token_time,
        stats.prefill_rate(),
        stats.decode_rate(),
        stats.gb_s()
    );
    line.push_str(match finish {
        Finish::Stop => "",
        Finish::Length => " · cut off by --max-new-tokens",
        Finish::Cancelled => " · interrupted",
        Finish::Context => " · cut off: the context is full",
    });
    line
}

/// The rows of `/stats`.
pub fn rows(stats: &Stats, finish: Finish) -> Vec<(&'static str, String)> {
    let seconds = |s: f64| format!("{s:.3} s");
    let rate = |r: f64| format!("{r:.1} tok/s");
    vec![
        ("input_tokens", stats.input_tokens.to_string()),
        ("reused_tokens", stats.reused_tokens.to_string()),
        ("output_tokens", stats.output_tokens.to_string()),
        ("spliced_tokens", stats.spliced_tokens.to_string()),
        ("function_calls", stats.function_calls.to_string()),
        ("function_time", seconds(stats.function_time)),
        ("mask_time", seconds(stats.mask_time)),
        ("worst_mask_time", seconds(stats.worst_mask_time)),
        ("prefill_time", seconds(stats.prefill_time)),
        ("prefill_rate", rate(stats.prefill_rate())),
        ("decode_time", seconds(stats.decode_time)),
        ("decode_rate", rate(stats.decode_rate())),
        ("first_token_time", seconds(stats.first_token_time)),
        ("gb_s", format!("{:.2} GB/s", stats.gb_s())),
        ("finish", finish.as_str().to_owned()),
    ]
}

/// Statistics as a table, one name a row.
pub fn table(rows: &[(&str, String)]) -> String {
    let width = |of: &dyn Fn(&(&str, String)) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let (names, values) = (width(&|r| r.0.chars().count()), width(&|r| r.1.chars().count()));
    let rule =
        |left, middle, right| format!("{left}{}{middle}{}{right}", "─".repeat(names + 2), "─".repeat(values + 2));
    let mut lines = vec![rule('┌', '┬', '┐')];
    lines.extend(rows.iter().map(|(name, value)| format!("│ {name:<names$} │ {value:>values$} │")));
    lines.push(rule('└', '┴', '┘'));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_straight() {
        let table = table(&[("a", "1".into()), ("long", "22.5 s".into())]);
        let widths: Vec<usize> = table.lines().map(|l| l.chars().count()).collect();
        assert_eq!(widths, [17; 4]);
        assert!(table.contains("│ a    │      1 │"), "{table}");
    }

    #[test]
    fn the_line_says_why_a_reply_ended() {
        assert!(line(&Stats::default(), Finish::Length).ends_with("--max-new-tokens"));
        assert!(line(&Stats::default(), Finish::Stop).ends_with("GB/s"));
        let called = Stats { function_calls: 2, function_time: 0.25, ..Stats::default() };
        assert!(line(&called, Finish::Stop).ends_with("2 calls, 0.25 s"));
    }
}
