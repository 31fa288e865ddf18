//! A loaded model: the door to everything that runs on it. Loading is in `open`, conversations are in `chat`.

use crate::cache::PagePool;
use crate::constrain::{Masks, Vocabulary};
use crate::generate::{Note, Stopper};
use crate::inline::Inline;
use crate::sequence::{Goal, Sequence};
use crate::stream::{Bell, stream};
use crate::transcript::{Stops, Told, Transcript};
use crate::worker::Worker;
use crate::{
    ChatHistory, ChatOptions, Constraint, Error, GenerateOptions, Generation, KvCache, Limits, ModelInfo, Result,
    Runner,
};
use nano_kernels::PAGE_ROWS;
use nano_models::{Control, Tokenizer};
use nano_templates::Template;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// Text events that a stream holds before its sequence pauses.
const TEXT_EVENTS: usize = 64;
/// Steps of logits that a stream holds; each may take some megabytes.
const LOGITS_EVENTS: usize = 1;

/// A model, its tokenizer and its chat template, with an engine thread that runs all generations on it.
///
/// Clones share the model; the engine ends when the last clone, conversation and generation is gone.
#[derive(Clone)]
pub struct NanoModel(pub(crate) Arc<Shared>);

/// What all users of a model share.
pub(crate) struct Shared {
    worker: Worker,
    bell: Arc<Bell>,
    pool: Arc<PagePool>,
    limits: Limits,
    tokenizer: Tokenizer,
    /// The tokens as constraints see them; made for the first reply that has one.
    vocabulary: OnceLock<std::result::Result<Arc<Vocabulary>, String>>,
    template: Option<Template>,
    info: ModelInfo,
}

impl NanoModel {
    /// A model on any runner; how tests run one without weights.
    ///
    /// # Panics
    /// If a limit of the runner is 0.
    pub fn with_runner(runner: Box<dyn Runner>, tokenizer: Tokenizer, template: Option<Template>) -> Result<Self> {
        let limits = runner.limits();
        let info = ModelInfo {
            name: "model".into(),
            context: limits.context,
            template: template.as_ref().map(|t| t.name().to_owned()),
            stop_tokens: tokenizer.stop().to_vec(),
            ..ModelInfo::default()
        };
        Self::assemble(runner, tokenizer, template, info)
    }

    pub(crate) fn assemble(
        runner: Box<dyn Runner>,
        tokenizer: Tokenizer,
        template: Option<Template>,
        info: ModelInfo,
    ) -> Result<Self> {
        let limits = runner.limits();
        let Limits { rows, logits_rows, sequences, vocab, pages, context } = limits;
        assert!([rows, logits_rows, sequences, vocab, pages, context].iter().all(|&l| l > 0), "{limits:?}");
        let bell = Arc::new(Bell::default());
        let pool = Arc::new(PagePool::new(pages, Arc::clone(&bell)));
        let worker = Worker::spawn(runner, Arc::clone(&bell))?;
        let vocabulary = OnceLock::new();
        Ok(Self(Arc::new(Shared { worker, bell, pool, limits, tokenizer, vocabulary, template, info })))
    }

    /// What was loaded, and how.
    pub fn info(&self) -> &ModelInfo {
        &self.0.info
    }

    /// The sizes that the engine works within.
    pub fn limits(&self) -> Limits {
        self.0.limits
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }

    /// The model's chat template.
    pub fn template(&self) -> Option<&Template> {
        self.0.template.as_ref()
    }

    /// An empty cache. It takes no pages until something is fed.
    pub fn cache(&self) -> KvCache {
        self.0.cache()
    }

    /// Appends the tokens of `prompt` to a cache and generates from there.
    ///
    /// An empty prompt generates from the cache's last token, whose row is computed again for its logits. What cannot
    /// be done is the generation's first event, and the cache comes back with
    /// [`into_cache`](Generation::into_cache).
    pub fn generate(&self, prompt: Vec<u32>, cache: KvCache, options: &GenerateOptions) -> Generation {
        self.0.generate(prompt, cache, options, &Told::default(), Instant::now())
    }

