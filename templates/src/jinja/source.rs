//! What happens to a template's text before minijinja parses it. Some things differ too much to be mended later:
//! `{% generation %}` blocks (they mark the model's words for training) become scopes; slices become calls of `__slice__`;
//! `+`, `~`, `*` and `%` become calls of functions, because Python's values add, print and repeat in their own way and
//! because their results must be counted; and assigned values pass through `__keep__`, which bounds how deep they nest. Line
//! numbers stay; text that is no valid tag is left for the parser to refuse. The tokens of a tag come from `lexer`.

use std::fmt::Write;

use super::lexer::{Kind, Lexer, MAX_CHAIN, MAX_TOKENS, Node};

/// Tags whose words are no expressions.
const PLAIN_TAGS: [&str; 6] = ["include", "import", "from", "extends", "block", "endblock"];

/// Words that end an operand, as operators of lower precedence than the arithmetic ones do.
const WORDS: [&str; 10] = ["and", "or", "not", "in", "if", "elif", "else", "for", "set", "recursive"];

/// The text for minijinja, or what is too long about the template.
pub(super) fn rewrite(source: &str) -> Result<String, String> {
    // Jinja2 reads every line end as a line feed.
    let source = &source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len() + source.len() / 4);
    let mut rest = source.as_str();
    let mut branches = 0;
    while let Some(at) = next_tag(rest) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = match &rest[..2] {
            "{#" => rest.find("#}").map(|end| end + 2),
            _ => tag(rest, &mut out, &mut branches)?,
        };
        let Some(length) = length else { break };
        if rest.starts_with("{#") {
            out.push_str(&rest[..length]);
        }
        rest = &rest[length..];
    }
    out.push_str(rest);
    Ok(out)
}

fn next_tag(text: &str) -> Option<usize> {
    text.match_indices('{')
        .map(|(at, _)| at)
        .find(|&at| text.as_bytes().get(at + 1).is_some_and(|next| matches!(next, b'{' | b'%' | b'#')))
}

/// Rewrites the tag at the start of `text` and says how long it was; `None`, with nothing written, if it has no end.
fn tag(text: &str, out: &mut String, branches: &mut usize) -> Result<Option<usize>, String> {
    let block = text.starts_with("{%");
    let start = 2 + usize::from(text[2..].starts_with(['-', '+']));
    let mut lexer = Lexer::new(text, start, block);
    let nodes = lexer.nodes(None, 0);
    if lexer.chain > MAX_CHAIN {
        return Err(format!("one of its expressions has more than {MAX_CHAIN} operators"));
    }
    if lexer.tokens > MAX_TOKENS {
        return Err(format!("one of its tags has more than {MAX_TOKENS} words"));
    }
    let (Some(nodes), Some(close)) = (nodes, lexer.end()) else { return Ok(None) };
    let body = lexer.at;
    let whole = &text[..body + close.len()];
    let keyword = match nodes.first() {
        Some(Node::Token { text, kind: Kind::Word, .. }) if block => *text,
        _ => "",
    };
    *branches += usize::from(keyword == "elif");
    if *branches > MAX_CHAIN {
        return Err(format!("it has more than {MAX_CHAIN} branches"));
    }
    match keyword {
        "raw" => {
            let length = end_of_raw(text, whole.len());
            out.push_str(&text[..length.unwrap_or(0)]);
            return Ok(length);
        }
        "generation" if nodes.len() == 1 => out.push_str(&whole.replacen("generation", "with", 1)),
        "endgeneration" if nodes.len() == 1 => out.push_str(&whole.replacen("endgeneration", "endwith", 1)),
        word if PLAIN_TAGS.contains(&word) => out.push_str(whole),
        word => {
            out.push_str(&text[..start]);
            let assign = nodes.iter().position(|n| word == "set" && n.is("="));
            let skip = assign.map_or(usize::from(!word.is_empty()), |at| at + 1);
            verbatim(&nodes[..skip], out);
            match assign {
                Some(_) => kept(&nodes[skip..], out),
                None => sequence(&nodes[skip..], out),
            }
            let last = nodes.last().map_or(start, |node| node.end(text));
            out.push_str(&text[last..whole.len()]);
        }
    }
    Ok(Some(whole.len()))
}

