//! What the tab key offers at the prompt: commands, the files of some, the functions of one.

use super::command::{NAMES, Takes, at_home};
use std::path::{MAIN_SEPARATOR, Path};

/// More are no help.
const MOST: usize = 200;

/// Where in a line what was typed is replaced, and by what.
pub fn offers(typed: &str, functions: &[String]) -> (usize, Vec<String>) {
    if !typed.starts_with('/') {
        return (0, Vec::new());
    }
    let Some((name, rest)) = typed.split_once(' ') else {
        let fits = NAMES.iter().filter(|(name, _)| name.starts_with(typed));
        return (0, fits.map(|(name, takes)| format!("{name}{}", space(*takes))).collect());
    };
    let at = typed.len() - rest.len();
    match NAMES.iter().find(|(known, _)| *known == name).map(|(_, takes)| takes) {
        Some(Takes::File) => files(rest, at),
        Some(Takes::Function) => {
            (at, functions.iter().filter(|known| known.starts_with(rest)).map(|known| format!("{known} ")).collect())
        }
        _ => (at, Vec::new()),
    }
}

fn space(takes: Takes) -> &'static str {
    if takes == Takes::Nothing { "" } else { " " }
}

/// The files whose path goes on from what was typed; folders end with a slash.
fn files(typed: &str, at: usize) -> (usize, Vec<String>) {
    let name_at = typed.rfind(MAIN_SEPARATOR).map_or(0, |slash| slash + 1);
    let (folder, name) = typed.split_at(name_at);
    let path = if folder.is_empty() { Path::new(".").to_owned() } else { at_home(folder) };
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let fits = entries.filter_map(|entry| {
        let found = entry.file_name().into_string().ok()?;
        let hidden = found.starts_with('.') && !name.starts_with('.');
        if hidden || !found.starts_with(name) || found.chars().any(char::is_control) {
            return None;
        }
        let slash = if entry.path().is_dir() { "/" } else { "" };
        Some(format!("{found}{slash}"))
    });
    let mut fits: Vec<String> = fits.collect();
    fits.sort();
    fits.truncate(MOST);
    (at + name_at, fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nano_models::testing::TempDir;

    fn of(typed: &str) -> (usize, Vec<String>) {
        offers(typed, &["time".to_owned(), "turn".to_owned()])
    }

    #[test]
    fn commands_and_functions() {
        assert_eq!(of("/re"), (0, vec!["/reset".into(), "/retry".into(), "/remove ".into()]));
        assert_eq!(of("/lo"), (0, vec!["/load ".into()]));
        assert_eq!(of("/call t"), (6, vec!["time ".into(), "turn ".into()]));
        assert_eq!(of("/call tu"), (6, vec!["turn ".into()]));
        for none in ["", "hi /re", "/nonsense", "/edit /re", "/reset "] {
            assert_eq!(of(none).1, Vec::<String>::new(), "{none:?}");
        }
    }

    #[test]
    fn files_of_a_folder() {
        let dir = TempDir::new("offers");
        for name in ["one.chat", "one more.chat", "two", ".hidden"] {
            dir.write(name, "");
        }
        std::fs::create_dir(dir.path().join("only")).unwrap();
        let path = dir.path().display();
        let typed = format!("/save {path}/o");
        let at = typed.len() - 1;
        assert_eq!(of(&typed), (at, vec!["one more.chat".into(), "one.chat".into(), "only/".into()]));
        assert_eq!(of(&format!("/load {path}/one m")), (at, vec!["one more.chat".into()]));
        assert_eq!(of(&format!("/load {path}/.h")).1, [".hidden"]);
        assert_eq!(of(&format!("/load {path}/")).1.len(), 4);
        assert!(of("/load /no/such/folder/").1.is_empty());
    }
}
