//! How each kind of text looks in a terminal, and what may not reach one.

use crate::paint::Kind;
use crate::style::Style;
use std::borrow::Cow;

/// How each kind of text looks.
pub struct Styles {
    said: Style,
    call: Style,
    result: Style,
    failure: Style,
    mark: Style,
}

impl Styles {
    /// The styles that go with that of the model's words.
    pub fn beside(said: Style, wanted: bool) -> Self {
        let cyan = Style::code("36", wanted);
        let color = if said == cyan { "35" } else { "36" };
        Self {
            said,
            call: Style::code(color, wanted),
            result: Style::code(&format!("1;{color}"), wanted),
            failure: Style::code("31", wanted),
            mark: Style::dim(wanted),
        }
    }

    /// A text as it looks.
    pub fn paint(&self, kind: Kind, text: &str) -> String {
        let style = match kind {
            Kind::Said => &self.said,
            Kind::Call => &self.call,
            Kind::Result => &self.result,
            Kind::Failure => &self.failure,
            Kind::Thought | Kind::Mark => &self.mark,
        };
        style.paint(&harmless(text))
    }
}

/// Takes away what could steer a terminal: a model may say anything.
pub fn harmless(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(harmful) { text.replace(harmful, "\u{fffd}").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_stand_out() {
        let paint = |said, wanted| Styles::beside(Style::code(said, wanted), wanted).paint(Kind::Call, "f()");
        assert_eq!(paint("32", true), "\x1b[36mf()\x1b[0m");
        assert_eq!(paint("36", true), "\x1b[35mf()\x1b[0m");
        assert_eq!(paint("36", false), "f()");
    }

    #[test]
    fn a_model_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\tb\nc é"), "a\tb\nc é");
        assert_eq!(harmless("\x1b[2Jx\x07\u{9b}"), "\u{fffd}[2Jx\u{fffd}\u{fffd}");
    }
}
