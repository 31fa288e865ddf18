//! Answers from documents that a server on the network finds: a function that searches over HTTP. The server is a stand-in
//! that this program starts itself. `cargo run --release --example 9_retrieval -- MODEL [QUESTION]`

use nano_runtime::{
    BotFunction, BotFunctions, Chat, ChatOptions, GenerateOptions, ModelOptions, NanoModel, ToolChoice,
};
use std::io::{BufRead, BufReader, Error, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

const DOCUMENTS: [&str; 3] = [
    "The charging station is behind the kitchen door, at the height of the robot's contacts.",
    "The lawn is mown on Tuesdays and Fridays, never in the rain.",
    "The kitchen floor is wet between noon and one o'clock.",
];

/// What is found for a query: the documents that have most of its words first.
fn find(query: &str) -> String {
    let words: Vec<String> = query.split_whitespace().map(str::to_lowercase).collect();
    let hits = |text: &str| words.iter().filter(|word| text.to_lowercase().contains(word.as_str())).count();
    let mut found: Vec<&str> = DOCUMENTS.into_iter().filter(|text| hits(text) > 0).collect();
    found.sort_by_key(|text| std::cmp::Reverse(hits(text)));
    if found.is_empty() { "nothing was found".into() } else { found.join("\n") }
}

/// Serves `GET /search?q=WORDS` for as long as the program runs.
fn serve() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is no reason to stop.
            let _ = answer(stream);
        }
    });
    Ok(address)
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut head = BufReader::new(&stream).lines();
    let first = head.next().unwrap_or_else(|| Ok(String::new()))?;
    while head.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let query = first.strip_prefix("GET /search?q=").and_then(|rest| rest.split_whitespace().next());
    let (status, body) = match query {
        Some(query) => ("200 OK", find(&query.replace('+', " "))),
        None => ("404 Not Found", "there is only /search?q=WORDS".into()),
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// Asks the server. A server that is slow or gone is an error that the model is told.
fn search(server: SocketAddr, query: &str) -> std::io::Result<String> {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '+' };
    let query: String = query.chars().map(letter).collect();
    let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(stream, "GET /search?q={query} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n")?;
    let mut response = String::new();
    // What is longer is not for a model.
    stream.take(64 * 1024).read_to_string(&mut response)?;
    match response.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(Error::other(format!("the server said {:?}", response.lines().next().unwrap_or_default()))),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("name a GGUF file or a Hugging Face folder")?;
    let question = args.next().unwrap_or_else(|| "Where is the charging station?".into());
    let server = serve()?;
    let search = BotFunction::closure("search", "Searches the house's manual.", ["query"], move |query: String| {
        search(server, &query).map_err(|error| format!("the search failed: {error}"))
    });

    let model = NanoModel::open(Path::new(&path), ModelOptions::default(), |_| ())?;
    let system_prompt = Some("Answer from the house's manual, which you can search.".to_owned());
    let history = model.chat(ChatOptions { system_prompt, ..ChatOptions::default() })?;
    // The first answer of each round is a search, whatever the model would rather say; those after it are as it likes.
    let options = GenerateOptions { tool_choice: ToolChoice::Named("search".into()), ..GenerateOptions::default() };
    let mut chat = Chat::of(history)
        .with_options(options)
        .with_functions(BotFunctions::new([search.with_timeout(Duration::from_secs(6))])?);
    println!("{}", chat.ask(question)?);
    for message in chat.messages().iter().filter(|message| message.role == "tool") {
        println!("(found: {})", message.content.text());
    }
    Ok(())
}
