//! Odd text and much text: nothing is lost, cuts do not matter, and time grows with length alone.

use super::splits::parse;
use super::*;
use std::time::{Duration, Instant};

/// What answers are made of, good and bad, in every format.
const BITS: &[&str] = &[
    "<tool_call>",
    "</tool_call>",
    "<function=f>",
    "</function>",
    "<parameter=a>",
    "</parameter>",
    "<think>",
    "</think>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]x",
    "</s>",
    "<|python_tag|>",
    "<|channel|>",
    "<|message|>",
    "<|start|>assistant",
    "<|call|>",
    "<|end|>",
    "analysis",
    " to=functions.f",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "```json\n",
    "```",
    "```tool_code\n",
    "<start_function_call>",
    "<|tool_call>",
    "<|tool_call|>",
    "functools",
    "call:f",
    "<escape>",
    "<|\"|>",
    "{\"name\": \"f\"}",
    "{\"name\": \"f\", \"arguments\": {\"a\": \"",
    "[{\"name\": \"f\"}]",
    "{\"a\":1}",
    "{a:1}",
    "f(a=1)",
    "[f(a=\"b\")]",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "\\",
    ":",
    ",",
    ";",
    "(",
    ")",
    "<",
    "f",
    "é",
    "東",
    "\u{1}",
    "\n",
    " ",
    "\n\n  ",
    "Words. ",
];

/// A call in each format, to which chance seldom comes.
fn good(format: ToolFormat) -> &'static str {
    match format {
        ToolFormat::Json => "{\"name\": \"f\", \"parameters\": {}}",
        ToolFormat::Llama3 => "<|python_tag|>{\"name\": \"f\"}",
        ToolFormat::Mistral => "[TOOL_CALLS]f[ARGS]{}",
        ToolFormat::Hermes => "<tool_call>\n{\"name\": \"f\"}\n</tool_call>",
        ToolFormat::Qwen => "<tool_call><function=f><parameter=a>\n1\n</parameter></function></tool_call>",
        ToolFormat::DeepSeek => "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜>",
        ToolFormat::Harmony => "<|channel|>c to=functions.f<|message|>{}<|call|>",
        ToolFormat::Gemma => "```tool_code\nf(a=1)\n```",
        ToolFormat::FunctionGemma => "<start_function_call>call:f{a:<escape>é<escape>}",
        ToolFormat::Gemma4 => "<|tool_call>call:f{a:<|\"|>é<|\"|>}<tool_call|>",
        ToolFormat::Phi4 => "<|tool_call|>[{\"name\": \"f\"}]",
    }
}

/// Numbers that look like chance and are the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn answer(&mut self, format: ToolFormat) -> String {
        let bit = |chance: &mut Self| match chance.below(6) {
            0 => good(format),
            _ => BITS[chance.below(BITS.len())],
        };
        (0..1 + self.below(12)).map(|_| bit(self)).collect()
    }

    /// A text in pieces of a few characters.
    fn cut<'a>(&mut self, text: &'a str) -> Vec<&'a str> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let length = rest.char_indices().nth(1 + self.below(9)).map_or(rest.len(), |(at, _)| at);
            let (piece, more) = rest.split_at(length);
            pieces.push(piece);
            rest = more;
        }
        pieces
    }
}

/// Whether the characters of `part` stand in `whole`, in this order.
fn is_within(part: &str, whole: &str) -> bool {
    let mut rest = whole.chars();
    part.chars().all(|c| rest.any(|other| other == c))
}

#[test]
fn nothing_is_lost_and_cuts_do_not_matter() {
    let mut chance = Chance(5);
    let (mut calls, mut thoughts) = (0, 0);
    for round in 0..20_000 {
        let format = ToolFormat::ALL[round % ToolFormat::ALL.len()];
        let expected = ParserOptions { inside_reasoning: chance.below(8) == 0, ..ParserOptions::default() };
        let answer = chance.answer(format);
        let whole = parse(format, &expected, &[&answer]);
        let cut = chance.cut(&answer);
        assert_eq!(parse(format, &expected, &cut), whole, "{format}: {cut:?}");
        let said: String = whole
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) | Piece::Reasoning(text) => text.as_str(),
                Piece::Call(_) => "",
            })
            .collect();
        assert!(is_within(&said, &answer), "{format}: {answer:?} gave {whole:?}");
        let is_call = |piece: &Piece| matches!(piece, Piece::Call(_));
        let is_thought = |piece: &Piece| matches!(piece, Piece::Reasoning(_));
        calls += whole.iter().filter(|piece| is_call(piece)).count();
        thoughts += whole.iter().filter(|piece| is_thought(piece)).count();
        let marked = expected.inside_reasoning || format == ToolFormat::Harmony || answer.contains("think>");
        if !marked && !whole.iter().any(is_call) {
            assert_eq!(said, answer, "{format}");
        }
    }
    assert!(calls > 1000 && thoughts > 500, "{calls} calls, {thoughts} thoughts");
}

