//! Files that were cut, damaged or made up: what is read from them is right, or it is said what is wrong.

use super::super::format::{ENTRY, HEAD, Head, MAX_RECORD, Preamble, TRAILER, Trailer, record_sum};
use super::*;

/// The number of a turn among those of [`conversation`], by its state.
fn number(turn: &Option<Turn>) -> Option<usize> {
    let turn = turn.as_ref()?;
    let place = conversation().iter().position(|(content, _)| content.state == turn.state);
    Some(place.expect("a state that was never committed"))
}

/// Reads all pages of a turn; those that are read must be right. Gives the errors.
fn errors(session: &mut Session<Memory>, turn: usize) -> Vec<String> {
    let mut out = Vec::new();
    for (index, right) in conversation()[turn].0.pages.iter().enumerate() {
        let mut page = Vec::new();
        match session.log.read_page(index, &mut page) {
            Ok(()) => assert_eq!(&page, right, "page {index} of turn {turn}"),
            Err(error) => out.push(error.to_string()),
        }
    }
    out
}

#[test]
fn a_file_cut_at_any_byte_is_as_its_last_whole_turn_left_it() {
    let (disk, session, ends) = written();
    let (bytes, header) = (disk.file(), Preamble::new(0, session.log.header()).unwrap().1.len());
    let next = Content::new("next", &[1, 9]);
    for cut in 0..=bytes.len() {
        let opened = open(bytes[..cut].to_vec());
        if cut < header {
            let error = opened.map(drop).unwrap_err().to_string();
            let named = if cut == 0 { "is empty".into() } else { format!("is cut off at byte {cut} of ") };
            assert!(error.starts_with("talk.session: ") && (error.contains(&named) || cut < 8), "{cut}: {error}");
            continue;
        }
        let (mut session, turn, notice) = opened.unwrap();
        let whole = ends.iter().rposition(|end| *end <= cut as u64);
        assert_eq!(number(&turn), whole, "cut at {cut}");
        let end = whole.map_or(header, |turn| ends[turn] as usize);
        assert_eq!(notice.is_some(), end < cut, "cut at {cut}: {notice:?}");
        if let Some(notice) = notice {
            let named = format!("talk.session: the last {} bytes, from byte {end} on, are a damaged", cut - end);
            assert!(notice.starts_with(&named), "cut at {cut}: {notice}");
        }
        if let Some(turn) = whole {
            assert_eq!(errors(&mut session, turn), [""; 0], "cut at {cut}");
        }
        // Going on from there is what a program does next; a few places tell as much as all.
        if cut % 61 == 0 {
            let (disk, old) = (Disk::with(bytes[..cut].to_vec()), cut as u64);
            let (place, file) = disk.open();
            let (mut session, _, _) = Session::open(place, file).unwrap();
            assert_eq!(disk.file().len() as u64, old, "opening must not change the file");
            next.commit(&mut session, 0).unwrap();
            let (mut opened, turn, notice) = open(disk.file()).unwrap();
            assert_eq!((content(&mut opened, turn.unwrap()), notice), (next.clone(), None), "cut at {cut}");
        }
    }
}

#[test]
fn a_flipped_byte_is_found_or_does_not_matter() {
    let (disk, session, ends) = written();
    let (bytes, header) = (disk.file(), Preamble::new(0, session.log.header()).unwrap().1.len());
    let last = ends.len() - 1;
    let mut pages = [0; 3];
    for at in 0..bytes.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            let opened = open(bytes);
            if at < header {
                let error = opened.map(drop).unwrap_err().to_string();
                let named =
                    error.contains("its header is") || error.contains("first 8 bytes") || error.contains("byte 8");
                assert!(error.starts_with("talk.session: ") && named, "flip at {at}: {error}");
                continue;
            }
            let (mut session, turn, notice) = opened.unwrap();
            let turn = number(&turn).expect("the file has undamaged turns");
            let errors = errors(&mut session, turn);
            if turn < last {
                // The last turn's own head, record or trailer.
                assert!(at as u64 > ends[last - 1], "a flip at {at} cost the last turn");
                assert_eq!(turn, last - 1, "a flip at {at} cost more than the last turn");
                assert!(notice.unwrap().contains(&format!("from byte {} on", ends[last - 1])));
                assert_eq!(errors, [""; 0], "flip at {at}");
                continue;
            }
            assert_eq!(notice, None, "flip at {at}");
            assert!(errors.len() <= 1, "flip at {at}: {errors:?}");
            for error in errors {
                let rest = error.strip_prefix("talk.session: page ").unwrap();
                let page: usize = rest[..1].parse().unwrap();
                let offset: usize = rest["0, at byte ".len()..].split(',').next().unwrap().parse().unwrap();
                assert!((offset..offset + PAGE).contains(&at), "flip at {at}: {error}");
                assert!(error.ends_with(", is damaged: its bytes do not match their checksum"), "{error}");
                pages[page] += 1;
            }
        }
    }
    assert_eq!(pages, [3 * PAGE; 3], "every flip in a page of the last turn is an error of that page");
}

