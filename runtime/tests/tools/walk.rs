//! Random walks over conversations with tools: whatever was done before, the tokens that a reply is sampled after say, turn
//! by turn, what the template writes of the messages. The runner checks that the rows are those of these tokens.

use crate::common::{Fake, limits, options};
use crate::marks::{decode, encode, tokenizer};
use crate::rounds::THINKING;
use crate::{drive, result};
use nano_runtime::{
    ChatHistory, ChatOptions, GenerateOptions, Limits, NanoModel, ParserOptions, Piece, Removal, StreamParser,
    Template, ToolChoice, ToolFormat,
};
use std::sync::{Arc, Mutex};

const SAYS: [&str; 9] = [
    "Yes.",
    "",
    "  spaced  ",
    "<think>\nHm, <im_end>.\n</think>\n\nNo.",
    "<think>\n\n</think>\n\n<tool_call>\n{\"name\": \"drive\", \"arguments\": {\"speed\": 1}}\n</tool_call>",
    "<think>\nSo.\n</think>\n\nLet me.\n<tool_call>\n{\"arguments\":{\"speed\": 2.0, \"where\":\"<|im_end|>\"},\"name\":\"drive\"}\n</tool_call>",
    "<tool_call>{\"name\":\"drive\",\"arguments\":{}}</tool_call><tool_call>{\"name\":\"drive\",\"arguments\":{}}</tool_call>",
    "<tool_call>\n{\"name\": drive}\n</tool_call>",
    "<think>\nNever ending",
];

struct Walk {
    seed: u64,
    chats: Vec<ChatHistory>,
    context: Arc<Mutex<Vec<u32>>>,
    says: Arc<Mutex<Vec<u32>>>,
}

impl Walk {
    fn new(seed: u64, template: Template) -> Self {
        let (context, says) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::<u32>::new())));
        let (seen, said) = (Arc::clone(&context), Arc::clone(&says));
        let end = encode("<|im_end|>")[0];
        let limits = Limits { vocab: tokenizer().len(), context: 4096, pages: 600, ..limits() };
        let (fake, _) = Fake::new(limits, move |tokens| {
            *seen.lock().unwrap() = tokens.to_vec();
            let mut said = said.lock().unwrap();
            if said.is_empty() { end } else { said.remove(0) }
        });
        let model = NanoModel::with_runner(Box::new(fake), tokenizer(), Some(template)).unwrap();
        let chat = model.chat(ChatOptions { tools: vec![drive()], ..ChatOptions::default() }).unwrap();
        Self { seed, chats: vec![chat], context, says }
    }

    fn random(&mut self, below: usize) -> usize {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) as usize % below
    }

    fn step(&mut self) {
        let index = self.random(self.chats.len());
        let len = self.chats[index].messages().len();
        match self.random(14) {
            0 => drop(self.chats[index].undo()),
            1 if len > 0 => {
                let message = self.random(len);
                self.chats[index].edit(message, "Edited.").unwrap();
            }
            2 if len > 1 => {
                let start = self.random(len);
                let end = start + self.random(len - start);
                let how = [Removal::Exact, Removal::Shift][self.random(2)];
                self.chats[index].remove(start..end, how).unwrap();
            }
            3 if self.chats.len() < 3 => {
                let fork = self.chats[index].fork();
                self.chats.push(fork);
            }
            4 => {
                let tools = if self.random(3) == 0 { Vec::new() } else { vec![drive()] };
                self.chats[index].set_tools(tools).unwrap();
            }
            5 => {
                let json = self.chats[index].to_json();
                self.chats[index].from_json(json).unwrap();
            }
            6 => self.chats[index].reset(),
            _ => self.turn(index),
        }
    }

    fn turn(&mut self, index: usize) {
        let last = self.chats[index].messages().last().cloned().unwrap_or_default();
        match &last.tool_calls {
            Some(calls) if self.random(5) > 0 => {
                for call in 0..calls.len() {
                    self.chats[index].append_message(result(&last, call, ["ok", "<|im_end|>", ""][call % 3]));
                }
            }
            _ => self.chats[index].user(["Go.", "And <tool_call>?", " now "][index % 3]),
        }
        *self.says.lock().unwrap() = encode(SAYS[self.random(SAYS.len())]);
        let limit = [400, 400, 400, 12][self.random(4)];
        let choice = if self.random(8) == 0 { ToolChoice::None } else { ToolChoice::Auto };
        let expected = self.chats[index].prompt().unwrap();
        let options = GenerateOptions { max_new_tokens: limit, tool_choice: choice, ..options() };
        let chat = &mut self.chats[index];
        let mut reply = chat.reply(&options).unwrap();
        drop(reply.next());
        let context = std::mem::take(&mut *self.context.lock().unwrap());
        if self.seed.is_multiple_of(11) {
            reply.stop();
        }
        drop(reply.wait());
        // What was sampled so far is behind the prompt; the last turn is open.
        let fed = decode(&context);
        let (said, told) = (turns(&fed), turns(&expected));
        assert!(said.len() == told.len(), "{fed}\n----\n{expected}");
        for (said, told) in said[..said.len() - 1].iter().zip(&told) {
            assert_eq!(read(said), read(told), "{fed}\n----\n{expected}");
        }
        let chat = &self.chats[index];
        let tokens: usize = (0..chat.messages().len()).map(|i| chat.message_tokens(i).len()).sum();
        assert_eq!((tokens, chat.num_rows() + chat.num_pending()), (chat.num_tokens(), chat.num_tokens()));
    }
}

fn turns(text: &str) -> Vec<&str> {
    text.split("<|im_start|>").collect()
}

/// What a turn says, but for its layout.
fn read(turn: &str) -> (String, Vec<Piece>) {
    let (role, text) = turn.split_once('\n').unwrap_or((turn, ""));
    let text = text.trim_end().trim_end_matches("<|im_end|>");
    if role != "assistant" {
        return (role.to_owned(), vec![Piece::Text(text.trim().to_owned())]);
    }
    let schemas = [("drive".to_owned(), drive()["function"]["parameters"].clone())].into_iter().collect();
    let mut parser =
        StreamParser::new(ToolFormat::Hermes, ParserOptions { schemas: Arc::new(schemas), ..Default::default() });
    let mut pieces = parser.push(text.trim());
    pieces.extend(parser.finish());
    let trimmed = pieces.into_iter().map(|piece| match piece {
        Piece::Text(text) => Piece::Text(text.trim().to_owned()),
        Piece::Reasoning(text) => Piece::Reasoning(text.trim().to_owned()),
        call => call,
    });
    (role.to_owned(), trimmed.filter(|piece| *piece != Piece::Text(String::new())).collect())
}

#[test]
fn what_is_fed_says_what_the_template_writes() {
    for seed in 0..24 {
        let template = match seed % 2 {
            0 => Template::jinja("thinking", THINKING).unwrap(),
            _ => Template::builtin("chat-ml-tools").unwrap(),
        };
        let mut walk = Walk::new(seed, template);
        (0..60).for_each(|_| walk.step());
    }
}