/// A text of this length that repeats a pattern.
fn filled(pattern: &str, length: usize) -> String {
    pattern.repeat(length / pattern.len() + 1)
}

/// Texts that a careless parser reads again and again.
const LONG: &[&str] = &[
    "x",
    "<",
    " ",
    "\n ",
    "{\"",
    "[",
    "<tool_call>",
    "<tool_call>{\"",
    "<tool_call>{\"a\":\"b\",\"",
    "<tool_call>[\"\\",
    "<tool_call><function=a><parameter=b>",
    "<function=a><parameter=b>1</parameter><parameter=",
    "<think>",
    "[TOOL_CALLS]f[ARGS]{\"",
    "[TOOL_CALLS]f",
    "[TOOL_CALLS]",
    "<|python_tag|>f('",
    "<|python_tag|>f(\"'",
    "<|python_tag|>[f(",
    "<|python_tag|>{\"a\":[",
    "<|channel|>",
    "<|channel|>c to=functions.f<|message|>{\"",
    "<|channel|>c to=functions.f<|message|> ",
    "<|start|>assistant<|message|>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"",
    "<｜tool▁call▁begin｜>f<｜tool▁sep｜>",
    "```tool_code\n",
    "```tool_code\n[f(a='",
    "<start_function_call>call:f{a:<escape>",
    "<start_function_call>call:f{a:\"",
    "<|tool_call>call:f{a:<|\"|>",
    "<|tool_call>call:f{a:[",
    "<|tool_call|>[{\"a\":\"",
    "functools",
];

#[test]
fn repeated_beginnings_may_be_cut_anywhere() {
    for pattern in LONG {
        let text = filled(pattern, 20_000);
        let pieces: Vec<&str> = Chance(1).cut(&text);
        for &format in ToolFormat::ALL {
            let whole = parse(format, &ParserOptions::default(), &[&text]);
            assert!(parse(format, &ParserOptions::default(), &pieces) == whole, "{format}: {pattern}");
        }
    }
}

#[test]
fn time_grows_with_length_alone() {
    // Each takes a few hundredths of a second. Read in the square of their length, they would take many seconds.
    const MOST: Duration = Duration::from_secs(3);
    for (format, pattern, end) in [
        (ToolFormat::Hermes, "<tool_call>{\"a\":\"b\",\"", ""),
        (ToolFormat::Qwen, "<tool_call><function=a><parameter=b>", ""),
        (ToolFormat::Qwen, "<function=a><parameter=b>1</parameter><parameter=", ""),
        (ToolFormat::Qwen, "<tool_call><function=a><parameter=b>", "</parameter><parameter=>"),
        (ToolFormat::Mistral, "[TOOL_CALLS]f[ARGS]{\"", ""),
        (ToolFormat::Llama3, "<|python_tag|>f(\"'", ""),
        (ToolFormat::DeepSeek, "<｜tool▁call▁begin｜>", ""),
        (ToolFormat::DeepSeek, "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"", ""),
        (ToolFormat::Harmony, "<|channel|>c to=functions.f<|message|>{\"", ""),
        (ToolFormat::Harmony, "<|channel|>", ""),
        (ToolFormat::Gemma, "```tool_code\n[f(a='", ""),
        (ToolFormat::FunctionGemma, "<start_function_call>call:f{a:<escape>", ""),
        (ToolFormat::Phi4, "functools[", ""),
    ] {
        let text = filled(pattern, 1 << 20) + end;
        let begun = Instant::now();
        let found = parse(format, &ParserOptions::default(), &[&text]);
        assert!(begun.elapsed() < MOST, "{format}: {pattern} took {:?}", begun.elapsed());
        assert!(!found.is_empty());
    }
}

#[test]
fn a_megabyte() {
    const LENGTH: usize = 1 << 20;
    let long = filled("lo\\\\ng \\\"{[é ", LENGTH);
    for (format, before, after) in [
        (ToolFormat::Json, "{\"name\": \"f\", \"parameters\": {\"a\": \"", "\"}}"),
        (ToolFormat::Hermes, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"", "\"}}</tool_call>"),
        (ToolFormat::Qwen, "<tool_call><function=f><parameter=a>", "</parameter></function>"),
        (ToolFormat::Harmony, "<|channel|>c to=functions.f<|message|>{\"a\": \"", "\"}<|call|>"),
        (ToolFormat::Gemma4, "<|tool_call>call:f{a:<|\"|>", "<|\"|>}"),
    ] {
        let text = format!("{before}{long}{after}");
        let pieces: Vec<&str> = Chance(2).cut(&text);
        let found = parse(format, &ParserOptions::default(), &pieces);
        let [Piece::Call(call)] = &found[..] else { panic!("{format}: {} pieces", found.len()) };
        let length = call.arguments["a"].as_str().map_or(0, str::len);
        assert!(length > LENGTH / 2, "{format}: {length}");
        // The same without its end is text, to the last letter.
        let open = &text[..text.len() - after.len()];
        assert!(parse(format, &ParserOptions::default(), &[open]) == [Piece::Text(open.into())], "{format}");
    }
}
