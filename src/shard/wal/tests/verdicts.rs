//! Every verdict of recovery: by table, by every subset of damage, by every byte of a tear.

use super::*;

/// What becomes of the frame of entry 3.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Intact,
    /// A payload byte differs.
    Payload,
    /// A header byte differs.
    Header,
    Absent,
}

fn spoil(disk: &mut MemoryDisk, note: &Note, fate: Fate) {
    let bytes = disk.bytes_mut(note.at, note.len);
    match fate {
        Fate::Intact => {}
        Fate::Payload => bytes[note.len - 1] ^= 0x10,
        Fate::Header => bytes[72] ^= 0x10,
        Fate::Absent => bytes.fill(0),
    }
}

/// Whether the verdict is clean, and the last index; or the index that is missing.
type Expect = Result<(bool, u64), u64>;

#[test]
fn the_table_of_verdicts() {
    use Fate::{Absent, Header, Intact, Payload};
    // Entry 3's frame; entry 2's; whether 4 follows; whether a stamp witnesses 3; what is left.
    let rows: &[(Fate, Fate, bool, bool, Expect)] = &[
        (Intact, Intact, false, false, Ok((true, 3))),
        (Intact, Intact, true, false, Ok((true, 4))),
        (Intact, Intact, false, true, Ok((true, 3))),
        (Intact, Intact, true, true, Ok((true, 4))),
        (Intact, Absent, false, false, Ok((false, 1))),
        (Intact, Payload, true, false, Ok((false, 1))),
        (Intact, Header, true, false, Ok((false, 1))),
        (Intact, Absent, false, true, Err(2)),
        (Intact, Header, true, true, Err(2)),
        (Payload, Intact, false, false, Ok((false, 2))),
        (Payload, Intact, true, false, Ok((false, 2))),
        (Payload, Intact, false, true, Err(3)),
        (Payload, Intact, true, true, Err(3)),
        (Header, Intact, false, false, Ok((false, 2))),
        (Header, Intact, true, false, Ok((false, 2))),
        (Header, Intact, false, true, Err(3)),
        (Header, Intact, true, true, Err(3)),
        (Absent, Intact, false, false, Ok((true, 2))),
        (Absent, Intact, true, false, Ok((false, 2))),
        (Absent, Intact, false, true, Err(3)),
        (Absent, Intact, true, true, Err(3)),
    ];
    for (third, second, is_followed, is_witnessed, expect) in rows {
        let mut rig = Rig::new(layout(1, 4));
        rig.append(small(1, 1));
        rig.finish_all();
        // All in flight at once, so that none of them witnesses another.
        rig.append(small(2, 1));
        rig.append(small(3, 1));
        if *is_followed {
            rig.append(small(4, 1));
        }
        rig.finish_all();
        if *is_witnessed {
            rig.stamp(None);
            rig.finish_all();
        }
        for (index, fate) in [(2, second), (3, third)] {
            let note = rig.noted(index).clone();
            spoil(&mut rig.disk, &note, *fate);
        }
        let label = format!("{third:?} {second:?} {is_followed} {is_witnessed}");
        let got = rig
            .recover()
            .map(|recovered| (recovered.verdict == Verdict::Clean, recovered.last().index.0));
        match (got, expect) {
            (Ok(got), Ok(expect)) => assert_eq!(got, *expect, "{label}"),
            (Err(Corrupt::Entry { index, .. }), Err(expect)) => {
                assert_eq!(index.0, *expect, "{label}");
            }
            (got, _) => panic!("{label}: {got:?}"),
        }
    }
}

