//! Parrot: a real checkpoint whose greedy reply is known. Its one layer adds nothing (attention and MLP weights are
//! zero), its embeddings are one-hot, and its head maps each token to the one that follows it in the script.

use super::parrot_vocab::Vocab;
use super::tiny::{Named, Tiny, gguf_tensors};
use super::{Folder, GgufWriter, TempDir, TestTensor};
use std::collections::HashMap;
use std::path::PathBuf;

/// ChatML, as most small models have it.
pub(super) const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + \
    message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}\
    {{ '<|im_start|>assistant\\n' }}{% endif %}";

/// A llama checkpoint that says what it is told, token by token.
///
/// ```no_run
/// use nano_models::testing::Parrot;
/// let parrot = Parrot::new(&[&["Hello", " there", "!"], &["Bye", "."]]);
/// let (_folder, path) = parrot.temp_gguf();   // or .gguf(), .folder(), .temp_folder()
/// ```
///
/// The first reply of a conversation is `Hello there!`, the second `Bye.`, then the first again; each ends with
/// `<|im_end|>`. The template in the checkpoint is ChatML with one control token more, `<|replyN|>`, after
/// `<|im_start|>assistant\n`: it tells the replies apart. Under another ChatML template the first reply follows the
/// newline.
///
/// A token says only what follows it, so a token may stand in the script once (or always before the same one): write
/// `["a", " b", " a"]`, not `["a", "b", "a"]`. Tokens may be any bytes ([`Parrot::from_bytes`]), halves of characters
/// too. Whatever is not in the script is followed by `<|im_end|>`.
#[derive(Clone, Debug)]
pub struct Parrot {
    replies: Vec<Vec<Vec<u8>>>,
    extra: Vec<Vec<u8>>,
    endless: bool,
    context: usize,
}

impl Parrot {
    /// Replies as lists of token texts.
    pub fn new(replies: &[&[&str]]) -> Self {
        Self::from_bytes(replies.iter().map(|reply| reply.iter().map(|t| t.as_bytes().to_vec()).collect()).collect())
    }

    /// Replies as lists of token bytes.
    pub fn from_bytes(replies: Vec<Vec<Vec<u8>>>) -> Self {
        assert!(replies.iter().all(|r| !r.is_empty()) && !replies.is_empty(), "a reply has no tokens");
        Parrot { replies, extra: Vec::new(), endless: false, context: 2048 }
    }

    /// Replies do not end: each begins again after its last token.
    pub fn endless(mut self) -> Self {
        self.endless = true;
        self
    }

    /// The context length that the checkpoint states; 2048 unless changed.
    pub fn context(mut self, rows: usize) -> Self {
        self.context = rows;
        self
    }

    /// More words that are to be single tokens, such as those of prompts.
    pub fn words(mut self, words: &[&str]) -> Self {
        self.extra.extend(words.iter().map(|w| w.as_bytes().to_vec()));
        self
    }

    /// The text of a reply.
    pub fn text(&self, reply: usize) -> String {
        String::from_utf8_lossy(&self.replies[reply % self.replies.len()].concat()).into_owned()
    }

    /// The token ids of a reply, without the one that ends it.
    pub fn ids(&self, reply: usize) -> Vec<u32> {
        let vocab = self.vocab();
        self.replies[reply % self.replies.len()].iter().map(|t| id(&vocab, t)).collect()
    }

