//! A log that is written, restarted, cut, released, and that meets a failing disk.

use super::*;

#[test]
fn what_was_written_reads_back_over_segments_lanes_and_depths() {
    for (lanes, depth) in [(1, 1), (1, 3), (2, 1), (3, 2)] {
        let mut rig = Rig::new(layout(lanes, depth));
        let written: Vec<Entry> = (1..=60)
            .map(|index| entry(index, index / 20, 0, (index as usize * 997) % 9000))
            .collect();
        for entry in &written {
            while !rig.wal.has_free_lane() {
                rig.finish(0);
            }
            rig.append(entry.clone());
        }
        rig.finish_all();
        assert_eq!(rig.wal.durable(), RaftIndex(60));
        rig.stamp(None);
        rig.finish_all();
        assert!(rig.wal.is_idle());
        let (verdict, read) = rig.restart().expect("an undamaged log");
        assert_eq!((verdict, read), (Verdict::Clean, written), "{lanes} lanes, depth {depth}");
        rig.append(small(61, 4));
        rig.finish_all();
        assert_eq!(rig.restart().expect("an undamaged log").1.len(), 61);
    }
}

#[test]
fn lanes_are_taken_from_the_first_and_writes_go_beside_each_other() {
    let mut rig = Rig::new(layout(2, 2));
    for index in 1..=4 {
        assert!(rig.wal.has_free_lane());
        rig.append(small(index, 1));
    }
    assert!(!rig.wal.has_free_lane());
    let lanes: Vec<u16> = rig.pending.iter().map(|op| op.segment.lane).collect();
    assert_eq!(lanes, [0, 0, 1, 1]);
}

#[test]
fn a_hole_stops_what_is_durable() {
    let mut rig = Rig::new(layout(2, 2));
    (1..=4).for_each(|index| rig.append(small(index, 1)));
    let mut seen = Vec::new();
    for at in [3, 0, 1, 0] {
        rig.finish(at);
        seen.push(rig.wal.durable().0);
    }
    assert_eq!(seen, [0, 1, 1, 4]);
}

#[test]
fn waiting_entries_share_a_write() {
    let mut rig = Rig::new(Layout { segment_bytes: 4 << 20, ..layout(1, 1) });
    let mut waiting: VecDeque<Entry> = (1..=10).map(|index| small(index, 1)).collect();
    waiting.push_back(entry(11, 1, 0, 1 << 20));
    rig.wal.append(Tick(0), &mut waiting, None, &mut rig.pending);
    assert_eq!((waiting.len(), rig.pending.len()), (1, 1));
    rig.finish_all();
    assert_eq!(rig.wal.durable(), RaftIndex(10));
    rig.wal.append(Tick(0), &mut waiting, None, &mut rig.pending);
    rig.finish_all();
    assert_eq!(rig.wal.durable(), RaftIndex(11));
    assert_eq!(rig.restart().expect("an undamaged log").1.len(), 11);
}

#[test]
fn a_new_leader_overwrites_by_chain_in_whatever_lane() {
    let mut rig = Rig::new(layout(3, 1));
    let older = hard_state(3, 1, 4);
    for index in 1..=9 {
        rig.append_with(small(index, 3), Some(older));
        if !rig.wal.has_free_lane() {
            rig.finish_all();
        }
    }
    rig.finish_all();
    rig.stamp(None);
    rig.finish_all();
    // The leader of term 5 brings back entries of term 2's leader: a lower term than was here.
    let mut expect: Vec<Entry> = (1..=4).map(|index| small(index, 3)).collect();
    expect.extend([small(5, 4), small(6, 4)]);
    rig.append_with(small(5, 4), Some(hard_state(5, 0, 4)));
    assert_eq!(rig.wal.durable(), RaftIndex(4));
    assert_eq!(rig.wal.last().index, RaftIndex(5));
    rig.append(small(6, 4));
    rig.finish_all();
    assert_eq!(rig.wal.durable(), RaftIndex(6));
    let (verdict, read) = rig.restart().expect("what was replaced is no loss");
    assert_eq!((verdict, read), (Verdict::Clean, expect));
    assert_eq!(rig.wal.durable_hard_state(), hard_state(5, 0, 4));
}

#[test]
fn the_end_of_a_write_that_was_replaced_counts_for_nothing() {
    let mut rig = Rig::new(layout(3, 1));
    rig.append(small(1, 1));
    rig.append(small(2, 1));
    rig.append(small(2, 2));
    rig.finish(1);
    rig.finish(0);
    assert_eq!(rig.wal.durable(), RaftIndex(1));
    rig.finish(0);
    assert_eq!(rig.wal.durable(), RaftIndex(2));
}