/// Some history: entries over three lanes, a change of leader in the middle, stamps.
fn history(depth: usize, stamps: usize) -> Rig {
    let mut rig = Rig::new(layout(3, depth));
    let mut step = 0;
    for (index, term) in [(1, 1), (2, 1), (3, 1), (4, 1), (3, 2), (4, 2), (5, 2), (6, 2)] {
        if !rig.wal.has_free_lane() {
            rig.finish_all();
        }
        rig.append_with(small(index, term), Some(hard_state(term, 0, 1)));
        step += 1;
        if step % 3 == 0 {
            // Out of order: the last write ends first.
            let last = rig.writes().pop().expect("a write was just made");
            rig.finish(last);
        }
        if step % 4 == 0 {
            rig.finish_all();
            if step / 4 <= stamps {
                rig.stamp(None);
            }
        }
    }
    rig.finish_all();
    rig
}

#[test]
fn every_subset_of_damaged_frames_gets_the_verdict_that_the_witnesses_left_demand() {
    let rows = [(1, Fate::Absent, 2), (2, Fate::Header, 2), (1, Fate::Payload, 1)];
    for (depth, fate, stamps) in rows {
        let rig = history(depth, stamps);
        let (first_of_two, end) = (2, 6);
        let truth: Vec<u32> = (1..=end).map(|i| rig.noted(i).preamble.checksum).collect();
        let mut counts = [0; 3];
        for subset in 0..1u32 << rig.notes.len() {
            let is_spoilt = |at: usize| {
                let is_stamp = rig.notes[at].preamble.head.kind == Kind::Stamp;
                // A stamp has no payload to spoil.
                subset & (1 << at) != 0 && !(is_stamp && fate == Fate::Payload)
            };
            let mut disk = rig.disk.clone();
            for (_, note) in rig.notes.iter().enumerate().filter(|(at, _)| is_spoilt(*at)) {
                spoil(&mut disk, note, fate);
            }
            // What is left says that the true log was durable up to here. A header speaks even
            // where its payload is spoilt.
            let speaks = |at: usize| fate == Fate::Payload || !is_spoilt(at);
            let witnessed = rig.notes.iter().enumerate().filter(|(at, _)| speaks(*at));
            let witnessed = witnessed.map(|(_, note)| note.preamble.head).filter(|head| {
                let at = head.durable_upto.0 as usize;
                at > 0 && truth[at - 1] == head.durable_checksum
            });
            let witnessed = witnessed.map(|head| head.durable_upto.0).max().unwrap_or(0);
            match recover(&disk, &known(rig.base, true)) {
                Ok(recovered) => {
                    let read: Vec<u32> = recovered.points().map(|p| p.checksum).collect();
                    let agree = read.iter().zip(&truth).take_while(|(a, b)| a == b).count();
                    assert!(agree as u64 >= witnessed, "{subset:b}: {read:?}, {witnessed}");
                    // The other branch may stand only if nothing speaks for the true one.
                    assert!(agree == read.len() || agree == first_of_two, "{subset:b}");
                    counts[usize::from(recovered.verdict != Verdict::Clean)] += 1;
                    if subset == 0 {
                        assert_eq!((read.len(), recovered.verdict), (6, Verdict::Clean));
                    }
                }
                Err(Corrupt::Entry { .. } | Corrupt::Empty) => counts[2] += 1,
                Err(other) => panic!("{subset:b}: {other}"),
            }
            // Where nothing witnessed is missing, there is no reason to refuse.
            let missing = (1..=end as usize).find(|index| {
                let is_it = |note: &Note| note.preamble.checksum == truth[index - 1];
                let at = rig.notes.iter().position(is_it).expect("a noted frame");
                is_spoilt(at)
            });
            if missing.is_none() {
                assert!(recover(&disk, &known(rig.base, true)).is_ok(), "{subset:b}");
            }
        }
        assert!(counts.iter().all(|count| *count > 0), "{fate:?}: {counts:?}");
    }
}

