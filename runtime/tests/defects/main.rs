//! What NanoLLM gets wrong, D1 to D24 of the list that this project keeps: what concerns conversations and generations
//! has its test here, under its number. The others:
//!
//! | number | what | tests |
//! |---|---|---|
//! | D5 | slash commands, the end of input, bare `reset` | `d05_…` in cli/tests/cli/defects.rs |
//! | D6 | templates from JSON files | `d06_…` in cli/tests/cli/defects.rs; `wrong_nanollm_files_name_the_file_and_the_key` in templates/tests/nanollm.rs |
//! | D7 | which template a model gets | `marks_in_the_vocabulary_come_before_the_name`, `what_nanollms_table_picked_wrongly` in templates/tests/choose.rs |
//! | D17 | a context of any size, weights without a copy, a plan before loading | `d17_…` in cli/tests/cli/defects.rs; `the_plan_comes_before_anything_is_loaded`, `the_context_gives_way_to_memory_and_says_so` in tests/open.rs |
//! | D19 | prompts that are lost, or taken for images | `d19_…` in cli/tests/cli/defects.rs |
//! | D21 | inputs that are changed, names that are empty | `d21_…` here; `a_gguf_is_downloaded_once_into_the_standard_layout` in models/tests/hub.rs |
//! | D23 | sets of functions that do not do what they say | `names_are_checked`, `equal_is_what_is_the_same` in src/functions/set_tests.rs |

#[path = "../common/mod.rs"]
mod common;
mod histories;
mod replies;

use common::Shared;
use common::talk::{fed, say};
use nano_runtime::{ChatHistory, ChatOptions, Event, GenerateOptions, Limits, NanoModel, Result};

fn read(stream: &mut impl Iterator<Item = Result<Event>>) -> String {
    let mut text = String::new();
    for event in stream {
        if let Event::Text(more) = event.unwrap() {
            text += &more;
        }
    }
    text
}

fn fed_by(chat: &mut ChatHistory, log: &Shared, text: &str) -> Vec<u32> {
    fed(log);
    say(chat, text);
    fed(log)
}
