//! Runs the binary, with an environment of its own and a limit on its time.

use nano_models::testing::{Parrot, TempDir};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Nothing here takes a second on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What the parrot of most tests says, in turn.
pub const HELLO: &str = "Hello there!";
pub const BYE: &str = "Bye.";

/// Replies with [`HELLO`] and [`BYE`].
pub fn parrot() -> Parrot {
    Parrot::new(&[&["Hello", " there", "!"], &["Bye", "."]]).words(&["hi"])
}

/// A model's file that lives as long as the value.
pub struct Model {
    pub dir: TempDir,
    pub path: PathBuf,
}

impl Model {
    pub fn new(parrot: &Parrot) -> Self {
        let (dir, path) = parrot.temp_gguf();
        Self { dir, path }
    }

    /// The program with this model: a subcommand may come first in `args`.
    pub fn command(&self, args: &[&str]) -> Command {
        let (first, rest) = match args {
            [first, rest @ ..] if !first.starts_with('-') => (Some(first), rest),
            _ => (None, args),
        };
        let mut command = nano(self.dir.path());
        command.args(first).arg("--model").arg(&self.path).args(rest);
        command
    }

    pub fn run(&self, args: &[&str], stdin: impl AsRef<[u8]>) -> Ran {
        run(self.command(args), stdin)
    }
}

/// The program without arguments, and without anything of the user's environment; `home` is its home folder.
pub fn nano(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nano-chat"));
    command.env_clear().env("HOME", home).env("PATH", "/usr/bin:/bin").env("TERM", "xterm").env("RUST_BACKTRACE", "0");
    command
}

/// A finished run.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap_or_else(|e| panic!("stdout is no text: {e}"))
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Lines of JSON.
    pub fn events(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
    }

    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert!(!self.stderr.contains("error:"), "{self:?}");
        self
    }

    /// One error on stderr that has all the words, and nothing of a panic.
    #[track_caller]
    pub fn failed_with(self, words: &[&str]) -> Self {
        assert!(self.code.is_some_and(|code| (1..=99).contains(&code)), "{self:?}");
        assert_eq!(self.stderr.lines().filter(|l| l.starts_with("error:")).count(), 1, "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in: {}", self.stderr);
        }
        self
    }
}

/// Runs to the end with all of stdin given.
pub fn run(mut command: Command, stdin: impl AsRef<[u8]>) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (mut pipe, input) = (child.stdin.take().unwrap(), stdin.as_ref().to_vec());
    // A program that fails early does not read its stdin: then this write fails, which is fine.
    let writer = std::thread::spawn(move || pipe.write_all(&input));
    let (tell, told) = mpsc::channel();
    let id = child.id();
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    let Ok(output) = told.recv_timeout(PATIENCE) else {
        kill(id, nix::sys::signal::Signal::SIGKILL);
        panic!("{command:?} does not end");
    };
    let _ = writer.join();
    let Output { status, stdout, stderr } = output.unwrap();
    Ran { code: status.code(), stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() }
}

/// Sends a signal to a process.
pub fn kill(id: u32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(id as i32), signal).unwrap();
}

/// A run that is talked to while it goes on. Its stderr is kept in a file, so that it never blocks.
pub struct Running {
    pub child: Child,
    pub stdin: Option<ChildStdin>,
    pub stdout: Option<BufReader<ChildStdout>>,
    stderr: PathBuf,
}

impl Running {
    pub fn start(mut command: Command, folder: &Path) -> Self {
        let stderr = folder.join("stderr");
        let file = std::fs::File::create(&stderr).unwrap();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().map(BufReader::new));
        Self { child, stdin, stdout, stderr }
    }

    pub fn say(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next line of stdout; empty at its end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        line
    }

    /// The next event.
    pub fn event(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?}: {e}; {}", self.stderr()))
    }

    /// Reads events to the one that ends the turn, and gives that and the text before it.
    pub fn turn(&mut self) -> (String, Value) {
        let mut text = String::new();
        loop {
            let event = self.event();
            match event["text"].as_str() {
                Some(part) => text.push_str(part),
                None => return (text, event),
            }
        }
    }

    pub fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.stdout.as_mut().unwrap().read_to_string(&mut rest).unwrap();
        rest
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        kill(self.child.id(), signal);
    }

    /// Waits for the end.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status,
                None if start.elapsed() > PATIENCE => panic!("the program does not end; {}", self.stderr()),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    pub fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