#[test]
fn an_entry_chains_to_one_frame_not_to_a_term() {
    let mut rig = Rig::new(layout(2, 1));
    rig.append(small(1, 1));
    rig.finish_all();
    rig.append(small(2, 1));
    rig.finish_all();
    // No raft leader does this within a term; the chain does not rest on that.
    rig.append(entry(2, 1, 1, 300));
    rig.append(entry(3, 1, 1, 300));
    rig.crash(|order, _| order == 1);
    let (verdict, read) = rig.restart().expect("the second 2 was not acknowledged");
    assert!(matches!(verdict, Verdict::Torn { .. }));
    assert_eq!(read, [small(1, 1), small(2, 1)]);
}

#[test]
fn a_frame_behind_a_hole_stays_dead() {
    let mut rig = Rig::new(layout(1, 4));
    (1..=6).for_each(|index| {
        rig.append(small(index, 1));
        if index <= 3 {
            rig.finish_all();
        }
    });
    // 4 is lost, 5 and 6 are whole.
    rig.crash(|order, _| order > 0);
    let (verdict, read) = rig.restart().expect("nothing was acknowledged beyond 3");
    assert!(matches!(verdict, Verdict::Torn { .. }));
    assert_eq!(indexes(&read), [(1, 1), (2, 1), (3, 1)]);
    // The very same entry comes again: its frame must not be the predecessor that 5 waits for.
    rig.append(small(4, 1));
    rig.finish_all();
    rig.crash(|_, _| true);
    let (verdict, read) = rig.restart().expect("4 was acknowledged");
    assert_eq!(indexes(&read), [(1, 1), (2, 1), (3, 1), (4, 1)]);
    assert_eq!(verdict, Verdict::Clean);
    rig.append(small(5, 2));
    rig.crash(|_, _| false);
    assert_eq!(rig.restart().expect("4 was acknowledged").1.len(), 4);
}

#[test]
fn a_lone_frame_behind_a_hole_stays_dead_when_nothing_was_written_since() {
    let mut rig = Rig::new(layout(2, 1));
    rig.append(small(1, 1));
    rig.append(small(2, 1));
    rig.crash(|order, _| order == 1);
    for _ in 0..3 {
        let (verdict, read) = rig.restart().expect("nothing was acknowledged");
        assert!(matches!(verdict, Verdict::Torn { .. }));
        assert!(read.is_empty());
        rig.append(small(1, 1));
        rig.crash(|_, _| false);
    }
}

#[test]
fn a_failed_operation_is_final() {
    for (lands, fault) in [(true, DiskFault::Os(5)), (false, DiskFault::NoSpace)] {
        let mut rig = Rig::new(layout(2, 1));
        rig.append(small(1, 1));
        rig.append(small(2, 1));
        let second = rig.pending.pop().expect("two writes");
        let first = rig.pending.pop().expect("two writes");
        rig.disk.apply(&first, |_| lands);
        rig.disk.apply(&second, |_| true);
        let failed = rig.wal.on_done(first.token, Err(fault), &mut rig.pending);
        assert_eq!(failed.map_err(|fault| fault.cause), Err(fault));
        assert!(rig.wal.on_done(second.token, Ok(()), &mut rig.pending).is_err());
        assert_eq!((rig.wal.durable(), rig.wal.has_free_lane()), (RaftIndex(0), false));
        assert!(rig.pending.is_empty(), "nothing is tried again");
        let sentence = rig.wal.fault().expect("it failed").to_string();
        assert!(sentence.starts_with("a write of wal/0-1.seg failed"), "{sentence}");
    }
}

#[test]
fn every_step_of_making_a_segment_may_fail_for_good() {
    for step in 0..4 {
        let mut rig = Rig::bare(Layout { segment_bytes: 2 << 20, ..layout(1, 1) });
        (0..step).for_each(|_| rig.finish(0));
        let op = rig.pending.remove(0);
        let failed = rig.wal.on_done(op.token, Err(DiskFault::Os(5)), &mut rig.pending);
        let what = failed.expect_err("a failure").what;
        assert_eq!(what, ["creation", "zero-fill", "zero-fill", "sync"][step]);
        assert!(!rig.wal.has_free_lane());
    }
}

#[test]
fn without_space_a_lane_lasts_as_long_as_its_segments() {
    let mut rig = Rig::bare(layout(1, 1));
    (0..3).for_each(|_| rig.finish(0));
    assert!(rig.wal.has_free_lane());
    // The segment ahead finds no space.
    rig.finish(0);
    let zero = rig.pending.remove(0);
    rig.wal.on_done(zero.token, Err(DiskFault::NoSpace), &mut rig.pending).expect("not final");
    assert!(rig.wal.is_out_of_space());
    rig.finish_all();
    assert_eq!(rig.disk.files.len(), 1);
    rig.append(entry(1, 1, 0, 20_000));
    rig.finish_all();
    assert!(!rig.wal.has_free_lane(), "a frame may be as large as a segment");
    rig.wal.retry_space(&mut rig.pending);
    rig.finish_all();
    assert!(rig.wal.has_free_lane() && !rig.wal.is_out_of_space());
    rig.append(entry(2, 1, 0, 60_000));
    rig.finish_all();
    assert_eq!(rig.restart().expect("an undamaged log").1.len(), 2);
}

