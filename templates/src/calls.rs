//! How a template wants an assistant's calls. Published templates differ in it, and say so only by failing or by leaving
//! something out: so a conversation with two calls is tried in one form after the other, once per template, and the first
//! form counts in which all of it is written. Also here: what a template does with tools, found in the same way.

use serde_json::{Map, Value, json};

use crate::message::{Content, Message};
use crate::{Result, Template, Vars};

/// What a template writes of tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Knows {
    /// The tools that there are.
    pub tools: bool,
    /// Calls of them, and what they returned.
    pub results: bool,
}

/// A way to put calls and reasoning before a template. The default is that of the OpenAI API, with arguments as objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Form {
    /// Arguments are JSON text, which the template adds to its own.
    text: bool,
    /// What else a message with calls says.
    words: Words,
    /// Ids are nine letters and digits. Others are replaced, each always by the same.
    short: bool,
    /// A message has one call, and what it returned comes before the next.
    apart: bool,
    /// Reasoning and words are not both accepted beside calls: the words end the reasoning.
    joined: bool,
    /// Another name for `reasoning_content`.
    reasoning: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Words {
    #[default]
    AsGiven,
    /// The empty text where there is nothing: the template looks into it.
    Text,
    /// Nothing: it would be written in the place of the calls.
    Nothing,
}

impl Form {
    /// The form in which `render` writes all of a conversation; the usual one where there is none.
    pub(crate) fn find(plain: Self, render: impl Fn(Form, &[Message]) -> Result<String>) -> Self {
        let has = |bits: usize, bit: usize| bits & bit != 0;
        let count = if plain.reasoning.is_some() { 16 } else { 8 };
        // What is changed least comes first.
        let mut all = (0..count).flat_map(|bits| {
            [Words::AsGiven, Words::Text, Words::Nothing].map(|words| Self {
                text: has(bits, 1),
                short: has(bits, 2),
                apart: has(bits, 4),
                joined: has(bits, 8),
                words,
                ..plain
            })
        });
        let probes = [probe(Content::None), probe("Wait.".into())];
        let fits =
            |form: &Self| probes.iter().all(|messages| render(*form, messages).is_ok_and(|prompt| is_written(&prompt)));
        all.find(fits).unwrap_or(plain)
    }

    /// The usual form, with the name that a template has for reasoning.
    pub(crate) fn of(source: &str) -> Self {
        let reads = |key: &str| {
            ["message.", "message['", "message[\""].iter().any(|before| source.contains(&format!("{before}{key}")))
        };
        let reasoning = if reads("reasoning_content") {
            None
        } else {
            ["thinking", "tool_plan", "reasoning"].into_iter().find(|key| reads(key))
        };
        Self { reasoning, ..Self::default() }
    }

    /// The messages as the template sees them.
    pub(crate) fn messages(self, messages: &[Message]) -> Value {
        let mut list = Vec::with_capacity(messages.len());
        let mut rest = messages;
        while let [message, after @ ..] = rest {
            rest = after;
            match &message.tool_calls {
                Some(calls) if self.apart && calls.len() > 1 => {
                    let results = after.iter().take_while(|message| message.role == "tool").count();
                    self.apart(message, calls, &after[..results], &mut list);
                    rest = &after[results..];
                }
                _ => list.push(self.message(message.clone())),
            }
        }
        Value::Array(list)
    }

    /// One message for each call, followed by what that returned.
    fn apart(self, message: &Message, calls: &[Value], results: &[Message], list: &mut Vec<Value>) {
        let mut results: Vec<&Message> = results.iter().collect();
        for (index, call) in calls.iter().enumerate() {
            let mut one = if index == 0 { message.clone() } else { Message::assistant("") };
            one.tool_calls = Some(vec![call.clone()]);
            list.push(self.message(one));
            let own = |result: &&Message| result.tool_call_id.as_deref().is_some_and(|id| call["id"] == id);
            // Without ids they come in the order of the calls.
            let nameless = || results.first().is_some_and(|result| result.tool_call_id.is_none()).then_some(0);
            if let Some(at) = results.iter().position(own).or_else(nameless) {
                list.push(self.message(results.remove(at).clone()));
            }
        }
        list.extend(results.into_iter().map(|result| self.message(result.clone())));
    }

