//! One function: what a model is told about it, and the safe way to call it. Sets of functions are in `mod`, threads
//! and time-outs in `running`.

use super::argument::{Argument, Returned};
use super::literal::{Literals, written};
use super::schema;
use serde_json::{Map, Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The time that a function has if nothing else is said.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// Arguments and the moment at which nobody waits any more, to the text that is returned.
type Run = dyn Fn(&Map<String, Value>, Instant) -> Result<Option<String>, String> + Send + Sync;

/// A function that a model can call: a name, a description, typed parameters, and a way to call it that never panics.
///
/// `#[bot_function]` makes one of a plain `fn`; [`closure`](BotFunction::closure) of a closure. Clones are cheap and
/// are the same function.
#[derive(Clone)]
pub struct BotFunction(Arc<Function>);

#[derive(Clone)]
struct Function {
    name: String,
    description: String,
    parameters: Vec<Parameter>,
    schema: Value,
    /// Arguments that no parameter has the name of are passed on.
    open: bool,
    returns: &'static str,
    timeout: Option<Duration>,
    run: Arc<Run>,
}

/// A parameter of a [`BotFunction`].
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    pub(super) name: String,
    pub(super) schema: Value,
    pub(super) required: bool,
}

impl Parameter {
    /// A parameter of that type. The description may be empty.
    pub fn of<T: Argument>(name: impl Into<String>, description: &str) -> Self {
        let mut schema = T::schema();
        if !description.is_empty() {
            schema["description"] = description.into();
        }
        Self { name: name.into(), schema, required: T::absent().is_none() }
    }

    fn signature(&self) -> String {
        let kind = schema::annotation(&self.schema);
        match self.schema.get("default") {
            _ if self.required => format!("{}: {kind}", self.name),
            default => format!("{}: {kind} = {}", self.name, default.map_or("None".into(), written)),
        }
    }
}

impl BotFunction {
    /// A function that takes its arguments as they come, checked for names only: see [`Argument::of`]. The attribute
    /// and [`closure`](Self::closure) write this for you.
    pub fn new<K, R: Returned<K>>(
        name: impl Into<String>,
        description: impl Into<String>,
        parameters: impl Into<Vec<Parameter>>,
        call: impl Fn(&Map<String, Value>) -> Result<R, String> + Send + Sync + 'static,
    ) -> Self {
        let parameters = parameters.into();
        let properties: Map<String, Value> =
            parameters.iter().map(|one| (one.name.clone(), one.schema.clone())).collect();
        let required: Vec<&str> = parameters.iter().filter(|one| one.required).map(|one| one.name.as_str()).collect();
        let schema = json!({"type": "object", "properties": properties, "required": required});
        Self(Arc::new(Function {
            name: name.into(),
            description: description.into(),
            schema,
            parameters,
            open: false,
            returns: R::annotation(),
            timeout: None,
            run: Arc::new(move |arguments, _| call(arguments)?.returned()),
        }))
    }

    /// A closure of up to six parameters, whose types it states and whose names are given here:
    ///
    /// ```
    /// use nano_runtime::BotFunction;
    ///
    /// let drive = BotFunction::closure("drive", "Drives ahead.", ["speed", "angle"], |speed: f64, angle: Option<f64>| {
    ///     format!("driving at {speed} m/s, {} degrees", angle.unwrap_or(0.0))
    /// });
    /// assert_eq!(drive.signature(), "drive(speed: float, angle: float = None) -> str");
    /// ```
    pub fn closure<const N: usize, A, K>(
        name: impl Into<String>,
        description: impl Into<String>,
        parameters: [&str; N],
        closure: impl Closure<N, A, K>,
    ) -> Self {
        closure.function(name.into(), description.into(), parameters)
    }

    /// A function whose parameters are a JSON schema, and whose arguments are checked against it.
    pub(super) fn by_schema(
        name: String,
        description: String,
        schema: Value,
        run: impl Fn(&Map<String, Value>, Instant) -> Result<Option<String>, String> + Send + Sync + 'static,
    ) -> Self {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let properties = schema["properties"].as_object().into_iter().flatten();
        let parameters = properties
            .map(|(name, schema)| Parameter {
                name: name.clone(),
                schema: schema.clone(),
                required: required.contains(&name.as_str()),
            })
            .collect();
        let open = !matches!(schema["additionalProperties"], Value::Null | Value::Bool(false));
        let checked = schema.clone();
        let run = move |arguments: &Map<String, Value>, deadline| run(&checked_against(&checked, arguments)?, deadline);
        let run: Arc<Run> = Arc::new(run);
        Self(Arc::new(Function { name, description, parameters, schema, open, returns: "str", timeout: None, run }))
    }

    /// The name that a model calls.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What it does, in the words of its doc comment.
    pub fn description(&self) -> &str {
        &self.0.description
    }

    /// As Python would write it: `drive(speed: float, angle: float = None) -> str`.
    pub fn signature(&self) -> String {
        let parameters: Vec<String> = self.0.parameters.iter().map(Parameter::signature).collect();
        format!("{}({}) -> {}", self.0.name, parameters.join(", "), self.0.returns)
    }

    /// The parameters as a JSON schema of an object.
    pub fn parameters(&self) -> &Value {
        &self.0.schema
    }

    /// As a tool of the OpenAI interface.
    pub fn tool(&self) -> Value {
        let Function { name, description, schema, .. } = &*self.0;
        json!({"type": "function", "function": {"name": name, "description": description, "parameters": schema}})
    }

    /// Its own time-out; `None`: that of the set it is in.
    pub fn timeout(&self) -> Option<Duration> {
        self.0.timeout
    }