    /// The id of a token, if the vocabulary has it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.vocab().id(token.as_bytes())
    }

    /// The chat template.
    pub fn template(&self) -> String {
        // Counts the assistant's turns: the n-th begins with the control token of the n-th reply.
        let opening = format!("('<|im_start|>assistant\\n<|reply' ~ (turn.n % {}) ~ '|>')", self.replies.len());
        format!(
            "{{% set turn = namespace(n=0) %}}{{% for message in messages %}}{{% if message['role'] == 'assistant' %}}\
             {{{{ {opening} + message['content'] + '<|im_end|>' + '\\n' }}}}{{% set turn.n = turn.n + 1 %}}{{% else %}}\
             {{{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}}}{{% endif %}}\
             {{% endfor %}}{{% if add_generation_prompt %}}{{{{ {opening} }}}}{{% endif %}}"
        )
    }

    /// As a GGUF file.
    pub fn gguf(&self) -> Vec<u8> {
        let vocab = self.vocab();
        let tiny = self.tiny(&vocab);
        let writer = tiny.sizes(GgufWriter::new("llama"), vocab.tokens.len());
        let writer = vocab.gguf(writer, &self.template());
        gguf_tensors(writer, &self.weights(&tiny, &vocab)).bytes()
    }

    /// As a Hugging Face folder.
    pub fn folder(&self) -> Folder {
        let vocab = self.vocab();
        let tiny = self.tiny(&vocab);
        let weights = self.weights(&tiny, &vocab);
        let tensors: Vec<TestTensor> = weights.iter().map(|w| TestTensor::f32(&w.hf, &w.dims, &w.values)).collect();
        let folder = Folder::default().json("config.json", &tiny.config(vocab.tokens.len(), vocab.stop));
        vocab.folder(folder, &self.template()).weights(&tensors, 1)
    }

    /// A GGUF file in a temporary folder, which lives as long as the first value.
    pub fn temp_gguf(&self) -> (TempDir, PathBuf) {
        let dir = TempDir::new("parrot");
        let path = dir.write("parrot.gguf", self.gguf());
        (dir, path)
    }

    /// A Hugging Face folder, which lives as long as the value.
    pub fn temp_folder(&self) -> TempDir {
        self.folder().temp("parrot")
    }

    fn vocab(&self) -> Vocab {
        let marks: Vec<String> = (0..self.replies.len()).map(mark).collect();
        let mut controls = vec!["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
        controls.extend(marks.iter().map(String::as_str));
        let roles = ["user", "assistant", "system"].map(str::as_bytes);
        let script = self.replies.iter().flatten().chain(&self.extra).map(Vec::as_slice);
        Vocab::new(&controls, "<|im_end|>", roles.into_iter().chain(script))
    }

    /// The token that follows each. What is not in it is followed by the end.
    fn followers(&self, vocab: &Vocab) -> HashMap<u32, u32> {
        let mut next = HashMap::new();
        let mut follow = |from: u32, to: u32| {
            let known = *next.entry(from).or_insert(to);
            assert!(
                known == to,
                "the token {:?} is followed by {:?} and by {:?}; a parrot needs each token before one other",
                vocab.tokens[from as usize],
                vocab.tokens[known as usize],
                vocab.tokens[to as usize]
            );
        };
        for (i, reply) in self.replies.iter().enumerate() {
            let ids: Vec<u32> = reply.iter().map(|t| id(vocab, t)).collect();
            follow(id(vocab, mark(i).as_bytes()), ids[0]);
            ids.windows(2).for_each(|pair| follow(pair[0], pair[1]));
            follow(ids[ids.len() - 1], if self.endless { ids[0] } else { vocab.stop });
        }
        next.entry(id(vocab, b"\n")).or_insert(id(vocab, &self.replies[0][0]));
        next
    }

    fn tiny(&self, vocab: &Vocab) -> Tiny {
        // As many dimensions as tokens, in whole blocks of every format.
        let dim = vocab.tokens.len().next_multiple_of(256);
        Tiny {
            layers: 1,
            dim,
            hidden: 256,
            heads: 4,
            kv_heads: 1,
            head_dim: 64,
            context: self.context,
            ..Tiny::default()
        }
    }

    fn weights(&self, tiny: &Tiny, vocab: &Vocab) -> Vec<Named> {
        /// Makes the one logit stand out, so that sampling at any sensible temperature says the same.
        const HEAD: f32 = 4.0;
        let next = self.followers(vocab);
        tiny.named(vocab.tokens.len(), &mut |name, n| {
            let mut values = vec![if name.ends_with("norm.weight") { 1.0 } else { 0.0 }; n];
            for token in 0..vocab.tokens.len() {
                if name == "model.embed_tokens.weight" {
                    values[token * tiny.dim + token] = 1.0;
                } else if name == "lm_head.weight" {
                    let to = next.get(&(token as u32)).copied().unwrap_or(vocab.stop);
                    values[to as usize * tiny.dim + token] = HEAD;
                }
            }
            values
        })
    }
}

fn mark(reply: usize) -> String {
    format!("<|reply{reply}|>")
}

fn id(vocab: &Vocab, token: &[u8]) -> u32 {
    // Every token of the script was added to the vocabulary.
    vocab.id(token).unwrap_or_else(|| panic!("{:?} is no token", String::from_utf8_lossy(token)))
}