    fn message(self, mut message: Message) -> Value {
        let calls = message.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty());
        if calls {
            let words = message.content.text();
            if self.joined
                && let Some(thought) = message.reasoning_content.as_mut().filter(|_| !words.is_empty())
            {
                *thought = format!("{thought}\n\n{words}");
                message.content = "".into();
            }
            match self.words {
                Words::Text if words.is_empty() => message.content = "".into(),
                Words::Nothing => message.content = Content::None,
                Words::AsGiven | Words::Text => {}
            }
        }
        if self.short {
            message.tool_call_id = message.tool_call_id.as_deref().map(nine);
        }
        let mut fields = Map::from(message);
        if let Some(Value::Array(calls)) = fields.get_mut("tool_calls") {
            for call in calls {
                if self.short
                    && let Some(Value::String(id)) = call.get_mut("id")
                {
                    *id = nine(id);
                }
                self.arguments(call.get_mut("function"));
                self.arguments(Some(call));
            }
        }
        if let Some(key) = self.reasoning.filter(|key| !fields.contains_key(*key))
            && let Some(thought) = fields.shift_remove("reasoning_content")
        {
            fields.insert(key.to_owned(), thought);
        }
        Value::Object(fields)
    }

    /// Arguments are objects even where a client sent them as a string, or the other way round. A string that holds no
    /// object (a model's malformed call) stays what it is.
    fn arguments(self, holder: Option<&mut Value>) {
        let Some(arguments) = holder.and_then(|holder| holder.get_mut("arguments")) else { return };
        if self.text && arguments.is_object() {
            *arguments = crate::jinja::dumps(arguments).into();
        } else if !self.text
            && let Some(object @ Value::Object(_)) = arguments.as_str().and_then(|text| serde_json::from_str(text).ok())
        {
            *arguments = object;
        }
    }
}

/// An id of nine letters and digits: the id itself if it is one.
fn nine(id: &str) -> String {
    if id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    // FNV-1a: the same on every machine and in every version, as prompts of sessions must be.
    let hash =
        id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let digit = |place: u32| b"0123456789abcdefghijklmnopqrstuvwxyz"[(hash / 36_u64.pow(place) % 36) as usize];
    (0..9).map(|place| char::from(digit(place))).collect()
}

/// What a template does with tools, given these variables.
pub(crate) fn knows(template: &Template, vars: &Vars) -> Knows {
    let told = Vars { tools: Some(tools()), ..vars.clone() };
    let user = Message::user("Hi");
    let lists = [vec![user.clone()], vec![Message::system("Be kind."), user]];
    let tools = lists.iter().any(|messages| template.render(messages, &told).is_ok_and(|text| text.contains(TOOL)));
    let vars = if tools { &told } else { vars };
    Knows { tools, results: template.render(&probe("".into()), vars).is_ok_and(|text| is_written(&text)) }
}

const TOOL: &str = "sounding_probe";
/// What is looked for in a prompt, in this order or with each call before its own result.
const CALLS: [&str; 2] = ["zqfirst", "zqsecond"];
const RESULTS: [&str; 2] = ["zqeleven", "zqtwelve"];

/// The tool that [`probe`] calls.
pub(crate) fn tools() -> Value {
    json!([{"type": "function", "function": {
        "name": TOOL,
        "description": "Tells how deep it is",
        "parameters": {"type": "object", "properties": {"place": {"type": "string", "description": "Where"}},
                       "required": ["place"]},
    }}])
}

/// A conversation with two calls in one message, beside these words.
fn probe(words: Content) -> Vec<Message> {
    // As OpenAI makes them.
    let ids = ["call_VcAgHqMlPqNzV0Ab", "call_9sK2dTqLwXyR4mEu"];
    let call = |(id, place): (&str, &str)| {
        let arguments = json!({"place": place}).to_string();
        json!({"id": id, "type": "function", "function": {"name": TOOL, "arguments": arguments}})
    };
    let calls = Message {
        role: "assistant".to_owned(),
        content: words,
        reasoning_content: Some("Hm.".to_owned()),
        tool_calls: Some(ids.into_iter().zip(CALLS).map(call).collect()),
        ..Message::default()
    };
    let result = |(id, text): (&str, &str)| Message {
        name: Some(TOOL.to_owned()),
        tool_call_id: Some(id.to_owned()),
        ..Message::new("tool", text)
    };
    let results = ids.into_iter().zip(RESULTS).map(result);
    let end = [Message::assistant("So deep."), Message::user("Thanks")];
    [Message::user("Hi"), calls].into_iter().chain(results).chain(end).collect()
}

/// Whether all of [`probe`]'s calls and results are in a prompt.
fn is_written(prompt: &str) -> bool {
    let place = |word: &&str| prompt.find(word);
    let (calls, results) = (CALLS.iter().map(place), RESULTS.iter().map(place));
    let ordered = |places: &[Option<usize>; 2]| places[0].is_some() && places[0] < places[1];
    let (calls, results): (Vec<_>, Vec<_>) = (calls.collect(), results.collect());
    let pairs = [[calls[0], calls[1]], [results[0], results[1]], [calls[0], results[0]], [calls[1], results[1]]];
    pairs.iter().all(ordered)
}
