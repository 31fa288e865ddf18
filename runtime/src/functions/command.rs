//! Programs as functions: arguments as JSON on the standard input, the result on the standard output, never a shell.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Map, Value};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Bytes that are kept of what a program prints. The rest is read and dropped, so that it can end.
const OUTPUT: usize = 64 * 1024;
/// Characters of its complaints that an error shows: the last.
const COMPLAINT: usize = 400;

/// Runs a program until it and all that hold its output open have ended, or its time has. Then all of its process group
/// is ended.
pub(super) fn run(command: &[String], arguments: &Map<String, Value>, end: Instant) -> Result<Option<String>, String> {
    let (program, rest) = command.split_first().ok_or("it has no program")?;
    let limit = end.saturating_duration_since(Instant::now()).as_secs_f64();
    let spawned = Command::new(program)
        .args(rest)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own can be ended as a whole, and is not interrupted with this program.
        .process_group(0)
        .spawn();
    let mut child = spawned.map_err(|error| format!("the program {program:?} cannot be started: {error}"))?;
    let input = Value::Object(arguments.clone()).to_string();
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (open, closed) = channel::<()>();
    let (status, output, complaint) = std::thread::scope(|scope| {
        // A program need not read its input.
        scope.spawn(move || stdin.map(|mut stdin| writeln!(stdin, "{input}")));
        let reader = open.clone();
        let output = scope.spawn(move || (first(stdout), drop(reader)).0);
        let complaint = scope.spawn(move || (last(stderr), drop(open)).0);
        let left = end.saturating_duration_since(Instant::now());
        let late = closed.recv_timeout(left) == Err(RecvTimeoutError::Timeout);
        let status = ended(&mut child, if late { Instant::now() } else { end });
        (status, output.join().unwrap_or_default(), complaint.join().unwrap_or_default())
    });
    let Some(status) = status.map_err(|error| format!("its program cannot be waited for: {error}"))? else {
        return Err(format!("it took longer than {} seconds", (limit * 100.0).round() / 100.0));
    };
    if status.success() {
        let text = output.trim_end_matches(['\n', '\r']);
        return Ok((!text.is_empty()).then(|| text.to_owned()));
    }
    let complaint = complaint.trim();
    let skipped = complaint.chars().count().saturating_sub(COMPLAINT);
    let complaint: String = complaint.chars().skip(skipped).collect();
    let colon = if complaint.is_empty() { "" } else { ": " };
    Err(format!("its program ended with {status}{colon}{complaint}"))
}

/// Waits for a program that has closed its output. `None`: it was late, and was ended with its group.
fn ended(child: &mut Child, end: Instant) -> std::io::Result<Option<ExitStatus>> {
    loop {
        if Instant::now() >= end {
            // Until the child is waited for, its number belongs to nobody else. It may be gone, which is as good.
            let _ = i32::try_from(child.id()).map(|id| killpg(Pid::from_raw(id), Signal::SIGKILL));
            child.wait()?;
            return Ok(None);
        }
        match child.try_wait()? {
            Some(status) => return Ok(Some(status)),
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// The first bytes, as text; reads all.
fn first(from: Option<impl Read>) -> String {
    let mut kept = Vec::new();
    read(from, |piece| {
        let room = OUTPUT.saturating_sub(kept.len());
        kept.extend_from_slice(&piece[..piece.len().min(room)]);
    });
    String::from_utf8_lossy(&kept).into_owned()
}

/// The last bytes, as text; reads all.
fn last(from: Option<impl Read>) -> String {
    let mut kept = Vec::new();
    read(from, |piece| {
        kept.extend_from_slice(piece);
        let surplus = kept.len().saturating_sub(4 * COMPLAINT);
        kept.drain(..surplus);
    });
    String::from_utf8_lossy(&kept).into_owned()
}

fn read(from: Option<impl Read>, mut each: impl FnMut(&[u8])) {
    let Some(mut from) = from else { return };
    let mut buffer = [0; 8192];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => each(&buffer[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shell(script: &str, limit: Duration) -> Result<Option<String>, String> {
        let arguments = json!({"speed": 1.5, "text": "; $(x) '"});
        let command = ["sh", "-c", script].map(str::to_owned);
        run(&command, arguments.as_object().unwrap(), Instant::now() + limit)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn arguments_go_in_and_text_comes_out() {
        assert_eq!(shell("cat", LONG), Ok(Some(r#"{"speed":1.5,"text":"; $(x) '"}"#.into())));
        assert_eq!(shell("printf 'a\\n b\\r\\n\\n'", LONG), Ok(Some("a\n b".into())));
        assert_eq!(shell("echo", LONG), Ok(None));
        assert_eq!(shell("exec >&- 2>&-; read x; exit 0", LONG), Ok(None), "it may close its output early");
    }

    #[test]
    fn failures_are_told_with_the_last_words() {
        assert_eq!(
            shell("echo no; echo jammed >&2; exit 3", LONG),
            Err("its program ended with exit status: 3: jammed".into())
        );
        assert!(shell("kill -9 $$", LONG).unwrap_err().contains("signal: 9"));
        let long = shell("seq 1 100000 >&2; exit 1", LONG).unwrap_err();
        assert!(long.len() < 500 && long.ends_with("\n100000"), "{long}");
        let missing = run(&["no-such-program-here".into()], &Map::new(), Instant::now() + LONG).unwrap_err();
        assert!(
            missing.starts_with("the program \"no-such-program-here\" cannot be started: No such file"),
            "{missing}"
        );
    }

    #[test]
    fn output_without_end_is_cut() {
        let text = shell("head -c 1000000 /dev/zero | tr '\\0' x", LONG).unwrap().unwrap();
        assert_eq!(text.len(), OUTPUT);
    }

    #[test]
    fn a_late_program_is_ended_with_its_children() {
        let begun = Instant::now();
        for script in ["sleep 20", "sleep 20 & sleep 20; wait", "yes", "exec >&- 2>&-; sleep 20"] {
            let error = shell(script, Duration::from_millis(50)).unwrap_err();
            assert_eq!(error, "it took longer than 0.05 seconds", "{script}");
        }
        // A child that held the pipes open would have kept the readers waiting.
        assert!(begun.elapsed() < Duration::from_secs(15));
    }
}