/// Writes what is assigned to a variable, each value in a call of `__keep__`.
fn kept(nodes: &[Node<'_>], out: &mut String) {
    for (i, value) in nodes.split(|n| n.is(",")).enumerate() {
        out.push_str(if i > 0 { "," } else { "" });
        if value.is_empty() {
            continue;
        }
        out.push_str("__keep__(");
        sequence(value, out);
        out.push(')');
    }
}

/// Where the block that opens with `{% raw %}` ends, its closing tag included.
fn end_of_raw(text: &str, from: usize) -> Option<usize> {
    text[from..].match_indices("{%").find_map(|(at, _)| {
        let at = from + at;
        let inner = text[at + 2..].trim_start_matches(['-', '+']).trim_start();
        let inner = inner.strip_prefix("endraw")?.trim_start().trim_start_matches(['-', '+']);
        inner.starts_with("%}").then(|| text.len() - inner.len() + 2)
    })
}

/// Writes nodes that may hold several operands: commas, comparisons and words such as `and` lie between them.
fn sequence(nodes: &[Node<'_>], out: &mut String) {
    let mut start = 0;
    for (i, node) in nodes.iter().enumerate() {
        if separates(nodes, i) {
            arithmetic(&nodes[start..i], Level::Sum, out);
            verbatim(std::slice::from_ref(node), out);
            start = i + 1;
        }
    }
    arithmetic(&nodes[start..], Level::Sum, out);
}

fn separates(nodes: &[Node<'_>], i: usize) -> bool {
    let before = |n: usize, word: &str| i >= n && nodes[i - n].is(word);
    match &nodes[i] {
        Node::Token { text, kind: Kind::Sign, .. } => {
            matches!(*text, "," | ":" | "=" | "==" | "!=" | "<" | ">" | "<=" | ">=")
        }
        // `is not none` and `is in list` belong to their operand; so do attributes and filters of such names.
        Node::Token { text, kind: Kind::Word, .. } => {
            let of_test = before(1, "is") || (before(1, "not") && before(2, "is"));
            WORDS.contains(text) && !of_test && !before(1, ".") && !before(1, "|")
        }
        _ => false,
    }
}

/// Jinja's precedence: sums, then `~`, then products.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Sum,
    Concat,
    Product,
}

/// Writes one operand of the lower operators, its arithmetic as calls.
fn arithmetic(nodes: &[Node<'_>], level: Level, out: &mut String) {
    let (signs, next): (&[&str], _) = match level {
        Level::Sum => (&["+", "-"], Some(Level::Concat)),
        Level::Concat => (&["~"], Some(Level::Product)),
        Level::Product => (&["*", "/", "//", "%"], None),
    };
    let lower = |nodes: &[Node<'_>]| {
        let mut text = String::new();
        match next {
            Some(next) => arithmetic(nodes, next, &mut text),
            None => operand(nodes, &mut text),
        }
        text
    };
    let cuts: Vec<usize> = binary_signs(nodes).into_iter().filter(|&i| signs.iter().any(|s| nodes[i].is(s))).collect();
    let Some(&first) = cuts.first() else {
        out.push_str(&lower(nodes));
        return;
    };
    if cuts.last() == Some(&(nodes.len() - 1)) {
        // A missing operand is the parser's to report: a call without it would hide it.
        return nodes.iter().for_each(|node| raw(node, out));
    }
    let mut text = lower(&nodes[..first]);
    let mut open = None;
    for (n, &cut) in cuts.iter().enumerate() {
        let end = cuts.get(n + 1).copied().unwrap_or(nodes.len());
        let right = lower(&nodes[cut + 1..end]);
        let Node::Token { lead, text: sign, .. } = &nodes[cut] else { continue };
        let function = match *sign {
            "+" => Some("__add__"),
            "~" => Some("__concat__"),
            "*" => Some("__mul__"),
            "%" => Some("__mod__"),
            _ => None,
        };
        // A run of the same operator is one call, so that long sums do not nest.
        let run = function.is_some() && open == function;
        text = match function {
            Some(_) if run => format!("{text}{lead},{right}"),
            Some(name) => format!("{name}({}{lead},{right}", closed(text, open)),
            None => format!("({}{lead}{sign}{right})", closed(text, open)),
        };
        open = function;
    }
    // The white space in front stays in front.
    let _ = write!(out, " {}", closed(text, open));
}

fn closed(text: String, open: Option<&str>) -> String {
    if open.is_some() { text + ")" } else { text }
}

/// The signs that stand between two operands.
fn binary_signs(nodes: &[Node<'_>]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut after_operand = false;
    for (i, node) in nodes.iter().enumerate() {
        after_operand = match node {
            Node::Token { kind: Kind::Sign, .. } => {
                if after_operand {
                    found.push(i);
                }
                false
            }
            Node::Token { text: "is" | "not", kind: Kind::Word, .. } => false,
            _ => true,
        };
    }
    found
}

/// Writes an operand. A sign in front of it binds less than attributes and calls, more than filters and tests.
fn operand(nodes: &[Node<'_>], out: &mut String) {
    let Some((minus, rest)) = nodes.split_first().filter(|(first, _)| first.is("-")) else {
        return verbatim(nodes, out);
    };
    let end = rest.iter().position(|n| n.is("|") || n.is("**") || n.is("is")).unwrap_or(rest.len());
    out.push_str(minus.lead());
    out.push_str("(-(");
    operand(&rest[..end], out);
    out.push_str("))");
    verbatim(&rest[end..], out);
}

/// Writes nodes as they are, except for what is inside brackets.
fn verbatim(nodes: &[Node<'_>], out: &mut String) {
    for node in nodes {
        out.push_str(node.lead());
        match node {
            // Those between operands have become calls; minijinja knows no sign in front of a number.
            Node::Token { text: "+", kind: Kind::Sign, .. } => {}
            Node::Token { text, .. } => out.push_str(text),
            Node::Group { open: "[", inner, tail, .. } if inner.iter().any(|n| n.is(":")) => {
                slice(inner, out);
                out.push_str(tail);
            }
            Node::Group { open, inner, tail, close, .. } => {
                out.push_str(open);
                sequence(inner, out);
                out.push_str(tail);
                out.push_str(close);
            }
        }
    }
}

/// Writes a token that the parser will refuse, or what is inside brackets beside it.
fn raw(node: &Node<'_>, out: &mut String) {
    match node {
        Node::Token { lead, text, .. } => {
            out.push_str(lead);
            out.push_str(text);
        }
        Node::Group { .. } => verbatim(std::slice::from_ref(node), out),
    }
}

/// `[a:b:c]` as `.__slice__(a, b, c)`. Only a slice has a colon directly inside square brackets.
fn slice(inner: &[Node<'_>], out: &mut String) {
    let parts = inner.split(|node| node.is(":")).map(|part| {
        let mut text = String::new();
        sequence(part, &mut text);
        if part.is_empty() { "none".to_owned() } else { text }
    });
    out.push_str(".__slice__(");
    out.push_str(&parts.collect::<Vec<_>>().join(","));
    out.push(')');
}

#[cfg(test)]
mod tests {
    use super::rewrite;

    #[test]
    fn rewrites_only_what_differs() {
        for (source, expected) in [
            ("a + b {# x + y #} {{ 'a + b' }}", "a + b {# x + y #} {{ 'a + b' }}"),
            ("{{ a + b }}", "{{ __add__( a, b) }}"),
            ("{{a~b.c|f(x + 1)~d}}", "{{ __concat__(a,b.c|f( __add__(x, 1)),d)}}"),
            ("{{ a + b - c + d }}", "{{ __add__(( __add__( a, b) - c), d) }}"),
            ("{{ -1 + a * 2 ~ c }}", "{{ __add__( (-(1)),  __concat__( __mul__( a, 2), c)) }}"),
            ("{{ m[1:] }}", "{{ m.__slice__(1,none) }}"),
            ("{{ m[::-1][0] }}", "{{ m.__slice__(none,none,(-(1)))[0] }}"),
            ("{{ {'a': [1, 2]}['a'] }}", "{{ {'a': [1, 2]}['a'] }}"),
            ("{% if a is not none and b + c %}", "{% if a is not none and __add__( b, c) %}"),
            ("{%- generation -%}x{% endgeneration %}", "{%- with -%}x{% endwith %}"),
            ("{% raw %}{{ a + b }}{% endraw %}{{ 1 }}", "{% raw %}{{ a + b }}{% endraw %}{{ 1 }}"),
            ("{{ f(*a, **b) }}", "{{ f(*a, **b) }}"),
            ("{{ {'a': {}} }}", "{{ {'a': {}} }}"),
            ("{% set x.y, z = a + 1, b %}", "{% set x.y, z = __keep__( __add__( a, 1)),__keep__( b) %}"),
            ("{% set x %}a + b{% endset %}", "{% set x %}a + b{% endset %}"),
            ("{{ a + }}", "{{ a + }}"),
            ("{{ a + ", "{{ a + "),
            ("{{ a ) + b }}", "{{ a ) + b }}"),
        ] {
            // Where white space goes does not matter, where lines end does.
            let squeeze = |text: &str| text.replace(' ', "");
            assert_eq!(squeeze(&rewrite(source).expect(source)), squeeze(expected), "{source}");
        }
    }

    #[test]
    fn keeps_the_lines() {
        let source = "{{ a\n + b\n ~ [1,\n2][\n0:] }}\n{% set x = 'a\nb' %}";
        assert_eq!(rewrite(source).expect(source).matches('\n').count(), source.matches('\n').count());
    }
}
