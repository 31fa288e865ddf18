//! What a server says of its models: which there are, which is meant, and how much context it has.

use crate::failure::{Failure, Site};
use crate::server::{Server, Without};
use crate::{RemoteOptions, address};
use nano_runtime::{Result, Value};

/// The context of a model of which nothing is known.
const USUAL_CONTEXT: usize = 4096;

/// What was found where the interface is.
pub(crate) struct Found {
    pub(crate) base: String,
    pub(crate) model: String,
    pub(crate) models: Vec<String>,
    pub(crate) context: usize,
    /// Nobody said how much context there is.
    pub(crate) context_is_guessed: bool,
    /// The server is llama.cpp's, which has names of its own for some options.
    pub(crate) llama: bool,
}

/// Looks for the interface at the address and below it, and for the model.
pub(crate) fn find(server: &Server, options: &RemoteOptions, base: &str) -> Result<Found> {
    let site = Site::of(base, server);
    let mut first = None;
    for base in address::candidates(base) {
        let never = || false;
        let asked = server.retrying(&never, || {
            let answer = server.ask(&format!("{base}/models"), None);
            let listed = answer.and_then(|answer| list(&answer).ok_or_else(|| Failure::Garbage(answer.to_string())));
            listed.map_err(|failure| {
                // Someone waits before a terminal: that nothing is there is said at once.
                let again = !matches!(failure, Failure::Broken(_));
                (Without::Failed(failure), again)
            })
        });
        match asked {
            Ok(list) => return chosen(server, options, base, &list),
            Err(Without::Failed(failure)) => match failure {
                Failure::Status { status: 404 | 405, .. } | Failure::Page | Failure::Garbage(_) => {
                    first.get_or_insert(failure);
                }
                failure => return Err(failure.error(&site)),
            },
            Err(Without::Over) => {}
        }
    }
    // Some have no list: whoever names the model knows what is there.
    match (&options.model, first) {
        (Some(model), Some(Failure::Status { .. })) => {
            let base = if address::has_path(base) { base.to_owned() } else { format!("{base}/v1") };
            Ok(Found {
                base,
                model: model.clone(),
                models: Vec::new(),
                context: options.context.unwrap_or(USUAL_CONTEXT),
                context_is_guessed: options.context.is_none(),
                llama: false,
            })
        }
        (_, Some(failure)) => Err(failure.error(&Site { tried: !base.ends_with("/v1"), ..site })),
        (_, None) => Err(Failure::Early.error(&site)),
    }
}

fn list(answer: &Value) -> Option<Vec<Value>> {
    let list = answer.get("data").or_else(|| answer.get("models")).unwrap_or(answer);
    list.as_array().cloned()
}

fn name(entry: &Value) -> Option<String> {
    let names = [entry.get("id"), entry.get("name"), entry.get("model"), Some(entry)];
    names.into_iter().flatten().find_map(Value::as_str).map(str::to_owned)
}

fn chosen(server: &Server, options: &RemoteOptions, base: String, list: &[Value]) -> Result<Found> {
    let models: Vec<String> = list.iter().filter_map(name).collect();
    let problem = match (&options.model, &models[..]) {
        (Some(_), _) | (None, [_]) => None,
        (None, []) => Some("the server has no model".to_owned()),
        (None, _) => Some("the server has several models; name one with --model".to_owned()),
    };
    if let Some(problem) = problem {
        let site = Site { models: &models, ..Site::of(&base, server) };
        return Err(site.error(problem + &site.list()));
    }
    let model = options.model.clone().or_else(|| models.first().cloned()).unwrap_or_default();
    let entry = list.iter().find(|entry| name(entry).as_deref() == Some(&model));
    let meta = entry.and_then(|entry| entry.get("meta"));
    let trained = meta.and_then(|meta| size(meta, &["n_ctx_train"]));
    let llama = trained.is_some() || entry.is_some_and(|entry| entry["owned_by"] == "llamacpp");
    let told = entry
        .and_then(|entry| size(entry, &["max_model_len", "context_length", "context_window", "max_context_length"]));
    let told = options.context.or(told).or_else(|| props(server, &base)).or(trained);
    let (context, context_is_guessed) = (told.unwrap_or(USUAL_CONTEXT), told.is_none());
    Ok(Found { base, model, models, context, context_is_guessed, llama })
}

fn size(value: &Value, names: &[&str]) -> Option<usize> {
    let number = |name: &&str| value.get(*name).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    names.iter().find_map(number).filter(|n| *n > 0)
}

/// llama-server's own page, which tells what a conversation gets, as against what the model was trained with.
fn props(server: &Server, base: &str) -> Option<usize> {
    let props = server.ask(&format!("{}/props", address::root(base)), None).ok()?;
    size(props.get("default_generation_settings")?, &["n_ctx"])
}