    /// The same function under another name.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.0).name = name.into();
        self
    }

    /// The same function with a time-out of its own.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        Arc::make_mut(&mut self.0).timeout = Some(timeout);
        self
    }

    /// Calls it in this thread: checks and converts the arguments, and turns a panic into an error. `None`: the
    /// function returns nothing.
    pub fn call(&self, arguments: &Map<String, Value>) -> Result<Option<String>, String> {
        self.call_until(arguments, after(self.0.timeout.unwrap_or(TIMEOUT)))
    }

    pub(super) fn call_until(&self, arguments: &Map<String, Value>, end: Instant) -> Result<Option<String>, String> {
        self.check(arguments)?;
        match catch_unwind(AssertUnwindSafe(|| (self.0.run)(arguments, end))) {
            Ok(result) => result.map_err(|why| self.says(&why)),
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                Err(self.says(&format!("it panicked: {}", text.as_deref().unwrap_or("without a word"))))
            }
        }
    }

    /// Gives the arguments of a call the names of the parameters.
    pub(super) fn bind(&self, literals: Literals) -> Result<Map<String, Value>, String> {
        let parameters = &self.0.parameters;
        if literals.positional.len() > parameters.len() {
            let given = literals.positional.len();
            return Err(self.says(&format!("it takes {}, not {given}", self.takes())));
        }
        let named = parameters.iter().map(|parameter| parameter.name.clone()).zip(literals.positional);
        let mut arguments = Map::new();
        for (name, value) in named.chain(literals.keywords) {
            if arguments.contains_key(&name) {
                return Err(self.says(&format!("the argument \"{name}\" is given twice")));
            }
            arguments.insert(name, value);
        }
        self.check(&arguments)?;
        Ok(arguments)
    }

    /// Names only: none unknown, none missing.
    pub(super) fn check(&self, arguments: &Map<String, Value>) -> Result<(), String> {
        let parameters = &self.0.parameters;
        let unknown = |name: &&String| parameters.iter().all(|parameter| parameter.name != **name);
        if let Some(name) = arguments.keys().find(unknown).filter(|_| !self.0.open) {
            return Err(self.says(&format!("there is no argument \"{name}\"; it takes {}", self.takes())));
        }
        let missing = |parameter: &&Parameter| parameter.required && !arguments.contains_key(&parameter.name);
        match parameters.iter().find(missing) {
            Some(parameter) => Err(self.says(&format!("the argument \"{}\" is missing", parameter.name))),
            None => Ok(()),
        }
    }

    /// A sentence about this function.
    pub(super) fn says(&self, what: &str) -> String {
        format!("{}: {what}", self.0.name)
    }

    pub(super) fn parameter_list(&self) -> &[Parameter] {
        &self.0.parameters
    }

    fn takes(&self) -> String {
        let names: Vec<&str> = self.0.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        match names.len() {
            0 => "no arguments".to_owned(),
            1 => format!("one argument ({})", names[0]),
            n => format!("{n} arguments ({})", names.join(", ")),
        }
    }
}

/// The moment after a time; a time that no clock can hold is a day.
pub(super) fn after(limit: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(limit).unwrap_or(now + Duration::from_secs(24 * 60 * 60))
}

/// The same function, not one that does the same.
impl PartialEq for BotFunction {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl std::fmt::Debug for BotFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BotFunction").field(&self.signature()).finish()
    }
}

/// The arguments that a schema allows: a None that stands for nothing is left out, what has a default is filled in.
fn checked_against(schema: &Value, arguments: &Map<String, Value>) -> Result<Map<String, Value>, String> {
    let mut arguments = arguments.clone();
    let required = schema["required"].as_array().map_or(&[] as &[Value], Vec::as_slice);
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let needed = required.iter().any(|one| one == name.as_str());
        if !needed && !schema::allows_null(schema) && arguments.get(name).is_some_and(Value::is_null) {
            arguments.remove(name);
        }
        match (arguments.get(name), schema.get("default")) {
            (Some(value), _) => {
                schema::check(schema, value).map_err(|why| format!("the argument \"{name}\" {why}"))?;
            }
            (None, Some(default)) => {
                arguments.insert(name.clone(), default.clone());
            }
            (None, None) => {}
        }
    }
    Ok(arguments)
}

/// Closures that [`BotFunction::closure`] takes: `N` parameters of the types `A`.
#[diagnostic::on_unimplemented(
    message = "this closure cannot become a bot function",
    note = "it needs a type at each of up to six parameters, as many names, and a result that can be shown"
)]
pub trait Closure<const N: usize, A, K>: Send + Sync + 'static {
    /// The function that calls it.
    fn function(self, name: String, description: String, parameters: [&str; N]) -> BotFunction;
}

macro_rules! closures {
    ($($n:literal: $($kind:ident $argument:ident),*;)*) => {$(
        impl<F, R, K, $($kind: Argument),*> Closure<$n, ($($kind,)*), K> for F
        where
            F: Fn($($kind),*) -> R + Send + Sync + 'static,
            R: Returned<K>,
        {
            fn function(self, name: String, description: String, parameters: [&str; $n]) -> BotFunction {
                let [$($argument),*] = parameters.map(str::to_owned);
                let list: Vec<Parameter> = vec![$(Parameter::of::<$kind>(&$argument, "")),*];
                BotFunction::new(name, description, list, move |_arguments| {
                    Ok(self($($kind::of(_arguments, &$argument)?),*))
                })
            }
        }
    )*};
}
closures! {
    0: ;
    1: A a;
    2: A a, B b;
    3: A a, B b, C c;
    4: A a, B b, C c, D d;
    5: A a, B b, C c, D d, E e;
    6: A a, B b, C c, D d, E e, G g;
}

#[cfg(test)]
#[path = "function_tests.rs"]
mod tests;
