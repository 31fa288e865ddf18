//! A tokenizer whose tokens are bytes and a few words, and texts in them.

use nano_models::GgufVocab;
use nano_runtime::{Template, Tokenizer};

// Tokens 0 to 255 are bytes.
pub const BOS: u32 = 256;
pub const EOS: u32 = 257;
pub const START: u32 = 258;
pub const END: u32 = 259;
pub const CONTROL: [&str; 4] = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"];
/// Only "~~" can come out of the tokenizer; the others are for runners to say.
pub const WORDS: [&str; 21] = [
    "Hello",
    " world",
    "##",
    "#x",
    "a#",
    "###b",
    "no!##",
    " good",
    "bye",
    "\n\n",
    "one###",
    " Ünder",
    "~~",
    "time()",
    "time() ok",
    "time()step()",
    "time()###",
    "###time()",
    ") and add(",
    " step()",
    "add(1, 2)",
];
/// A parenthesis and the first byte of a character of two.
pub const CUT: u32 = 260 + WORDS.len() as u32;

/// The token of one of [`WORDS`].
pub fn word(text: &str) -> u32 {
    260 + WORDS.iter().position(|w| *w == text).expect("a word of the test vocabulary") as u32
}

pub fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

/// Tokens of a text in which control tokens and words in ⟨⟩ stand for themselves.
pub fn tokens(text: &str) -> Vec<u32> {
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some((inner, after)) = rest.strip_prefix('⟨').and_then(|r| r.split_once('⟩')) {
            out.push(word(inner));
            rest = after;
        } else if let Some(i) = CONTROL.iter().position(|c| rest.starts_with(c)) {
            out.push(256 + i as u32);
            rest = &rest[CONTROL[i].len()..];
        } else {
            out.push(u32::from(rest.as_bytes()[0]));
            let n = rest.chars().next().map_or(1, char::len_utf8);
            out.extend(rest.as_bytes()[1..n].iter().map(|&b| u32::from(b)));
            rest = &rest[n..];
        }
    }
    out
}

/// How a vocabulary of a byte-level tokenizer spells the bytes.
pub fn byte_spellings() -> Vec<char> {
    let visible = |b: u8| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let mut hidden = 0;
    (0..=255u8)
        .map(|b| {
            if visible(b) {
                return char::from(b);
            }
            hidden += 1;
            char::from_u32(255 + hidden).unwrap()
        })
        .collect()
}

/// The vocabulary above. `add_bos`: the model wants a beginning-of-sequence token.
pub fn tokenizer(add_bos: bool) -> Tokenizer {
    let byte = byte_spellings();
    let spell = |text: &[u8]| text.iter().map(|&b| byte[b as usize]).collect::<String>();
    let mut vocab: Vec<String> = byte.iter().map(char::to_string).collect();
    vocab.extend(CONTROL.map(str::to_owned));
    vocab.extend(WORDS.map(|word| spell(word.as_bytes())));
    vocab.push(spell(b")\xC3"));
    let types = (0..vocab.len()).map(|i| if (256..260).contains(&i) { 3 } else { 1 }).collect();
    Tokenizer::from_gguf(GgufVocab {
        model: "gpt2".into(),
        pre: Some("gpt-2".into()),
        tokens: vocab,
        types,
        merges: vec!["~ ~".into()],
        bos: Some(BOS),
        eos: Some(EOS),
        stop: vec![EOS, END],
        add_bos: Some(add_bos),
        ..GgufVocab::default()
    })
    .unwrap()
}

pub const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                          {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

pub fn template(source: &str) -> Option<Template> {
    Some(Template::jinja("test", source).unwrap())
}