#[test]
fn released_segments_are_used_again_and_their_old_frames_stay_away() {
    let mut rig = Rig::new(layout(1, 1));
    for index in 1..=600 {
        rig.append(small(index, 1));
        rig.finish_all();
        if index % 40 == 0 {
            rig.base = rig.wal.point(RaftIndex(index - 5)).expect("an entry of the log");
            rig.wal.release(RaftIndex(index - 5), &mut rig.pending);
            rig.finish_all();
        }
        // Up to 44 entries not yet released, 4 spare segments, one current, one ahead.
        assert!(rig.disk.files.len() <= 44 / 16 + 2 + 4 + 2, "{} files", rig.disk.files.len());
    }
    assert!(rig.disk.files.keys().all(|id| id.sequence > 20), "old numbers are gone");
    let (verdict, read) = rig.restart().expect("an undamaged log");
    assert_eq!(verdict, Verdict::Clean);
    assert_eq!(indexes(&read), (596..=600).map(|index| (index, 1)).collect::<Vec<_>>());
}

#[test]
fn the_newest_hard_state_is_never_released() {
    let mut rig = Rig::new(layout(1, 1));
    for index in 1..=16 {
        rig.append_with(small(index, 1), Some(hard_state(7, 3, 0)));
        rig.finish_all();
    }
    rig.base = rig.wal.point(RaftIndex(16)).expect("an entry");
    rig.wal.release(RaftIndex(16), &mut rig.pending);
    // The first segment is full now, and nothing is durable in the second.
    rig.append(small(17, 1));
    rig.crash(|order, _| order == usize::MAX);
    let recovered = rig.recover().expect("17 was not acknowledged");
    assert_eq!(recovered.hard_state, hard_state(7, 3, 16));
}

#[test]
fn a_segment_with_a_write_in_flight_is_not_used_again() {
    let mut rig = Rig::new(layout(1, 2));
    for index in 1..=15 {
        rig.append(small(index, 1));
        rig.finish_all();
    }
    rig.append(small(16, 1));
    rig.append(small(16, 2));
    let newer = rig.writes()[1];
    rig.finish(newer);
    assert_eq!(rig.wal.durable(), RaftIndex(16));
    rig.base = rig.wal.point(RaftIndex(16)).expect("an entry");
    rig.wal.release(RaftIndex(16), &mut rig.pending);
    // The second segment fills up and another one is needed.
    for index in 17..=40 {
        while rig.pending.len() > 1 {
            assert_ne!(rig.pending[1].segment.sequence, 1, "the full segment is left alone");
            rig.finish(1);
        }
        rig.append(small(index, 2));
    }
    rig.finish_all();
    (41..=60).for_each(|index| {
        rig.append(small(index, 2));
        rig.finish_all();
    });
    assert!(rig.disk.files.keys().all(|id| id.sequence > 1), "now it is used again");
}

#[test]
fn a_commit_beyond_what_is_left_is_lowered_to_it() {
    let mut rig = Rig::new(layout(2, 1));
    rig.append(small(1, 1));
    rig.finish_all();
    rig.append_with(small(2, 1), Some(hard_state(1, 0, 3)));
    rig.append(small(3, 1));
    rig.crash(|order, _| order == 1);
    let recovered = rig.recover().expect("2 and 3 were not acknowledged");
    assert_eq!(recovered.hard_state, hard_state(1, 0, 1));
}

#[test]
fn lanes_may_come_and_go_between_starts() {
    let mut rig = Rig::new(layout(3, 1));
    let mut next = 1;
    for lanes in [3, 1, 2, 4] {
        rig.layout.lanes = lanes;
        let (verdict, read) = rig.restart().unwrap_or_else(|_| {
            assert_eq!(next, 1, "a log in use is read");
            (Verdict::Clean, Vec::new())
        });
        assert_eq!((verdict, read.len() as u64), (Verdict::Clean, next - 1));
        for _ in 0..10 {
            while rig.wal.has_free_lane() {
                rig.append(small(next, 1));
                next += 1;
            }
            rig.finish_all();
        }
    }
    rig.layout.lanes = 1;
    rig.restart().expect("an undamaged log");
    let last = RaftIndex(next - 1);
    rig.append(small(next, 1));
    rig.finish_all();
    rig.base = rig.wal.point(last).expect("an entry");
    rig.wal.release(last, &mut rig.pending);
    rig.finish_all();
    assert!(rig.disk.files.keys().all(|id| id.lane == 0), "lanes given up are emptied");
    assert_eq!(rig.restart().expect("an undamaged log").1.len(), 1);
}