#[test]
fn two_damages_cost_what_they_damage() {
    // The head of the second turn and the end of the file: the third turn is found all the same.
    let (disk, _, ends) = written();
    let mut bytes = disk.file();
    bytes.truncate(ends[3] as usize - 5);
    bytes[(ends[0] as usize).next_multiple_of(4096) + 20] ^= 1;
    let (mut session, turn, notice) = open(bytes).unwrap();
    assert_eq!(number(&turn), Some(2));
    assert!(notice.is_some());
    assert_eq!(errors(&mut session, 2), [""; 0]);
}

#[test]
fn parts_of_another_file_are_damage() {
    // A disk may give a file blocks that belonged to another: here the last turn is that of a file with equal turns.
    let (one, _, ends) = written();
    let (other, _, _) = written();
    let start = (ends[2] as usize).next_multiple_of(4096);
    let bytes = [&one.file()[..start], &other.file()[start..]].concat();
    let (mut session, turn, notice) = open(bytes).unwrap();
    assert_eq!((number(&turn), notice.is_some()), (Some(2), true));
    assert_eq!(errors(&mut session, 2), [""; 0]);
    // And a turn that was moved within its file.
    let moved = [&one.file()[..], &vec![0; 4096 - one.file().len() % 4096], &one.file()[start..]].concat();
    // And a trailer that ends the file but not its turn, which is not the last.
    let third = ends[2] as usize;
    let trailer = [&one.file()[..], b"junk", &one.file()[third - TRAILER as usize..third]].concat();
    for bytes in [moved, trailer] {
        let (_, turn, notice) = open(bytes).unwrap();
        assert_eq!((number(&turn), notice.is_some()), (Some(3), true));
    }
}

#[test]
fn foreign_files_are_named() {
    for (bytes, why) in [
        (vec![], "is empty, not a session; delete it, or take another file"),
        (b"GGUF".to_vec(), "is no session file (its first 8 bytes are of something else, or damaged)"),
        (vec![0; 10_000], "is no session file (its first 8 bytes are of something else, or damaged)"),
        (b"Nano".to_vec(), "its header is cut off at byte 4 of 32; no turn was saved"),
    ] {
        let error = open(bytes).map(drop).unwrap_err().to_string();
        assert_eq!(error, format!("talk.session: {why}"));
    }
}

/// A header in which some bytes are replaced, with a right checksum.
fn forged(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut out = Preamble::new(5, &header()).unwrap().1;
    out[at..at + bytes.len()].copy_from_slice(bytes);
    let end = out.len() - 8;
    let sum = xxhash_rust::xxh3::xxh3_64(&out[..end]);
    out[end..].copy_from_slice(&sum.to_le_bytes());
    out
}

#[test]
fn hostile_headers_are_errors() {
    for (bytes, why) in [
        (forged(8, &7u32.to_le_bytes()), "is a session of version 7 (byte 8); this program reads version 1"),
        (forged(12, &u32::MAX.to_le_bytes()), "its header is damaged at byte 12: it says that it is 4294967295 bytes"),
        (forged(12, &39u32.to_le_bytes()), "its header is damaged at byte 12: it says that it is 39 bytes long"),
        (forged(12, &60_000u32.to_le_bytes()), "its header is cut off at byte"),
        (forged(24, &u64::MAX.to_le_bytes()), "its header says at byte 24 that a page has 18446744073709551615 bytes"),
        (forged(24, &0u64.to_le_bytes()), "its header says at byte 24 that a page has 0 bytes"),
        (forged(32, b"\xff\xff"), "its header does not say at byte 32 what it belongs to"),
        (forged(33, b"\"m0del\""), "its header does not say at byte 32 what it belongs to"),
    ] {
        let error = open(bytes).map(drop).unwrap_err().to_string();
        assert!(error.starts_with(&format!("talk.session: {why}")), "{error}");
    }
}