    /// Continues a text, without a template. The tokenizer's beginning-of-sequence token comes first if the model
    /// wants one; spellings of control tokens are text.
    pub fn complete(&self, text: &str, options: &GenerateOptions) -> Result<Generation> {
        let asked = Instant::now();
        let tokenizer = &self.0.tokenizer;
        let mut prompt: Vec<u32> = tokenizer.bos().filter(|_| tokenizer.add_bos()).into_iter().collect();
        prompt.extend(tokenizer.encode(text, Control::Text)?);
        Ok(self.0.generate(prompt, self.cache(), options, &Told::default(), asked))
    }

    /// Says whether a constraint can be enforced with this model's tokens, without a reply.
    pub fn check_constraint(&self, constraint: &Constraint) -> Result<()> {
        constraint.check()?;
        self.0.masks(constraint).map(drop)
    }

    /// Feeds `tokens` to an empty cache and calls `each` with the index and the logits after every token in `rows`, in
    /// order.
    pub fn score(&self, tokens: &[u32], rows: Range<usize>, mut each: impl FnMut(usize, &[f32])) -> Result<()> {
        let vocab = self.0.limits.vocab;
        let mut run = self.0.score(&tokens[..rows.end.min(tokens.len())], rows.start, self.cache());
        while let Some(logits) = run.next_logits() {
            let (first, values) = logits?;
            for (row, logits) in values.chunks_exact(vocab).enumerate() {
                each(first + row, logits);
            }
        }
        Ok(())
    }

    /// Starts a conversation.
    pub fn chat(&self, options: ChatOptions) -> Result<ChatHistory> {
        ChatHistory::new(self.clone(), options)
    }
}

