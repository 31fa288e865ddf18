//! Kills, power cuts and full disks at every place of what a commit does.

use super::disk::Fate;
use super::*;

/// Cuts the disk off at every byte and operation from `from` on, with every fate of what was not synced, and checks
/// that the session is as one of `allowed`, all pages included. Gives how often it was each.
fn cut_everywhere<const N: usize>(disk: &Disk, from: usize, allowed: [Option<&Content>; N]) -> [usize; N] {
    let mut seen = [0; N];
    for op in from..=disk.ops() {
        for bytes in 0..=disk.bytes_of(op) {
            for fate in Fate::ALL {
                for file in disk.after(op, bytes, fate) {
                    let (mut session, turn, _) = open(file).unwrap();
                    let found = turn.map(|turn| content(&mut session, turn));
                    let place = allowed.iter().position(|content| *content == found.as_ref());
                    seen[place.unwrap_or_else(|| panic!("op {op} byte {bytes} {fate:?}: {found:?}"))] += 1;
                }
            }
        }
    }
    seen
}

#[test]
fn a_commit_is_there_or_not_whenever_the_power_goes() {
    let disk = Disk::default();
    let mut session = Session::create(disk.place(), &header()).unwrap();
    let turns = conversation();
    let mut before = None;
    for (content, changed) in &turns {
        let from = disk.ops();
        content.commit(&mut session, *changed).unwrap();
        let [old, new] = cut_everywhere(&disk, from, [before, Some(content)]);
        assert!(old > 100 && new > 0, "{old} and {new}");
        // Once the commit is done there is no way back.
        cut_everywhere(&disk, disk.ops(), [Some(content)]);
        before = Some(content);
    }
}

#[test]
fn a_new_file_is_there_whole_or_not_at_all() {
    let disk = Disk::default();
    Session::create(disk.place(), &header()).unwrap();
    // Opening fails in here if a file is there without its header.
    let [none] = cut_everywhere(&disk, 0, [None]);
    assert!(none > 0);
    let disk = Disk::default();
    let content = Content::new("saved", &[1, 2]);
    let mut read = |index: usize, into: &mut Vec<u8>| {
        into.extend(&content.pages[index]);
        Ok(())
    };
    Session::write_whole(disk.place(), &header(), &content.state, 2, &mut read).unwrap();
    let [whole] = cut_everywhere(&disk, 0, [Some(&content)]);
    assert!(whole > 0);
}

#[test]
fn a_rewritten_file_is_the_old_or_the_new_whenever_the_power_goes() {
    let (disk, mut session, _) = written();
    session.floor = 4096;
    let (before, after) = (conversation()[3].0.clone(), Content::new("rewritten", &[1, 3, 6, 8]));
    let (from, long) = (disk.ops(), disk.file().len());
    // Pages that did not change come out of the file.
    let mut asked = Vec::new();
    let read = &mut |index: usize, into: &mut Vec<u8>| {
        asked.push(index);
        into.extend(&after.pages[index]);
        Ok(())
    };
    session.commit(&after.state, 4, 3, read).unwrap();
    assert_eq!(asked, [3]);
    assert!(disk.file().len() < long / 2 && disk.files() == 1, "it was rewritten");
    let [old, new] = cut_everywhere(&disk, from, [Some(&before), Some(&after)]);
    assert!(old > 100 && new > 0, "{old} and {new}");
    cut_everywhere(&disk, disk.ops(), [Some(&after)]);
    // It goes on in the new file.
    let next = Content::new("next", &[1, 3]);
    next.commit(&mut session, 2).unwrap();
    let (mut opened, turn, notice) = open(disk.file()).unwrap();
    assert_eq!((content(&mut opened, turn.unwrap()), notice), (next, None));
}

#[test]
fn a_file_that_is_given_to_another_model_is_the_old_or_the_new_whenever_the_power_goes() {
    let (disk, mut session, _) = written();
    let (before, after) = (conversation()[3].0.clone(), Content::new("other", &[7, 8]));
    let from = disk.ops();
    let other = Header { identity: Identity { weights: "other".into(), ..header().identity }, ..header() };
    let read = &mut |index: usize, into: &mut Vec<u8>| {
        into.extend(&after.pages[index]);
        Ok(())
    };
    session.rewrite(&other, &after.state, 2, read).unwrap();
    let [old, new] = cut_everywhere(&disk, from, [Some(&before), Some(&after)]);
    assert!(old > 100 && new > 0, "{old} and {new}");
    cut_everywhere(&disk, disk.ops(), [Some(&after)]);
}