#[test]
fn a_tear_at_every_byte_of_the_last_frame() {
    let mut rig = Rig::new(layout(1, 1));
    rig.append(small(1, 1));
    rig.finish_all();
    rig.append(entry(2, 1, 0, 5000));
    let before = rig.disk.clone();
    rig.finish_all();
    let note = rig.noted(2).clone();
    let padded = note.preamble.frame_len() as usize;
    let mut stamped = rig.disk.clone();
    rig.stamp(None);
    stamped.files.clone_from(&rig.disk.files);
    let stamp = rig.pending.pop().expect("the stamp's write");
    stamped.apply(&stamp, |_| true);
    for landed in 0..=padded {
        let whole = rig.disk.clone().bytes_mut(note.at, padded).to_vec();
        let mut disk = before.clone();
        disk.bytes_mut(note.at, landed).copy_from_slice(&whole[..landed]);
        let recovered = recover(&disk, &known(rig.base, true)).expect("not acknowledged");
        let is_there = landed >= note.len;
        // The identity's last byte that is not zero is the segment's number.
        let is_seen = landed > 32;
        assert_eq!(recovered.last().index.0, if is_there { 2 } else { 1 }, "{landed}");
        assert_eq!(recovered.verdict != Verdict::Clean, is_seen && !is_there, "{landed}");

        let mut disk = stamped.clone();
        disk.bytes_mut(note.at, padded)[landed..].fill(0);
        let refused = recover(&disk, &known(rig.base, true)).is_err();
        assert_eq!(refused, !is_there, "{landed}");
    }
}

#[test]
fn every_subset_of_sectors_of_the_last_frame() {
    let mut rig = Rig::new(layout(1, 1));
    rig.append(small(1, 1));
    rig.finish_all();
    rig.append(entry(2, 1, 0, 3800));
    let op = rig.pending.pop().expect("its write");
    for subset in 0..256u32 {
        let mut disk = rig.disk.clone();
        disk.apply(&op, |sector| subset & (1 << sector) != 0);
        let recovered = recover(&disk, &known(rig.base, true)).expect("not acknowledged");
        assert_eq!(recovered.last().index.0, if subset == 255 { 2 } else { 1 });
    }
}

#[test]
fn damage_has_a_sentence_that_says_where_and_what_to_do() {
    let mut rig = Rig::new(layout(1, 1));
    for index in 1..=20 {
        rig.append(small(index, 1));
        rig.finish_all();
    }
    let check = |disk: &MemoryDisk, known: Known, parts: &[&str]| {
        let sentence = recover(disk, &known).expect_err("damage").to_string();
        for part in parts.iter().chain(&["; "]) {
            assert!(sentence.contains(part), "{sentence} lacks {part}");
        }
    };
    let plain = known(rig.base, true);
    let remedy = "remove this member and add it again";
    let segment = SegmentId { lane: 0, sequence: 1 };

    let mut disk = rig.disk.clone();
    disk.bytes_mut(Location { segment, offset: 8192 }, 4096)[200] ^= 1;
    let place = "wal/0-1.seg at offset 8192: the frame of entry 3 is damaged";
    check(&disk, plain, &[place, "durable up to entry 19", "wal/0-2.seg at offset 12288", remedy]);
    disk.bytes_mut(Location { segment, offset: 8192 }, 4096).fill(0);
    check(&disk, plain, &["no intact frame of entry 3 is left", "entry 19", remedy]);

    let mut disk = rig.disk.clone();
    disk.files.remove(&SegmentId { lane: 0, sequence: 2 });
    check(&disk, plain, &["wal/0-2.seg is missing between two others", remedy]);

    let mut disk = rig.disk.clone();
    disk.unreadable = Some(Location { segment, offset: 4096 });
    check(&disk, plain, &["wal/0-1.seg at offset 0: the log cannot be read: error 5", remedy]);

    let foreign = Known { data_dir: 1, ..plain };
    check(&rig.disk, foreign, &["not one intact frame of this data directory", remedy]);
    check(&MemoryDisk::default(), plain, &["not one intact frame", remedy]);

    let mut disk = rig.disk.clone();
    disk.files.insert(SegmentId { lane: 64, sequence: 1 }, Vec::new());
    check(&disk, plain, &["wal/64-1.seg is of a lane that no log has"]);
}