/// A file with one turn whose head says these things, with right checksums as far as that can be.
fn turn(head: Head, record: &[u8]) -> Vec<u8> {
    let (preamble, mut out) = Preamble::new(5, &header()).unwrap();
    assert_eq!(head.start, preamble.first());
    out.resize(head.start as usize, 0);
    let bytes = head.encode(5);
    out.extend(bytes);
    out.extend(record);
    out.extend(Trailer { start: head.start, sum: record_sum(record, &bytes) }.encode(5));
    out
}

#[test]
fn hostile_turns_are_left_out() {
    let right = Head { start: 4096, number: 1, fresh: 0, pages: 1, state: 5 };
    let entry = |offset: u64| [&offset.to_le_bytes()[..], &[0; 8], b"state"].concat();
    // The test can fail: a page inside the file is taken, though its checksum is wrong and reading it an error.
    let inside = Head { fresh: 1, ..right };
    let bytes = turn(inside, &[&[0; PAGE][..], &entry(4096 + HEAD)].concat());
    assert_eq!(open(bytes).unwrap().1, None, "the record's checksum must not cover pages");
    let record = entry(4096 + HEAD);
    let mut bytes = turn(inside, &[]);
    bytes.truncate((4096 + HEAD) as usize);
    bytes.extend([0; PAGE]);
    bytes.extend(&record);
    bytes.extend(Trailer { start: 4096, sum: record_sum(&record, &inside.encode(5)) }.encode(5));
    let (mut session, found, notice) = open(bytes).unwrap();
    assert_eq!((found.map(|t| t.pages), notice), (Some(1), None));
    session.log.read_page(0, &mut Vec::new()).unwrap_err();

    let mut files: Vec<Vec<u8>> = [0, 4096, 4096 + HEAD, 1 << 40, u64::MAX, u64::MAX - PAGE as u64 + 1]
        .map(|offset| turn(right, &entry(offset)))
        .to_vec();
    for most in [u64::MAX, u64::MAX / ENTRY + 1, 1 << 60, MAX_RECORD + 1] {
        files.push(turn(Head { fresh: most, ..right }, &entry(0)));
        files.push(turn(Head { pages: most, ..right }, &entry(0)));
        files.push(turn(Head { state: most, ..right }, &entry(0)));
        files.push(turn(Head { state: most.wrapping_sub(HEAD + TRAILER + 4096), ..right }, &entry(0)));
    }
    for bytes in files {
        let (_, turn, notice) = open(bytes).unwrap();
        assert_eq!((turn, notice.is_some()), (None, true));
    }
}

#[test]
fn what_cannot_be_saved_is_said() {
    let (disk, mut session, ends) = written();
    let whole = disk.file();
    let nothing = &mut |_, _: &mut Vec<u8>| Ok(());
    let error = session.commit(b"", 1, 0, nothing).unwrap_err().to_string();
    assert_eq!(error, "talk.session: page 0 has 0 bytes where 24 were announced");
    let error = session.commit(&vec![0; MAX_RECORD as usize + 1], 0, 0, nothing).unwrap_err().to_string();
    assert!(error.contains("are too much"), "{error}");
    assert!(disk.file() == whole && whole.len() as u64 == ends[3], "the file is as it was");
    let error = Session::create(disk.place(), &Header { page_bytes: 0, ..header() }).unwrap_err().to_string();
    assert_eq!(error, "talk.session: pages of 0 bytes cannot be saved; 1 to 1073741824 will do");
    let identity = Identity { model: "m".repeat(1 << 16), ..header().identity };
    let error = Session::create(disk.place(), &Header { identity, ..header() }).unwrap_err().to_string();
    assert!(error.contains("65536 is the most"), "{error}");
}
