//! Ctrl-C and SIGTERM. They are blocked in all threads but one, which waits for them and, depending on what the program is
//! doing, stops the reply that is under way or ends the program. Blocked, they also pass by the handler that the line
//! editor installs for as long as it lives. Conversations know nothing of signals.

use anyhow::{Context, Result};
use nano_runtime::Stopper;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The exit status after an interrupt, as shells have it: 128 and the signal's number.
pub const INTERRUPTED: i32 = 128 + Signal::SIGINT as i32;
const TERMINATED: i32 = 128 + Signal::SIGTERM as i32;

/// Presses of Ctrl-C within this time belong together.
const TOGETHER: Duration = Duration::from_secs(2);
/// So many of them mean: out of here, whatever you are doing.
const ENOUGH: usize = 3;

/// What to do with signals; shared with the thread that waits for them.
#[derive(Clone)]
pub struct Interrupts(Arc<Mutex<State>>);

struct State {
    doing: Doing,
    /// When Ctrl-C was pressed, as far as the presses belong together.
    presses: Vec<Instant>,
    /// SIGTERM came during a reply: the program ends after it.
    ending: bool,
    /// How the terminal was before line editing.
    terminal: Option<Termios>,
    /// The terminal marks what is pasted.
    pastes: bool,
}

enum Doing {
    /// Loading, reading a pipe: an interrupt ends the program.
    Other,
    /// A person is at the prompt.
    Prompt,
    /// A reply is under way. It may not have a stopper yet.
    Reply { stopper: Option<Stopper>, stop: bool },
}

impl Interrupts {
    /// Takes over the signals. To be called before other threads are started: they inherit what is blocked.
    pub fn watch() -> Result<Self> {
        let state = State { doing: Doing::Other, presses: Vec::new(), ending: false, terminal: None, pastes: false };
        let this = Self(Arc::new(Mutex::new(state)));
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
        signals.thread_block().context("signals cannot be blocked")?;
        let watcher = this.clone();
        let watch = move || {
            loop {
                // It can only fail for signals that do not exist; without it, Ctrl-C does nothing.
                let Ok(signal) = signals.wait() else { return };
                watcher.signal(signal);
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(watch).context("no thread can be started")?;
        Ok(this)
    }

    /// A reply begins; until the value is dropped an interrupt stops the reply.
    pub fn reply(&self) -> DuringReply {
        self.lock().doing = Doing::Reply { stopper: None, stop: false };
        DuringReply(self.clone())
    }

    /// A person is at the prompt until the value is dropped.
    pub fn prompt(&self) -> AtPrompt<'_> {
        let mut state = self.lock();
        state.doing = Doing::Prompt;
        state.terminal = tcgetattr(std::io::stdin()).ok();
        AtPrompt(self)
    }

    /// Lets the terminal mark what is pasted, or not, until the program ends.
    pub fn mark_pastes(&self, on: bool) {
        self.lock().pastes = on;
        mark_pastes(on);
    }

    /// Ctrl-C was pressed at the prompt. Whether it is the second time within two seconds.
    pub fn pressed_at_prompt(&self) -> bool {
        self.lock().press() >= 2
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, signal: Signal) {
        let mut state = self.lock();
        let presses = if signal == Signal::SIGINT { state.press() } else { 0 };
        match &mut state.doing {
            Doing::Reply { stopper, stop } if presses < ENOUGH => {
                *stop = true;
                if let Some(stopper) = stopper {
                    stopper.stop();
                }
                state.ending |= signal == Signal::SIGTERM;
            }
            Doing::Prompt if presses == 1 => {
                let _ = writeln!(std::io::stderr(), "\n{HOW_TO_LEAVE}");
            }
            _ => state.exit(if signal == Signal::SIGINT { INTERRUPTED } else { TERMINATED }),
        }
    }
}

/// What the first Ctrl-C at the prompt is answered with.
pub const HOW_TO_LEAVE: &str = "(Ctrl-D or /exit leaves; so does Ctrl-C again)";

impl State {
    fn press(&mut self) -> usize {
        self.presses.retain(|press| press.elapsed() < TOGETHER);
        self.presses.push(Instant::now());
        self.presses.len()
    }

    fn exit(&mut self, status: i32) -> ! {
        if self.pastes {
            // Not for longer: a reply may be stuck in stdout.
            let (tell, told) = std::sync::mpsc::channel();
            let unmark = move || {
                mark_pastes(false);
                let _ = tell.send(());
            };
            if std::thread::Builder::new().spawn(unmark).is_ok() {
                let _ = told.recv_timeout(Duration::from_millis(100));
            }
        }
        if let (Doing::Prompt, Some(terminal)) = (&self.doing, &self.terminal) {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, terminal);
            let _ = writeln!(std::io::stderr());
        }
        std::process::exit(status)
    }
}

/// Bracketed paste, as terminals call it.
fn mark_pastes(on: bool) {
    let mut stdout = std::io::stdout().lock();
    let _ = write!(stdout, "\x1b[?2004{}", if on { 'h' } else { 'l' }).and_then(|()| stdout.flush());
}

/// See [`Interrupts::reply`].
pub struct DuringReply(Interrupts);

impl DuringReply {
    /// The reply can be stopped from now on. If that was wished for already, it is stopped now.
    pub fn attach(&self, new: Stopper) {
        if let Doing::Reply { stopper, stop } = &mut self.0.lock().doing {
            if *stop {
                new.stop();
            }
            *stopper = Some(new);
        }
    }

    /// Whether an end was wished for.
    pub fn is_stopped(&self) -> bool {
        matches!(self.0.lock().doing, Doing::Reply { stop: true, .. })
    }

    /// The reply has been shown: ends the program if it was told to end meanwhile.
    pub fn done(self) {
        let mut state = self.0.lock();
        if state.ending {
            state.exit(TERMINATED);
        }
    }
}

impl Drop for DuringReply {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.doing = Doing::Other;
        // A press that stopped a reply is not the first of two that leave.
        state.presses.clear();
    }
}

/// See [`Interrupts::prompt`].
pub struct AtPrompt<'a>(&'a Interrupts);

impl Drop for AtPrompt<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.doing = Doing::Other;
        state.terminal = None;
    }
}