impl std::fmt::Debug for NanoModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NanoModel").field("name", &self.info().name).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn cache(&self) -> KvCache {
        KvCache::new(Arc::clone(&self.pool))
    }

    pub(crate) fn generate(
        self: &Arc<Self>,
        mut prompt: Vec<u32>,
        mut cache: KvCache,
        options: &GenerateOptions,
        told: &Told,
        asked: Instant,
    ) -> Generation {
        let (notes, reader) = stream(TEXT_EVENTS, Arc::clone(&self.bell));
        let stopper = Stopper::new(Arc::clone(&self.bell));
        let generation = Generation::new(reader, stopper.clone(), Arc::clone(self));
        match self.prepare(&prompt, &cache, options) {
            Err(error) => notes.push(Note::Failed(error, cache)),
            Ok((mut stops, masks)) => {
                stops.tokens.extend_from_slice(&told.stop_tokens);
                if prompt.is_empty() {
                    prompt.extend(cache.tokens().last());
                    cache.truncate(cache.len() - 1);
                }
                let recent: Vec<u32> = cache.tokens().iter().chain(&prompt).copied().collect();
                let transcript = Transcript::new(&self.tokenizer, options, stops, masks, &recent, told);
                let goal = Goal::Write(Box::new(transcript));
                let tokenizer = self.tokenizer.clone();
                let functions = Some(&options.functions).filter(|functions| !functions.is_empty());
                let inline = functions.map(|f| Inline::new(f, &options.reply_prefix, Arc::clone(&self.bell)));
                let sequence = Sequence::new(cache, prompt, goal, notes, stopper, tokenizer, asked);
                self.worker.start(sequence.with_inline(inline));
            }
        }
        generation
    }

    /// Checks a request, sorts its stops into tokens and strings, and compiles its constraint.
    fn prepare(&self, prompt: &[u32], cache: &KvCache, options: &GenerateOptions) -> Result<(Stops, Option<Masks>)> {
        options.check()?;
        if !cache.is_of(&self.pool) {
            return Err(Error::ForeignCache);
        }
        if prompt.is_empty() && cache.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        self.check_tokens(prompt, cache.len())?;
        let mut tokens = if options.ignore_eos { Vec::new() } else { self.tokenizer.stop().to_vec() };
        let mut strings = Vec::new();
        for stop in &options.stop {
            match self.tokenizer.encode_next(stop)?[..] {
                [token] if self.tokenizer.is_control(token) => tokens.push(token),
                _ => strings.push(stop.clone()),
            }
        }
        let masks = options.constraint.as_ref().map(|constraint| self.masks(constraint)).transpose()?;
        Ok((Stops { tokens, strings }, masks))
    }

    /// Compiles a constraint that was checked.
    fn masks(&self, constraint: &Constraint) -> Result<Masks> {
        let vocabulary = || Vocabulary::new(&self.tokenizer, self.limits.vocab).map(Arc::new);
        Masks::new(constraint, self.vocabulary.get_or_init(vocabulary))
    }

    fn check_tokens(&self, tokens: &[u32], held: usize) -> Result<()> {
        let Limits { vocab, context: available, .. } = self.limits;
        if let Some(&token) = tokens.iter().find(|&&t| t as usize >= vocab) {
            return Err(Error::Token { token, vocab });
        }
        let needed = held + tokens.len();
        if needed > available { Err(Error::ContextFull { needed, available }) } else { Ok(()) }
    }

    /// Feeds tokens to a cache and gives the logits after each from number `from` on, with [`Generation::next_logits`].
    fn score(self: &Arc<Self>, tokens: &[u32], from: usize, cache: KvCache) -> Generation {
        let (notes, reader) = stream(LOGITS_EVENTS, Arc::clone(&self.bell));
        let stopper = Stopper::new(Arc::clone(&self.bell));
        let generation = Generation::new(reader, stopper.clone(), Arc::clone(self));
        let checked = if tokens.is_empty() { Err(Error::EmptyPrompt) } else { self.check_tokens(tokens, cache.len()) };
        match checked {
            Err(error) => notes.push(Note::Failed(error, cache)),
            Ok(()) => {
                let (goal, tokenizer) = (Goal::Score { from }, self.tokenizer.clone());
                let sequence = Sequence::new(cache, tokens.to_vec(), goal, notes, stopper, tokenizer, Instant::now());
                self.worker.start(sequence);
            }
        }
        generation
    }

    /// The logits after the last of some tokens, which are fed to a cache; if there are none, after the cache's last.
    pub(crate) fn logits(self: &Arc<Self>, tokens: &[u32], mut cache: KvCache) -> (KvCache, Result<Vec<f32>>) {
        let last;
        let tokens = match (tokens, cache.tokens().last()) {
            ([], Some(&token)) => {
                last = [token];
                cache.truncate(cache.len() - 1);
                &last[..]
            }
            (tokens, _) => tokens,
        };
        let mut run = self.score(tokens, tokens.len().saturating_sub(1), cache);
        let mut logits = Err(Error::Stopped);
        while let Some(next) = run.next_logits() {
            logits = next.map(|(_, values)| values);
        }
        (run.take_cache(), logits)
    }

    /// Bytes of a page when it is saved.
    pub(crate) fn page_bytes(&self) -> Result<usize> {
        self.worker.call(|runner| Ok(runner.page_bytes()))
    }

    /// Page number `index` of a cache as it is saved.
    pub(crate) fn read_page(&self, cache: &KvCache, index: usize, into: &mut Vec<u8>) -> Result<()> {
        let (page, rows) = (cache.pages()[index], PAGE_ROWS.min(cache.len() - index * PAGE_ROWS));
        let mut bytes = std::mem::take(into);
        *into = self.worker.call(move |runner| {
            bytes.resize(runner.page_bytes(), 0);
            runner.read_page(page, rows, &mut bytes)?;
            Ok(bytes)
        })?;
        Ok(())
    }

    /// Adds the rows of `tokens`, one page at most, to a cache of full pages, as they were saved.
    pub(crate) fn restore_page(&self, mut cache: KvCache, tokens: Vec<u32>, page: Vec<u8>) -> (KvCache, Result<()>) {
        let restored = self.worker.call(move |runner| {
            let done = cache.reserve(tokens.len()).and_then(|_| {
                runner.write_page(cache.pages()[cache.len() / PAGE_ROWS], &page)?;
                cache.wrote(&tokens);
                Ok(())
            });
            Ok((cache, done))
        });
        restored.unwrap_or_else(|error| (self.cache(), Err(error)))
    }

    /// Removes rows of a cache, and moves those after them up.
    pub(crate) fn remove_rows(&self, mut cache: KvCache, rows: Range<usize>) -> (KvCache, Result<()>) {
        if cache.len() <= rows.end {
            cache.truncate(rows.start);
            return (cache, Ok(()));
        }
        let moved = self.worker.call(move |runner| {
            let done = cache.remove(rows, runner);
            Ok((cache, done))
        });
        moved.unwrap_or_else(|error| (self.cache(), Err(error)))
    }
}