#[test]
fn a_size_of_segments_may_change_between_starts() {
    let mut rig = Rig::new(layout(1, 1));
    rig.append(small(1, 1));
    rig.finish_all();
    for segment_bytes in [8 * 4096, 32 * 4096] {
        rig.layout.segment_bytes = segment_bytes;
        let len = rig.restart().expect("an undamaged log").1.len() as u64;
        for index in len + 1..=len + 40 {
            rig.append(small(index, 1));
            rig.finish_all();
        }
    }
    rig.base = rig.wal.point(RaftIndex(80)).expect("an entry");
    rig.wal.release(RaftIndex(80), &mut rig.pending);
    rig.finish_all();
    for index in 82..=200 {
        rig.append(small(index, 1));
        rig.finish_all();
    }
    let (_, read) = rig.restart().expect("an undamaged log");
    assert_eq!(read.len(), 120);
}

#[test]
fn half_made_segments_are_made_again() {
    for steps in 0..8 {
        let mut rig = Rig::bare(Layout { segment_bytes: 2 << 20, ..layout(1, 1) });
        (0..steps).for_each(|_| rig.finish(0));
        rig.crash(|_, _| steps % 2 == 0);
        let recovered = recover(&rig.disk, &known(rig.base, false)).expect("no log yet");
        rig.wal = Wal::open(rig.layout, &recovered, Tick(0), &mut rig.pending);
        rig.finish_all();
        rig.append(small(1, 1));
        rig.finish_all();
        assert_eq!(rig.restart().expect("an undamaged log").1.len(), 1, "{steps}");
    }
}

#[test]
fn an_idle_log_stamps_once() {
    let mut rig = Rig::new(layout(1, 1));
    assert_eq!(rig.wal.stamp_due(), None);
    rig.now = Tick(5);
    rig.append(small(1, 1));
    assert_eq!(rig.wal.stamp_due(), None);
    rig.finish_all();
    assert_eq!(rig.wal.stamp_due(), Some(Tick(5).plus_ms(10)));
    rig.stamp(None);
    assert_eq!(rig.wal.stamp_due(), None);
    rig.finish_all();
    assert_eq!(rig.wal.stamp_due(), None);
    rig.append(small(1, 2));
    rig.finish_all();
    assert!(rig.wal.stamp_due().is_some(), "what was replaced needs a witness anew");
    rig.stamp(None);
    rig.finish_all();
    // What a restart found has a witness already.
    rig.restart().expect("an undamaged log");
    assert_eq!(rig.wal.stamp_due(), None);
    rig.append(small(2, 2));
    rig.finish_all();
    rig.restart().expect("an undamaged log");
    assert!(rig.wal.stamp_due().is_some());
}

#[test]
fn a_snapshot_takes_the_logs_place() {
    // Crashed before the superblock, after it, and after the next entry.
    for stage in 0..3 {
        let mut rig = Rig::new(layout(2, 1));
        for index in 1..=9 {
            rig.append_with(small(index, 1), Some(hard_state(1, 0, 3)));
            rig.finish_all();
        }
        rig.stamp(None);
        rig.finish_all();
        let point = rig.wal.snapshot_point(RaftIndex(7), Term(2));
        rig.stamp(Some(hard_state(2, 0, 3)));
        rig.finish_all();
        if stage > 0 {
            rig.base = point;
            rig.wal.reset(point, &mut rig.pending);
        }
        if stage > 1 {
            rig.append(small(8, 2));
            rig.finish_all();
        }
        let recovered = rig.recover().expect("no stage of it is damage");
        assert_eq!(recovered.last().index.0, [9, 7, 8][stage]);
        assert_eq!(recovered.hard_state, hard_state(2, 0, [3, 7, 7][stage]));
        let (_, read) = rig.restart().expect("no stage of it is damage");
        assert_eq!(read.last().map(|last| last.term.0), [Some(1), None, Some(2)][stage]);
    }
}

#[test]
#[should_panic(expected = "does not follow the log, which ends at 1")]
fn an_entry_out_of_order_is_a_bug() {
    let mut rig = Rig::new(layout(1, 2));
    rig.append(small(1, 1));
    rig.append(small(3, 1));
}

#[test]
#[should_panic(expected = "the vote changed within a term")]
fn a_second_vote_is_a_bug() {
    let mut rig = Rig::new(layout(1, 2));
    rig.stamp(Some(hard_state(4, 1, 0)));
    rig.stamp(Some(hard_state(4, 2, 0)));
}
