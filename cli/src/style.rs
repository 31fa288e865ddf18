//! Colours: which there are, and whether a stream gets any. The streams themselves are elsewhere.

use std::io::IsTerminal;
use std::str::FromStr;

/// A colour by the name that NanoLLM's flags use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Color(Option<u8>);

impl Color {
    /// Plain text.
    pub const NONE: Self = Self(None);
}

/// The sixteen colours of a terminal by their codes, and another name for some.
const NAMES: [(&str, u8); 18] = [
    ("black", 30),
    ("grey", 30),
    ("red", 31),
    ("green", 32),
    ("yellow", 33),
    ("blue", 34),
    ("magenta", 35),
    ("cyan", 36),
    ("white", 97),
    ("light_grey", 37),
    ("dark_grey", 90),
    ("light_red", 91),
    ("light_green", 92),
    ("light_yellow", 93),
    ("light_blue", 94),
    ("light_magenta", 95),
    ("light_cyan", 96),
    ("light_white", 97),
];

impl FromStr for Color {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let wanted = name.trim().to_ascii_lowercase().replace(['-', ' '], "_").replace("gray", "grey");
        if wanted == "none" {
            return Ok(Color(None));
        }
        let found = NAMES.iter().find(|(name, _)| *name == wanted);
        found.map(|&(_, code)| Color(Some(code))).ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            format!("the colours are none, {}", names.join(", "))
        })
    }
}

/// How one kind of text looks on one stream: escape sequences before and after it, both empty where it is plain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Style {
    pub on: String,
    pub off: &'static str,
}

impl Style {
    /// Nothing added.
    pub const PLAIN: Style = Style { on: String::new(), off: "" };

    /// A colour, where colours are `wanted`.
    pub fn color(color: Color, wanted: bool) -> Self {
        color.0.map_or(Style::PLAIN, |code| Style::code(&code.to_string(), wanted))
    }

    /// Quieter than the rest.
    pub fn dim(wanted: bool) -> Self {
        Style::code("2", wanted)
    }

    /// For the word "error" and its like.
    pub fn bold(color: u8, wanted: bool) -> Self {
        Style::code(&format!("1;{color}"), wanted)
    }

    /// Any look, by the numbers of its escape sequence.
    pub fn code(code: &str, wanted: bool) -> Self {
        if wanted { Style { on: format!("\x1b[{code}m"), off: "\x1b[0m" } } else { Style::PLAIN }
    }

    /// The text in this style.
    pub fn paint(&self, text: &str) -> String {
        format!("{}{text}{}", self.on, self.off)
    }
}

/// Which streams are terminals, and which of them show colours.
#[derive(Clone, Copy, Debug)]
pub struct Terminals {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// The terminal can move its cursor and show colours.
    pub capable: bool,
    colors: bool,
}

impl Terminals {
    /// Looks at the process's streams and environment.
    pub fn look() -> Self {
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let var = |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let capable = is_capable(var("TERM").as_deref());
        Self {
            stdin: stdin.is_terminal(),
            stdout: stdout.is_terminal(),
            stderr: stderr.is_terminal(),
            capable,
            colors: capable && allows_color(var("NO_COLOR").as_deref()),
        }
    }

    /// Colours on stdout.
    pub fn color_out(self) -> bool {
        self.stdout && self.colors
    }

    /// Colours on stderr.
    pub fn color_err(self) -> bool {
        self.stderr && self.colors
    }
}

fn is_capable(term: Option<&str>) -> bool {
    !matches!(term, None | Some("" | "dumb" | "cons25" | "emacs"))
}

/// As no-color.org has it: set and not empty.
fn allows_color(no_color: Option<&str>) -> bool {
    no_color.is_none_or(str::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_colors() {
        assert_eq!("Green".parse(), Ok(Color(Some(32))));
        assert_eq!("light-gray".parse(), Ok(Color(Some(37))));
        assert_eq!("none".parse(), Ok(Color(None)));
        assert!("pink".parse::<Color>().unwrap_err().contains("magenta"));
    }

    #[test]
    fn plain_where_colors_are_not_wanted() {
        let green = "green".parse().unwrap();
        assert_eq!(Style::color(green, true).paint("x"), "\x1b[32mx\x1b[0m");
        assert_eq!(Style::color(green, false).paint("x"), "x");
        assert_eq!(Style::color("none".parse().unwrap(), true).paint("x"), "x");
    }

    #[test]
    fn who_gets_colors() {
        assert!(allows_color(None) && allows_color(Some("")) && !allows_color(Some("1")) && !allows_color(Some("0")));
        assert!(is_capable(Some("xterm")) && !is_capable(Some("dumb")) && !is_capable(None));
        let look = |stdout, colors| Terminals { stdin: true, stdout, stderr: true, capable: true, colors };
        assert!(look(true, true).color_out() && !look(true, false).color_out() && !look(false, true).color_out());
        assert!(look(false, true).color_err());
    }
}
