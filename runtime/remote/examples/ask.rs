//! Talks to a server as the engine does, and says in a table what came of it: `ask URL [MODEL]`. What a small model
//! says does not matter; that it is streamed, counted, stopped and refused does.

use nano_remote::{RemoteEngine, RemoteOptions};
use nano_runtime::{
    BotFunction, Constraint, Content, Engine, Error, Event, Finish, GenerateOptions, Map, Message, Output, Request,
    ToolChoice, Value,
};
use std::process::ExitCode;
use std::time::Instant;

/// What a question came to: a row of the table, or why it went wrong.
type Row = Result<String, String>;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(url) = arguments.next() else {
        eprintln!("usage: ask URL [MODEL]");
        return ExitCode::from(2);
    };
    let options = RemoteOptions { model: arguments.next(), ..RemoteOptions::new(url) };
    let engine = match RemoteEngine::open(options.clone()) {
        Ok(engine) => engine,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    println!("| what | came of it |\n| --- | --- |");
    println!("| server | {}, model {}, context {} |", engine.url(), engine.name(), engine.max_context_size());
    let rows: [(&str, Row); 8] = [
        ("streaming", streaming(&engine)),
        ("counts", counts(&engine)),
        ("stop string", stop_string(&engine)),
        ("stopped by hand", stopped(&engine)),
        ("a forced call", call(&engine)),
        ("JSON by a schema", schema(&engine)),
        ("too long a prompt", too_long(&engine)),
        ("an unknown model", unknown_model(options)),
    ];
    for (name, row) in &rows {
        match row {
            Ok(what) => println!("| {name} | {what} |"),
            Err(why) => println!("| {name} | FAILED: {why} |"),
        }
    }
    if rows.iter().all(|(_, row)| row.is_ok()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn request(text: &str, options: GenerateOptions) -> Request {
    let messages = vec![Message::system("You are a helpful assistant."), Message::user(text)];
    Request { messages, options, ..Request::default() }
}

fn fails(error: Error) -> String {
    error.to_string()
}

fn expect(fits: bool, what: String) -> Row {
    if fits { Ok(what) } else { Err(what) }
}

fn short(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "/");
    if line.chars().count() > 60 { line.chars().take(60).collect::<String>() + " …" } else { line }
}

fn streaming(engine: &RemoteEngine) -> Row {
    let options = GenerateOptions { max_new_tokens: 24, ..GenerateOptions::default() };
    let began = Instant::now();
    let (mut pieces, mut first, mut end) = (0, 0.0, None);
    for event in engine.stream(&request("What is the capital of France?", options)).map_err(fails)? {
        match event.map_err(fails)? {
            Event::Text(_) | Event::Reasoning(_) => {
                pieces += 1;
                if pieces == 1 {
                    first = began.elapsed().as_secs_f64();
                }
            }
            Event::Done(output) => end = Some(output),
            _ => {}
        }
    }
    let output = end.ok_or("no end")?;
    let took = began.elapsed().as_secs_f64();
    let what =
        format!("\"{}\" in {pieces} pieces, the first after {first:.2} s, all in {took:.2} s", short(&output.text));
    expect(pieces > 1, what)
}

fn counts(engine: &RemoteEngine) -> Row {
    let options = || GenerateOptions { max_new_tokens: 12, ..GenerateOptions::default() };
    let mut request = request("Count from one to ten.", options());
    let guess = engine.prompt_len(&request.messages, &[]).map_err(fails)?;
    let Output { stats, message, .. } = engine.predict(&request).map_err(fails)?;
    let prompt = stats.input_tokens + stats.reused_tokens;
    request.messages.extend([message, Message::user("Go on.")]);
    let next = engine.prompt_len(&request.messages, &[]).map_err(fails)?;
    let again = engine.predict(&request).map_err(fails)?.stats;
    let long = again.input_tokens + again.reused_tokens;
    let what = format!(
        "{prompt} tokens of prompt (asked before: {guess}) and {} of answer; then {long} ({next}), {} of them reused",
        stats.output_tokens, again.reused_tokens
    );
    expect(prompt > 0 && stats.output_tokens > 0 && stats.output_tokens <= 12 && long > prompt, what)
}

fn stop_string(engine: &RemoteEngine) -> Row {
    let options = GenerateOptions { stop: vec![" of".into()], ..GenerateOptions::default() };
    let output = engine.predict(&request("Say: the capital of France is Paris.", options)).map_err(fails)?;
    expect(!output.text.contains(" of"), format!("\"{}\", {}", short(&output.text), output.finish.as_str()))
}

fn stopped(engine: &RemoteEngine) -> Row {
    let options = GenerateOptions { max_new_tokens: 400, ..GenerateOptions::default() };
    let mut answer = engine.stream(&request("Tell a long story about a dog.", options)).map_err(fails)?;
    answer.next().ok_or("no event")?.map_err(fails)?;
    let began = Instant::now();
    answer.stopper().stop();
    let mut end = None;
    for event in answer {
        if let Event::Done(output) = event.map_err(fails)? {
            end = Some(output.finish);
        }
    }
    expect(end == Some(Finish::Cancelled), format!("ended {} ms later", began.elapsed().as_millis()))
}

fn call(engine: &RemoteEngine) -> Row {
    let weather =
        BotFunction::closure("weather", "Tells the weather.", ["city"], |city: String| format!("sun in {city}"));
    let options = GenerateOptions { tool_choice: ToolChoice::Named("weather".into()), ..GenerateOptions::default() };
    let mut request = Request { tools: vec![weather.tool()], ..request("What is the weather in Paris?", options) };
    let output = engine.predict(&request).map_err(fails)?;
    let mut message = output.message;
    let made = message.tool_calls.iter().flatten().next().cloned();
    let written = match &made {
        Some(made) => {
            format!("{}({})", made["function"]["name"], made["function"]["arguments"]).replace(['"', '\\'], "")
        }
        None => format!("not forced: \"{}\"", short(&output.text)),
    };
    // Where there is none, one is made up: the server must read it.
    let made = made.unwrap_or_else(|| {
        let function =
            Map::from_iter([("name".into(), "weather".into()), ("arguments".into(), "{\"city\": \"Paris\"}".into())]);
        let call = [
            ("id".into(), "call00001".into()),
            ("type".into(), "function".into()),
            ("function".into(), function.into()),
        ];
        Value::Object(Map::from_iter(call))
    });
    message = Message { tool_calls: Some(vec![made.clone()]), content: Content::None, ..message };
    // The result goes back, and the answer is in words.
    let result = Message {
        name: Some("weather".into()),
        tool_call_id: made["id"].as_str().map(str::to_owned),
        ..Message::new("tool", "sun in Paris")
    };
    request.messages.extend([message, result]);
    request.options =
        GenerateOptions { tool_choice: ToolChoice::None, max_new_tokens: 24, ..GenerateOptions::default() };
    let output = engine.predict(&request).map_err(fails)?;
    Ok(format!("{}; then \"{}\"", short(&written), short(&output.text)))
}

fn schema(engine: &RemoteEngine) -> Row {
    let text = r#"{"type": "object", "properties": {"capital": {"type": "string", "maxLength": 20}},
        "required": ["capital"], "additionalProperties": false}"#;
    let schema: Value = text.parse().map_err(|why| format!("{why}"))?;
    let constraint = Some(Constraint::JsonSchema(schema));
    let options = GenerateOptions { constraint, max_new_tokens: 64, ..GenerateOptions::default() };
    let output = match engine.predict(&request("What is the capital of France?", options)) {
        Ok(output) => output,
        // Not every server knows schemas; that it says so is enough.
        Err(error) => return Ok(format!("refused: {}", short(&error.to_string()))),
    };
    let value: Result<Value, _> = output.text.parse();
    expect(value.is_ok_and(|value| value["capital"].is_string()), format!("\"{}\"", short(&output.text)))
}

fn too_long(engine: &RemoteEngine) -> Row {
    let text = "word ".repeat(4 * engine.max_context_size());
    match engine.predict(&request(&text, GenerateOptions::default())) {
        Err(error @ Error::ContextFull { .. }) => Ok(error.to_string().split(';').next().unwrap_or("").to_owned()),
        Err(error) => Ok(format!("refused in other words: {error}")),
        Ok(output) => Ok(format!("answered nevertheless: \"{}\"", short(&output.text))),
    }
}

fn unknown_model(options: RemoteOptions) -> Row {
    let options = RemoteOptions { model: Some("no-such-model".into()), ..options };
    let engine = RemoteEngine::open(options).map_err(fails)?;
    let options = GenerateOptions { max_new_tokens: 8, ..GenerateOptions::default() };
    match engine.predict(&request("Hello", options)) {
        Ok(output) => Ok(format!("answered by another: \"{}\"", short(&output.text))),
        Err(error) => Ok(error.to_string()),
    }
}
