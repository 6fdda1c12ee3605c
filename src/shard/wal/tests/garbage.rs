//! Logs whose files were damaged at random: recovery must not panic, must not invent an entry,
//! and must not pass over one that an undamaged frame witnesses.

use super::*;

/// A log of some variety with every entry that was ever sealed for it.
fn valid_log(seed: u64) -> (Rig, Vec<Entry>) {
    let mut prng = Prng::new(seed);
    let mut rig = Rig::new(layout(1 + prng.below(3) as u16, 1 + prng.below(2) as usize));
    let mut written = Vec::new();
    let mut term = 1;
    for salt in 0..8 + prng.below(20) {
        if !rig.wal.has_free_lane() {
            rig.finish_all();
        }
        let mut index = rig.wal.last().index.0 + 1;
        if prng.percent(10) && index > 3 {
            term += 1;
            index -= 2;
        }
        let entry = entry(index, term, salt, prng.below(12_000) as usize);
        written.push(entry.clone());
        rig.append_with(entry, Some(hard_state(term, 0, 0)));
        if prng.percent(30) {
            rig.finish_all();
            rig.stamp(None);
        }
    }
    rig.finish_all();
    (rig, written)
}

/// Damages one file; answers whether a byte changed.
fn mutate(disk: &mut MemoryDisk, prng: &mut Prng) {
    let ids: Vec<SegmentId> = disk.files.keys().copied().collect();
    let id = ids[prng.below(ids.len() as u64) as usize];
    let other = ids[prng.below(ids.len() as u64) as usize];
    let file = disk.files.get_mut(&id).expect("a listed file");
    let len = file.len() as u64;
    let at = prng.below(len) as usize;
    let sector = at - at % SECTOR_BYTES;
    match prng.below(6) {
        0 => file[at] ^= 1 << prng.below(8),
        1 => file.truncate(at),
        2 => {
            let end = (at as u64 + 1 + prng.below(8192)).min(len) as usize;
            file[at..end].fill(0);
        }
        3 => {
            let target = prng.below(len / SECTOR_BYTES as u64) as usize * SECTOR_BYTES;
            let first = file[sector..sector + SECTOR_BYTES].to_vec();
            file.copy_within(target..target + SECTOR_BYTES, sector);
            file[target..target + SECTOR_BYTES].copy_from_slice(&first);
        }
        4 => {
            let end = (sector + SECTOR_BYTES).min(file.len());
            file[sector..end].iter_mut().for_each(|byte| *byte = prng.next_u64() as u8);
        }
        // A write that went astray: a whole block of one file over a block of another.
        _ => {
            let block = at - at % 4096;
            let source = disk.files[&other].clone();
            let target = disk.files.get_mut(&id).expect("a listed file");
            if block + 4096 <= source.len() {
                let to = prng.below(len / 4096) as usize * 4096;
                target[to..to + 4096].copy_from_slice(&source[block..block + 4096]);
            }
        }
    }
}

#[test]
fn a_thousand_mutations() {
    let mut counts = [0; 3];
    for seed in 0..1000 {
        let (rig, written) = valid_log(seed / 10);
        let mut prng = Prng::new(seed);
        let mut disk = rig.disk.clone();
        for _ in 0..1 + prng.below(3) {
            if disk.files.values().all(|file| file.len() >= 8192) {
                mutate(&mut disk, &mut prng);
            }
        }
        // The true log, and what its undamaged frames say of it.
        let truth: Vec<ChainPoint> = (1..=rig.wal.last().index.0)
            .map(|index| rig.wal.point(RaftIndex(index)).expect("an entry of the log"))
            .collect();
        let is_whole = |note: &&Note| {
            let range = note.at.offset as usize..note.at.offset as usize + note.len;
            let was = &rig.disk.files[&note.at.segment][range.clone()];
            disk.files[&note.at.segment].get(range) == Some(was)
        };
        let witnessed = rig.notes.iter().filter(is_whole).map(|note| note.preamble.head);
        let witnessed = witnessed.filter(|head| {
            let point = head.durable_upto.0.checked_sub(1).and_then(|at| truth.get(at as usize));
            point.is_some_and(|point| point.checksum == head.durable_checksum)
        });
        let witnessed = witnessed.map(|head| head.durable_upto.0).max().unwrap_or(0) as usize;
        match recover(&disk, &known(rig.base, true)) {
            Ok(recovered) => {
                let points: Vec<ChainPoint> = recovered.points().collect();
                assert!(points.starts_with(&truth[..witnessed]), "seed {seed}");
                for read in recovered.entries(&disk) {
                    let read = read.expect("just verified");
                    assert!(written.contains(&read), "seed {seed}: an entry nobody wrote");
                }
                counts[usize::from(recovered.verdict != Verdict::Clean)] += 1;
            }
            Err(damage) => {
                assert!(damage.to_string().len() > 80);
                counts[2] += 1;
            }
        }
    }
    // The mutations must have met all three, or they test little.
    assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
}

#[test]
fn an_undamaged_log_is_clean() {
    for seed in 0..50 {
        let (rig, _) = valid_log(seed);
        let recovered = rig.recover().expect("an undamaged log");
        assert_eq!(recovered.verdict, Verdict::Clean, "seed {seed}");
        assert_eq!(recovered.last(), rig.wal.last(), "seed {seed}");
    }
}

#[test]
fn noise_is_no_log() {
    for seed in 0..50 {
        let mut prng = Prng::new(seed);
        let mut disk = MemoryDisk::default();
        for lane in 0..3 {
            let len = prng.below(64 << 10) as usize;
            let noise = (0..len).map(|_| prng.next_u64() as u8).collect();
            disk.files.insert(SegmentId { lane, sequence: 1 }, noise);
        }
        let base = ChainPoint::start(DATA_DIR);
        assert_eq!(recover(&disk, &known(base, true)).err(), Some(Corrupt::Empty));
        assert_eq!(recover(&disk, &known(base, false)).expect("unused").points().count(), 0);
    }
}
