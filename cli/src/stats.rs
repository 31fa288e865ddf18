//! What a reply took, as people and programs read it.

use nano_runtime::{CallReport, Finish, Stats};
use serde::Serialize;

/// Statistics of a turn: of all its answers together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Total {
    /// Counts and times, added up.
    pub stats: Stats,
    /// Answers that led to another one, by the tools that they called.
    pub tool_rounds: usize,
    /// Tokens of the conversation after the last answer.
    pub tokens: usize,
    answers: usize,
    /// Tokens that the times of decoding speak of.
    decoded: f64,
    /// The longest call since the last answer: calls of one answer run together.
    longest_call: f64,
}

impl Total {
    /// An answer came to its end.
    pub fn answered(&mut self, stats: &Stats) {
        if self.answers > 0 {
            self.tool_rounds += 1;
        }
        let first = if self.answers == 0 { stats.first_token_time } else { self.stats.first_token_time };
        self.answers += 1;
        self.tokens = stats.input_tokens + stats.reused_tokens + stats.output_tokens;
        self.decoded += stats.decode_rate() * stats.decode_time;
        self.stats.function_time += std::mem::take(&mut self.longest_call);
        let sum = self.stats;
        self.stats = Stats {
            input_tokens: sum.input_tokens + stats.input_tokens,
            reused_tokens: sum.reused_tokens + stats.reused_tokens,
            output_tokens: sum.output_tokens + stats.output_tokens,
            spliced_tokens: sum.spliced_tokens + stats.spliced_tokens,
            function_calls: sum.function_calls + stats.function_calls,
            function_time: sum.function_time + stats.function_time,
            prefill_time: sum.prefill_time + stats.prefill_time,
            decode_time: sum.decode_time + stats.decode_time,
            first_token_time: first,
            mask_time: sum.mask_time + stats.mask_time,
            worst_mask_time: sum.worst_mask_time.max(stats.worst_mask_time),
            ..*stats
        };
    }

    /// A tool was called.
    pub fn called(&mut self, report: &CallReport) {
        self.stats.function_calls += 1;
        self.longest_call = self.longest_call.max(report.seconds);
    }

    fn decode_rate(&self) -> f64 {
        if self.stats.decode_time > 0.0 { self.decoded / self.stats.decode_time } else { 0.0 }
    }

    fn gb_s(&self) -> f64 {
        self.decode_rate() * self.stats.bytes_per_token as f64 / 1e9
    }
}

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
pub fn line(total: &Total, finish: Finish) -> String {
    let stats = &total.stats;
    let reused = if stats.reused_tokens > 0 { format!(" ({} reused)", stats.reused_tokens) } else { String::new() };
    let calls = match stats.function_calls {
        0 => String::new(),
        1 => format!(" · 1 call, {:.2} s", stats.function_time),
        n => format!(" · {n} calls, {:.2} s", stats.function_time),
    };
    let rounds = if total.tool_rounds > 0 { format!(" · tool rounds: {}", total.tool_rounds) } else { String::new() };
    // A server tells no times of its own.
    let prefill =
        if stats.prefill_time > 0.0 { format!(" · prefill {:.0} tok/s", stats.prefill_rate()) } else { String::new() };
    let bandwidth = if stats.bytes_per_token > 0 { format!(", {:.1} GB/s", total.gb_s()) } else { String::new() };
    let mut line = format!(
        "{} tokens in{reused}, {} out · first after {:.2} s{prefill} · decode {:.1} tok/s{bandwidth}{rounds}{calls}",
        stats.input_tokens,
        stats.output_tokens,
        stats.first_token_time,
        total.decode_rate(),
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
pub fn rows(total: &Total, finish: Finish) -> Vec<(&'static str, String)> {
    let stats = &total.stats;
    let seconds = |s: f64| format!("{s:.3} s");
    let rate = |r: f64| format!("{r:.1} tok/s");
    vec![
        ("input_tokens", stats.input_tokens.to_string()),
        ("reused_tokens", stats.reused_tokens.to_string()),
        ("output_tokens", stats.output_tokens.to_string()),
        ("spliced_tokens", stats.spliced_tokens.to_string()),
        ("tool_rounds", total.tool_rounds.to_string()),
        ("function_calls", stats.function_calls.to_string()),
        ("function_time", seconds(stats.function_time)),
        ("mask_time", seconds(stats.mask_time)),
        ("worst_mask_time", seconds(stats.worst_mask_time)),
        ("prefill_time", seconds(stats.prefill_time)),
        ("prefill_rate", rate(stats.prefill_rate())),
        ("decode_time", seconds(stats.decode_time)),
        ("decode_rate", rate(total.decode_rate())),
        ("first_token_time", seconds(stats.first_token_time)),
        ("gb_s", format!("{:.2} GB/s", total.gb_s())),
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
        assert!(line(&of(&[Stats::default()]), Finish::Length).ends_with("--max-new-tokens"));
        assert!(line(&of(&[Stats::default()]), Finish::Stop).ends_with("decode 0.0 tok/s"));
        let called = Stats { function_calls: 2, function_time: 0.25, ..Stats::default() };
        assert!(line(&of(&[called]), Finish::Stop).ends_with("2 calls, 0.25 s"));
    }

    #[test]
    fn a_turn_is_the_sum_of_its_answers() {
        let answer = Stats {
            input_tokens: 10,
            reused_tokens: 4,
            output_tokens: 11,
            prefill_time: 0.5,
            decode_time: 2.0,
            first_token_time: 0.1,
            bytes_per_token: 1_000_000_000,
            ..Stats::default()
        };
        let mut total = of(&[answer]);
        let report =
            |seconds| CallReport { name: "f".into(), arguments: Default::default(), result: Ok(None), seconds };
        total.called(&report(0.5));
        total.called(&report(0.25));
        total.answered(&Stats { first_token_time: 9.0, ..answer });
        assert_eq!(
            line(&total, Finish::Stop),
            "20 tokens in (8 reused), 22 out · first after 0.10 s · prefill 20 tok/s · decode 5.0 tok/s, 5.0 GB/s \
             · tool rounds: 1 · 2 calls, 0.50 s"
        );
    }

    fn of(answers: &[Stats]) -> Total {
        let mut total = Total::default();
        answers.iter().for_each(|stats| total.answered(stats));
        total
    }
}