#[test]
fn a_file_is_rewritten_when_most_of_it_is_waste() {
    let disk = Disk::default();
    let mut session = Session::create(disk.place(), &header()).unwrap();
    session.floor = 20_000;
    let mut longest = 0;
    let mut shrunk = 0;
    for turn in 0..40u8 {
        let before = disk.file().len();
        Content::new("state", &[1, 2, turn]).commit(&mut session, 2).unwrap();
        let len = disk.file().len();
        longest = longest.max(len);
        shrunk += usize::from(len < before);
    }
    assert!(longest < 2 * (20_000 + 8192) && shrunk > 2, "{longest} bytes, {shrunk} times");
}

#[test]
fn a_page_that_is_damaged_on_the_disk_is_asked_for_when_the_file_is_rewritten() {
    let (disk, _, _) = written();
    let mut bytes = disk.file();
    bytes[4096 + 64 + 3] ^= 1;
    let disk = Disk::with(bytes);
    let (place, file) = disk.open();
    let (mut session, _, _) = Session::open(place, file).unwrap();
    session.log.read_page(0, &mut Vec::new()).unwrap_err();
    session.floor = 4096;
    let healed = Content::new("healed", &[1, 3, 6]);
    healed.commit(&mut session, 3).unwrap();
    let (mut opened, turn, _) = open(disk.file()).unwrap();
    assert_eq!(content(&mut opened, turn.unwrap()), healed);
}

#[test]
fn a_record_without_its_pages_names_the_pages() {
    // A disk that does not keep its word on syncing: the record is there, and zeros where its pages should be.
    let (disk, _, ends) = written();
    let mut bytes = disk.file();
    let start = (ends[2] as usize).next_multiple_of(4096) + 64;
    bytes[start..start + PAGE].fill(0);
    let (mut session, turn, notice) = open(bytes).unwrap();
    assert_eq!((turn.unwrap().state, notice), (b"the fourth".to_vec(), None));
    let mut page = Vec::new();
    session.log.read_page(1, &mut page).unwrap();
    let error = session.log.read_page(2, &mut page).unwrap_err();
    assert!(matches!(error, crate::Error::SessionPage { page: 2, offset, .. } if offset == start as u64), "{error}");
}

#[test]
fn a_full_disk_leaves_the_last_turn_and_the_next_goes_on() {
    for rewrite in [false, true] {
        for budget in 0.. {
            let (disk, mut session, _) = written();
            session.floor = if rewrite { 4096 } else { FLOOR };
            let (before, after) = (conversation()[3].0.clone(), Content::new("after", &[1, 3, 6, 8]));
            let whole = disk.file();
            disk.limit(Some(budget));
            let out = after.commit(&mut session, 3);
            disk.limit(None);
            if out.is_ok() && disk.files() == 1 && (!rewrite || disk.file().len() < whole.len()) {
                break;
            }
            let (mut opened, turn, _) = open(disk.file()).unwrap();
            let found = content(&mut opened, turn.unwrap());
            match &out {
                Ok(()) => assert_eq!(found, after, "what could not be rewritten was appended"),
                // A renaming that may not outlast a power cut is an error too; the file is whole then.
                Err(_) if found == after => assert!(rewrite && disk.file().len() < whole.len()),
                Err(error) => {
                    assert_eq!((&found, disk.file() == whole), (&before, true), "{budget}");
                    assert!(error.to_string().starts_with("talk.session: cannot be written: "), "{error}");
                }
            }
            assert_eq!(disk.files(), 1, "no unfinished file stays");
            let from = disk.ops();
            // As large as what failed: nothing but its content tells one from the other.
            let next = Content::new("again", &[1, 3, 6, 9]);
            next.commit(&mut session, 3).unwrap();
            let (mut opened, turn, notice) = open(disk.file()).unwrap();
            assert_eq!((content(&mut opened, turn.unwrap()), notice), (next.clone(), None));
            cut_everywhere(&disk, disk.ops(), [Some(&next)]);
            if budget % 100 == 0 || !disk.refused_writing() {
                cut_everywhere(&disk, from, [Some(&before), Some(&after), Some(&next)]);
            }
        }
    }
}