#[test]
fn a_frame_of_a_later_format_is_refused_not_discarded() {
    let mut rig = Rig::new(layout(1, 1));
    rig.append(Entry { chunks: Vec::new(), ..small(1, 1) });
    rig.finish_all();
    let at = rig.noted(1).at;
    let header = rig.disk.bytes_mut(at, frame::HEADER_BYTES);
    header[8] = 2;
    let checksum = crc32c::crc32c(&header[..124]);
    header[124..].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(rig.recover().err(), Some(Corrupt::Version { at, version: 2 }));
}

#[test]
fn a_superblock_that_ends_before_the_log_begins_is_a_hole() {
    let mut rig = Rig::new(layout(1, 1));
    let mut bases = vec![rig.base];
    for index in 1..=100 {
        rig.append(small(index, 1));
        rig.finish_all();
        bases.push(rig.wal.point(RaftIndex(index)).expect("an entry"));
    }
    rig.wal.release(RaftIndex(90), &mut rig.pending);
    rig.finish_all();
    for (index, base) in bases.iter().enumerate() {
        let recovered = recover(&rig.disk, &known(*base, true));
        // Spare segments keep some entries longer than they have to.
        match recovered {
            Ok(recovered) => {
                assert_eq!(recovered.last().index, RaftIndex(100));
                assert_eq!(recovered.points().count(), 100 - index);
                assert!(index >= 16, "{index}");
            }
            Err(Corrupt::Entry { index: missing, .. }) => {
                assert_eq!(missing.0, index as u64 + 1);
                assert!(index < 90, "{index}");
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(recover(&rig.disk, &known(rig.base, true)).is_err());
}

#[test]
fn what_a_replaced_branch_witnessed_does_not_count_below_a_base() {
    let mut rig = Rig::new(layout(2, 1));
    for index in 1..=9 {
        rig.append_with(small(index, 1), Some(hard_state(1, 0, 2)));
        rig.finish_all();
    }
    rig.stamp(None);
    rig.finish_all();
    for index in 3..=4 {
        rig.append_with(small(index, 2), Some(hard_state(2, 0, 4)));
        rig.finish_all();
    }
    // The frames up to the base are gone for good; the stamp for entry 9 is not.
    rig.base = rig.wal.point(RaftIndex(4)).expect("an entry");
    for index in 1..=2 {
        let at = rig.noted(index).at;
        rig.disk.bytes_mut(at, 4096).fill(0);
    }
    let (verdict, read) = rig.restart().expect("the base covers all of it");
    assert_eq!((verdict, read.len()), (Verdict::Clean, 0));
    rig.append(small(5, 2));
    rig.finish_all();
    assert_eq!(indexes(&rig.restart().expect("an undamaged log").1), [(5, 2)]);
}

#[test]
fn a_frame_out_of_its_lanes_order_is_damaged() {
    let mut rig = Rig::new(layout(1, 1));
    rig.append(small(1, 1));
    rig.finish_all();
    let at = Location { segment: SegmentId { lane: 0, sequence: 1 }, offset: 4096 };
    let place = Place { data_dir: DATA_DIR, segment: at.segment, offset: at.offset };
    let first = rig.noted(1).preamble.head;
    let head = Head { kind: Kind::Stamp, hard_state: hard_state(9, 9, 9), ..first };
    let mut blocks = Blocks::new();
    frame::seal(&place, head, Chunks::new()).write(&mut blocks);
    let bytes: Vec<u8> = blocks.iter().flatten().copied().collect();
    rig.disk.bytes_mut(at, 4096).copy_from_slice(&bytes);
    let recovered = rig.recover().expect("no witness speaks against it");
    assert_eq!(recovered.last().index, RaftIndex(1));
    assert_eq!(recovered.verdict, Verdict::Torn { at });
    assert_eq!(recovered.hard_state, HardState::default());
}
