//! Examples of DeepSeek and gpt-oss, cut in every way.

use super::splits::{call, check, inside, text, thought};
use super::*;
use serde_json::json;

/// Checks an answer of which nothing is known beforehand.
fn reads(format: ToolFormat, answer: &str, pieces: &[Piece]) {
    check(format, &ParserOptions::default(), answer, pieces);
}

fn paris() -> Piece {
    call("get_weather", json!({"city": "Paris"}))
}

mod deepseek {
    use super::*;
    const F: ToolFormat = ToolFormat::DeepSeek;

    #[test]
    fn thoughts_and_a_fenced_call() {
        let whole = concat!(
            "Think.\n</think>\n\nOk.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n",
            "```json\n{\"city\": \"Paris\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜tool▁outputs▁end｜>"
        );
        let pieces = [thought("Think."), text("Ok."), paris()];
        check(F, &inside(), whole, &pieces);
        // Whatever is missing at the end, the call is complete.
        for end in ["<｜tool▁outputs▁end｜>", "<｜tool▁calls▁end｜><｜tool▁outputs▁end｜>", "```<｜tool▁call▁end｜>"]
        {
            let cut = &whole[..whole.find(end).expect("it is there")];
            assert_eq!(splits::parse(F, &inside(), &[cut]), pieces);
        }
    }

    #[test]
    fn several_calls() {
        let answer = concat!(
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>a\n```json\n{}\n```<｜tool▁call▁end｜>\n",
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>b\n```json\n{\"x\": \"```\"}\n```<｜tool▁call▁end｜>",
        );
        reads(F, answer, &[call("a", json!({})), call("b", json!({"x": "```"}))]);
    }

    #[test]
    fn calls_without_fences() {
        let answer = concat!(
            "Ok\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>a<｜tool▁sep｜>{\"x\": 1}<｜tool▁call▁end｜>",
            "<｜tool▁call▁begin｜>b<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜> é",
        );
        reads(F, answer, &[text("Ok"), call("a", json!({"x": 1})), call("b", json!({})), text("é")]);
    }

    #[test]
    fn what_is_no_call_stays() {
        for answer in [
            "<｜tool▁calls▁begin｜> none",
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>a\n```json\n{\"x\": ",
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>a\nwords",
            "<｜tool▁call▁begin｜>function",
            "<｜tool▁call▁begin｜>a\"<｜tool▁sep｜>{}",
            "<｜tool▁call▁begin｜><｜tool▁sep｜>{}",
            "<｜tool▁",
        ] {
            reads(F, answer, &[text(answer)]);
        }
    }
}

mod harmony {
    use super::*;
    const F: ToolFormat = ToolFormat::Harmony;

    #[test]
    fn thoughts_and_a_call() {
        let answer = concat!(
            "<|channel|>analysis<|message|>Need weather.<|end|><|start|>assistant<|channel|>commentary ",
            "to=functions.get_weather <|constrain|>json<|message|>{\"city\":\"Paris\"}<|call|>"
        );
        reads(F, answer, &[thought("Need weather."), paris()]);
    }

    #[test]
    fn thoughts_and_an_answer() {
        let answer = concat!(
            "<|channel|>analysis<|message|>Easy.<|end|><|start|>assistant<|channel|>final<|message|>",
            "It is sunny.<|return|>"
        );
        reads(F, answer, &[thought("Easy."), text("It is sunny.")]);
        reads(
            F,
            "<|channel|>analysis<|message|>Easy.<|channel|>final<|message|>Si <|.\n",
            &[thought("Easy."), text("Si <|.\n")],
        );
    }

    #[test]
    fn the_recipient_may_come_first() {
        let answer = concat!(
            " to=functions.a<|channel|>commentary json<|message|>{\"s\": \"<|call|>\\\"}\"}<|call|>",
            "<|start|>assistant to=functions.b<|channel|>analysis<|message|>{}<|call|>"
        );
        reads(F, answer, &[call("a", json!({"s": "<|call|>\"}"})), call("b", json!({}))]);
    }

    #[test]
    fn words_before_a_call_are_text() {
        let answer = concat!(
            "<|channel|>commentary<|message|>Looking.<|end|><|start|>assistant<|channel|>commentary to=functions.a ",
            "<|message|> <|call|>\nDone"
        );
        reads(F, answer, &[text("Looking."), call("a", json!({})), text("Done")]);
    }

    #[test]
    fn the_prompt_may_have_begun_the_message() {
        reads(F, "  Plain é\n", &[text("  Plain é\n")]);
        check(
            F,
            &inside(),
            "Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes",
            &[thought("Hm."), text("Yes")],
        );
        assert!(F.thinks_from_the_start("<|start|>assistant<|channel|>analysis<|message|>"));
    }

    #[test]
    fn what_does_not_parse_stays() {
        let head = "<|channel|>commentary to=functions.a<|message|>";
        reads(F, &format!("{head}no json<|call|>"), &[text(&format!("{head}no json"))]);
        reads(F, &format!("{head}{{\"x\": "), &[text(&format!("{head}{{\"x\": "))]);
        reads(F, &format!("{head}[]<|call|>"), &[text(&format!("{head}[]"))]);
        for answer in ["<|channel|>final", "<|start|>assistant", "<|cha", "to=morrow", head.trim_end_matches('>')] {
            reads(F, answer, &[text(answer)]);
        }
    }

    #[test]
    fn a_header_without_end_is_text() {
        let answer = format!("<|channel|>{}", "x".repeat(300));
        assert_eq!(splits::parse(F, &ParserOptions::default(), &[&answer]), [text(&answer)]);
        let answer = format!("<|channel|>analysis<|message|>A<|channel|>{}", "x".repeat(300));
        let thoughts = answer.trim_start_matches("<|channel|>analysis<|message|>");
        assert_eq!(splits::parse(F, &ParserOptions::default(), &[&answer]), [thought(thoughts)]);
    }

    #[test]
    fn calls_that_are_not_wanted_are_text() {
        let expected = ParserOptions { calls: false, ..ParserOptions::default() };
        let answer = "<|channel|>commentary to=functions.a<|message|>{}<|call|>";
        check(F, &expected, answer, &[text(answer.trim_end_matches("<|call|>"))]);
    }
}
