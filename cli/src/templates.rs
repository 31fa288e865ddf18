//! `templates`: the built-in chat templates, for people or as JSON. Which one suits a model is decided elsewhere.

use crate::args::TemplatesArgs;
use crate::out;
use anyhow::Result;
use nano_templates::Template;
use serde_json::{Value, json};

/// Letters of a system prompt that the table shows.
const WIDTH: usize = 48;

/// Prints them.
pub fn run(args: &TemplatesArgs) -> Result<()> {
    let all: Vec<Template> = Template::builtin_names().iter().filter_map(|name| Template::builtin(name)).collect();
    if args.json {
        return out::json(&all.iter().map(entry).collect::<Vec<_>>());
    }
    out::write(table(&all))
}

fn entry(template: &Template) -> Value {
    json!({
        "name": template.name(),
        "about": Template::builtin_about(template.name()),
        "system_prompt": template.default_system(),
        "stop": template.stop(),
        "tool_call": template.tool_call(),
        "source": template.source(),
    })
}

fn table(all: &[Template]) -> String {
    let head = ["name", "for", "system prompt", "stops"].map(str::to_owned);
    let row = |template: &Template| {
        let system = template.default_system().map_or_else(|| "-".to_owned(), short);
        let stop = template.stop().iter().map(|s| s.escape_debug().to_string()).collect::<Vec<_>>().join(" ");
        let about = Template::builtin_about(template.name()).unwrap_or_default();
        [template.name().to_owned(), about.to_owned(), system, if stop.is_empty() { "-".to_owned() } else { stop }]
    };
    let rows: Vec<[String; 4]> = std::iter::once(head).chain(all.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [name, about, system] = [0, 1, 2].map(width);
    let lines = rows.iter().map(|[n, a, s, stops]| format!("{n:<name$}  {a:<about$}  {s:<system$}  {stops}\n"));
    let note = "\nA reply also ends at the model's own stop tokens. --chat-template takes a name, or a file: Jinja or a NanoLLM-style .json.\n";
    lines.chain([note.to_owned()]).collect()
}

/// The first words, as many as fit.
fn short(text: &str) -> String {
    if text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    let cut: String = text.chars().take(WIDTH - 1).collect();
    let words = cut.rsplit_once(' ').map_or(cut.as_str(), |(words, _)| words);
    format!("{words} …")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_prompts_end_at_a_word() {
        assert_eq!(short("Answer the questions."), "Answer the questions.");
        let long = short("You are a helpful language and vision assistant. You are able to understand");
        assert_eq!(long, "You are a helpful language and vision …");
        assert_eq!(short(&"é".repeat(60)), format!("{} …", "é".repeat(47)));
    }
}
