//! Sessions on real files: permissions, locks, links, what is left lying about, and processes that are killed.

use super::*;
use crate::Error;
use nano_models::testing::TempDir;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

fn created(dir: &TempDir) -> (PathBuf, SessionFile) {
    let path = dir.path().join("talk.session");
    let file = SessionFile::create(&path, &header()).unwrap();
    (path, file)
}

/// Opens a session, which must hold this and give rise to no notice.
fn holds(path: &Path, right: &Content) -> SessionFile {
    let Opened { mut file, header: found, turn, notices } = SessionFile::open(path).unwrap();
    assert_eq!((found, notices), (header(), vec![]));
    assert_eq!(&content(&mut file.0, turn.unwrap()), right);
    file
}

/// What is in the folder.
fn names(dir: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(dir.path()).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn write_whole(path: &Path, content: &Content) -> Result<()> {
    SessionFile::write_whole(path, &header(), &content.state, content.pages.len(), &mut |index, into| {
        into.extend(&content.pages[index]);
        Ok(())
    })
}

fn says(result: Result<impl Sized>, path: &Path, why: &str) {
    let error = result.map(drop).unwrap_err().to_string();
    assert_eq!(error, format!("{}: {why}", path.display()));
}

#[test]
fn a_session_is_for_its_owner_and_for_one_at_a_time() {
    let dir = TempDir::new("session");
    let (path, mut file) = created(&dir);
    let turns = conversation();
    turns[0].0.commit(&mut file.0, 0).unwrap();
    assert_eq!(names(&dir), ["talk.session"]);
    #[cfg(unix)]
    let mode =
        |path: &Path| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777;
    #[cfg(unix)]
    assert_eq!(mode(&path), 0o600);
    let in_use = "this session is open elsewhere; close it there, or take another file";
    says(SessionFile::open(&path), &path, in_use);
    says(write_whole(&path, &turns[1].0), &path, in_use);
    says(SessionFile::create(&path, &header()), &path, "is there already; open it, or take another name");

    // The lock goes with the file when it is rewritten.
    file.0.floor = 0;
    let small = Content::new("small", &[]);
    small.commit(&mut file.0, 0).unwrap();
    small.commit(&mut file.0, 0).unwrap();
    assert!(fs::metadata(&path).unwrap().len() < 4096 + 300, "it was rewritten");
    assert_eq!(names(&dir), ["talk.session"]);
    #[cfg(unix)]
    assert_eq!(mode(&path), 0o600);
    says(SessionFile::open(&path), &path, in_use);

    // Who only reads needs no lock, and changes nothing.
    let mut reader = SessionFile::open_to_read(&path).unwrap();
    assert_eq!(content(&mut reader.file.0, reader.turn.unwrap()), small);
    says(small.commit(&mut reader.file.0, 0), &path, "was opened for reading only");
    turns[0].0.commit(&mut file.0, 0).unwrap();
    drop(file);
    holds(&path, &turns[0].0);
}

#[test]
fn a_session_that_belongs_to_another_model_now_is_rewritten() {
    let dir = TempDir::new("session");
    let (path, mut file) = created(&dir);
    conversation()[0].0.commit(&mut file.0, 0).unwrap();
    let other = Header { page_bytes: 2, identity: Identity { weights: "other".into(), ..header().identity } };
    let put = &mut |_, into: &mut Vec<u8>| {
        into.extend([1, 2]);
        Ok(())
    };
    file.rewrite(&other, b"rewritten", 1, put).unwrap();
    file.commit(b"and more", 2, 1, put).unwrap();
    drop(file);
    let mut opened = SessionFile::open(&path).unwrap();
    assert_eq!(opened.header, other);
    assert_eq!(opened.turn, Some(Turn { state: b"and more".to_vec(), pages: 2 }));
    let mut page = Vec::new();
    opened.file.read_page(1, &mut page).unwrap();
    assert_eq!((page, names(&dir)), (vec![1, 2], vec!["talk.session".to_owned()]));
}

#[test]
fn what_a_killed_rewriting_left_is_removed() {
    let dir = TempDir::new("session");
    let (path, mut file) = created(&dir);
    let content = Content::new("kept", &[1]);
    content.commit(&mut file.0, 0).unwrap();
    drop(file);
    let whole = fs::read(&path).unwrap();
    let ours = [".talk.session.0123456789abcdef.session-tmp", ".talk.session.00000000000000ff.session-tmp"];
    let others = [
        ".talk.session.0123456789abcde.session-tmp",
        ".talk.session.0123456789abcdeg.session-tmp",
        ".other.session.0123456789abcdef.session-tmp",
        "talk.session.0123456789abcdef.session-tmp",
    ];
    for len in 0..whole.len().min(300) {
        dir.write(ours[0], &whole[..len]);
        holds(&path, &content);
    }
    dir.write(ours[0], &whole);
    // One that was linked into place, before its first name was removed.
    fs::hard_link(&path, dir.path().join(ours[1])).unwrap();
    others.iter().for_each(|name| drop(dir.write(name, "x")));
    // One that is being written now.
    let writing = dir.write(".talk.session.fedcba9876543210.session-tmp", "x");
    let writing = File::open(writing).unwrap();
    writing.try_lock().unwrap();
    holds(&path, &content);
    let mut left: Vec<&str> = others.to_vec();
    left.extend([".talk.session.fedcba9876543210.session-tmp", "talk.session"]);
    left.sort();
    assert_eq!(names(&dir), left);
}

#[test]
fn saving_replaces_sessions_only() {
    let dir = TempDir::new("session");
    let path = dir.path().join("saved");
    let turns = conversation();
    write_whole(&path, &turns[0].0).unwrap();
    holds(&path, &turns[0].0);
    write_whole(&path, &turns[1].0).unwrap();
    holds(&path, &turns[1].0);
    let empty = dir.write("empty", "");
    write_whole(&empty, &turns[2].0).unwrap();
    holds(&empty, &turns[2].0);
    let notes = dir.write("notes", "do not forget");
    says(
        write_whole(&notes, &turns[0].0),
        &notes,
        "is there and is no session file; take another name, or delete it first",
    );
    assert_eq!(fs::read(&notes).unwrap(), b"do not forget");
    // What fails leaves what was there, and nothing else.
    let failed = SessionFile::write_whole(&path, &header(), b"", 3, &mut |_, _| Err(Error::Stopped));
    assert!(matches!(failed, Err(Error::Stopped)), "{failed:?}");
    holds(&path, &turns[1].0);
    assert_eq!(names(&dir), ["empty", "notes", "saved"]);
}

#[test]
fn paths_that_will_not_do_are_named() {
    let dir = TempDir::new("session");
    let missing = dir.path().join("no/talk.session");
    says(
        SessionFile::create(&missing, &header()),
        &dir.path().join("no"),
        "there is no such folder; make it, or name another one",
    );
    says(
        write_whole(&missing, &Content::new("", &[])),
        &dir.path().join("no"),
        "there is no such folder; make it, or name another one",
    );
    let absent = dir.path().join("absent");
    says(SessionFile::open(&absent), &absent, "there is no such session file");
    says(SessionFile::open_to_read(&absent), &absent, "there is no such session file");
    says(SessionFile::open(dir.path()), dir.path(), "is a folder; name a file in it");
    says(write_whole(dir.path(), &Content::new("", &[])), dir.path(), "is a folder; name a file in it");
    says(SessionFile::create("".as_ref(), &header()), "".as_ref(), "names no file");
    let foreign = dir.write("foreign", "GGUF and more");
    let why = "is no session file (its first 8 bytes are of something else, or damaged)";
    says(SessionFile::open(&foreign), &foreign, why);
    #[cfg(target_os = "linux")]
    says(SessionFile::open("/dev/null".as_ref()), "/dev/null".as_ref(), "is no regular file");
}

#[cfg(unix)]
#[test]
fn folders_and_files_that_are_read_only_are_named() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new("session");
    let (path, mut file) = created(&dir);
    let turns = conversation();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(dir.path(), 0o500);
    if File::create(dir.path().join("probe")).is_ok() {
        // The superuser may write anywhere.
        return;
    }
    let other = dir.path().join("other");
    let error = SessionFile::create(&other, &header()).unwrap_err().to_string();
    let named = format!("{}: no file can be made in this folder: ", fs::canonicalize(dir.path()).unwrap().display());
    assert!(error.starts_with(&named), "{error}");
    // What cannot be rewritten is appended to.
    file.0.floor = 0;
    turns.iter().for_each(|(content, changed)| content.commit(&mut file.0, *changed).unwrap());
    drop(file);
    holds(&path, &turns[3].0);
    mode(dir.path(), 0o700);
    mode(&path, 0o400);
    let error = SessionFile::open(&path).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: cannot be opened for writing: ", path.display())), "{error}");
    assert!(SessionFile::open_to_read(&path).is_ok());
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_stay() {
    use std::os::unix::fs::symlink;
    let dir = TempDir::new("session");
    let real = dir.path().join("real");
    fs::create_dir(&real).unwrap();
    let (target, link) = (real.join("talk.session"), dir.path().join("link"));
    symlink(&target, &link).unwrap();
    let nowhere = "is a link to a file that does not exist; delete the link, or take its target";
    says(SessionFile::create(&link, &header()), &link, nowhere);
    says(SessionFile::open(&link), &link, nowhere);
    drop(SessionFile::create(&target, &header()).unwrap());
    // One that looks like a left-over is none.
    symlink(&target, real.join(".talk.session.0123456789abcdef.session-tmp")).unwrap();
    let mut file = SessionFile::open(&link).unwrap().file;
    file.0.floor = 0;
    for (content, changed) in &conversation() {
        content.commit(&mut file.0, *changed).unwrap();
        says(
            SessionFile::open(&target),
            &target,
            "this session is open elsewhere; close it there, or take another file",
        );
    }
    drop(file);
    write_whole(&link, &conversation()[1].0).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!((names(&dir), fs::read_dir(&real).unwrap().count()), (vec!["link".to_owned(), "real".to_owned()], 2));
    holds(&target, &conversation()[1].0);
    // And relative paths.
    let up = PathBuf::from_iter(std::env::current_dir().unwrap().components().skip(1).map(|_| ".."));
    let relative = up.join(link.strip_prefix("/").unwrap());
    assert!(relative.is_relative());
    holds(&relative, &conversation()[1].0);
}

#[test]
fn of_two_that_make_the_same_session_one_does() {
    let dir = TempDir::new("session");
    let path = dir.path().join("talk.session");
    let [one, other] = [(), ()].map(|()| Folder::new(&path).unwrap());
    let mut first = Session::create(one, &header()).unwrap();
    says(Session::create(other, &header()), &path, "is there already; open it, or take another name");
    let content = Content::new("first", &[1]);
    content.commit(&mut first, 0).unwrap();
    drop(first);
    holds(&path, &content);
    assert_eq!(names(&dir), ["talk.session"]);
}

#[test]
fn a_lock_is_given_back_though_others_have_the_file() {
    // A program that another thread is starting has copies of our files for a moment.
    let dir = TempDir::new("session");
    let (path, file) = created(&dir);
    drop(file);
    let (_, file) = Folder::open(&path).unwrap();
    let _copy = file.0.try_clone().unwrap();
    drop(file);
    SessionFile::open(&path).unwrap();
}

#[test]
fn no_turn_is_lost_between_two_that_take_turns() {
    // Every commit here replaces the file, so that who waits for the lock may get that of a file that is no more.
    let dir = TempDir::new("session");
    let (path, file) = created(&dir);
    drop(file);
    let take_turns = || {
        for _ in 0..60 {
            let Opened { mut file, turn, .. } = loop {
                match SessionFile::open(&path) {
                    Err(Error::SessionInUse { .. }) => std::thread::yield_now(),
                    opened => break opened.unwrap(),
                }
            };
            file.0.floor = 0;
            let turn = turn.map_or(0, |turn| turn.state.len());
            Content::new(&"x".repeat(turn + 1), &[]).commit(&mut file.0, 0).unwrap();
        }
    };
    std::thread::scope(|scope| {
        (0..2).for_each(|_| drop(scope.spawn(take_turns)));
    });
    assert_eq!(SessionFile::open(&path).unwrap().turn.unwrap().state.len(), 120);
}

/// What the killed process says at its turn `turn`.
fn said(turn: u64) -> Content {
    let mut pages: Vec<u8> = (0..=(turn % 7) as u8).collect();
    *pages.last_mut().unwrap() = turn as u8;
    Content::new(&turn.to_string(), &pages)
}

/// The process that is killed: it goes on with the session at the path among its arguments, and tells the number of each
/// turn once it is saved. As a test it does nothing.
#[test]
#[ignore = "is run by the test that kills it"]
fn process() {
    let Some(path) = std::env::args().find(|a| a.ends_with(".session")).map(PathBuf::from) else { return };
    let Opened { mut file, turn, .. } = SessionFile::open(&path).unwrap();
    file.0.floor = 30_000;
    let mut turn: u64 = turn.map_or(0, |turn| String::from_utf8(turn.state).unwrap().parse().unwrap());
    loop {
        turn += 1;
        said(turn).commit(&mut file.0, ((turn - 1) % 7).min(turn % 7) as usize).unwrap();
        std::io::stdout().write_all(format!("\n{turn}\n").as_bytes()).unwrap();
    }
}

#[test]
fn a_killed_process_leaves_the_turn_before_or_after() {
    let dir = TempDir::new("session");
    let (path, file) = created(&dir);
    drop(file);
    let mut last = 0;
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["session::tests::files::process", "--exact", "--ignored", "--nocapture"])
            .arg(&path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut told = BufReader::new(child.stdout.take().unwrap()).lines().map_while(|line| line.ok());
        let number = |line: String| line.parse::<u64>().ok();
        let first = told.by_ref().find_map(number).expect("the process says a turn");
        assert_eq!(first, last + 1, "it went on where it was killed");
        std::thread::sleep(Duration::from_micros(3_137 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let saved = told.filter_map(number).last().unwrap_or(first);
        let mut opened = SessionFile::open(&path).unwrap();
        let turn = opened.turn.unwrap();
        last = String::from_utf8(turn.state.clone()).unwrap().parse().unwrap();
        assert!((saved..=saved + 1).contains(&last), "{last} was found and {saved} was told");
        assert_eq!(content(&mut opened.file.0, turn), said(last));
        assert_eq!(names(&dir), ["talk.session"]);
    }
    assert!(last > 24, "{last} turns in all");
}
