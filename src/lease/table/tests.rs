use super::*;
use crate::base::prng::Prng;

const A: LeaseId = LeaseId(10);
const B: LeaseId = LeaseId(-3);

fn table() -> (LeaseTable, Arc<LeaseMetrics>) {
    let metrics = Arc::new(LeaseMetrics::default());
    (LeaseTable::new(Arc::clone(&metrics)), metrics)
}

fn at_ms(ms: u64) -> Tick {
    Tick(0).plus_ms(ms)
}

#[test]
fn a_follower_has_no_deadlines() {
    let (mut table, _) = table();
    table.grant(A, 5, at_ms(0));
    assert_eq!(table.next_deadline(), None);
    assert!(table.due(at_ms(1 << 40), 10).is_empty());
    assert_eq!(table.renew(A, at_ms(1)), Renewal::NotLeading);
    assert_eq!(table.remaining_s(A, at_ms(1)), Some(9_223_372_036));
    assert_eq!(table.granted_s(A), Some(5));
}

#[test]
fn a_new_leader_gives_every_lease_its_ttl_and_more() {
    let (mut table, _) = table();
    table.grant(A, 5, at_ms(0));
    table.lead(at_ms(60_000), 1_000);
    table.grant(B, 2, at_ms(60_500));
    assert_eq!(table.by_expiry(), [B, A]);
    assert_eq!(table.next_deadline(), Some(at_ms(62_500)));
    assert_eq!(table.remaining_s(A, at_ms(60_001)), Some(5));
    assert_eq!(table.remaining_s(A, at_ms(60_000)), Some(6));
    assert_eq!(table.due(at_ms(65_999), 10), [B]);
    assert_eq!(table.due(at_ms(66_000), 10), [B, A]);
    assert_eq!(table.due(at_ms(66_000), 1), [B]);
    assert_eq!(table.remaining_s(A, at_ms(70_000)), Some(0));
    table.follow();
    assert_eq!(table.next_deadline(), None);
    assert_eq!(table.by_expiry(), [B, A]);
}

#[test]
fn a_renewal_never_shortens_what_was_promised() {
    let (mut table, _) = table();
    table.grant(A, 5, at_ms(0));
    table.lead(at_ms(0), 10_000);
    assert_eq!(table.renew(A, at_ms(1_000)), Renewal::Renewed(5));
    assert_eq!(table.next_deadline(), Some(at_ms(15_000)));
    assert_eq!(table.renew(A, at_ms(12_000)), Renewal::Renewed(5));
    assert!(table.due(at_ms(16_999), 10).is_empty());
    assert_eq!(table.next_deadline(), Some(at_ms(17_000)));
    assert_eq!(table.due(at_ms(17_000), 10), [A]);
    assert_eq!(table.renew(B, at_ms(12_000)), Renewal::Missing);
}

#[test]
fn another_core_renews_and_meets_the_end() {
    let (mut table, _) = table();
    table.lead(at_ms(0), 0);
    table.grant(A, 5, at_ms(0));
    let line = table.lifeline(A).expect("a lease that exists");
    assert_eq!(table.due(at_ms(5_000), 10), [A]);
    assert_eq!(line.renew(at_ms(5_000)), Renewal::Renewed(5));
    // Found out about when its end is decided, and where it stood among the deadlines.
    assert!(!table.mark_going(A, Cause::Expired, at_ms(5_000)));
    assert!(table.due(at_ms(9_999), 10).is_empty());
    assert_eq!(table.next_deadline(), Some(at_ms(10_000)));
    assert!(table.mark_going(A, Cause::Expired, at_ms(10_000)));
    assert_eq!(line.renew(at_ms(10_000)), Renewal::Going);
    table.mark_staying(A);
    assert_eq!(line.renew(at_ms(10_000)), Renewal::Renewed(5));
    assert!(table.mark_going(A, Cause::Revoked, at_ms(10_000)));
    table.revoke(A);
    table.grant(A, 9, at_ms(10_000));
    assert_eq!(line.renew(at_ms(10_000)), Renewal::Going, "the next of its name is another");
    table.follow();
    let line = table.lifeline(A).expect("a lease that exists");
    assert_eq!(line.renew(at_ms(10_000)), Renewal::NotLeading);
}

#[test]
fn a_pile_of_renewals_is_looked_at_in_slices() {
    let (mut table, _) = table();
    table.lead(at_ms(0), 0);
    let count = 2 * LEASES_MOVED_PER_PASS as i64 + 1;
    for id in 1..=count {
        table.grant(LeaseId(id), 5, at_ms(0));
        table.renew(LeaseId(id), at_ms(1_000));
    }
    for passes in 1..=3 {
        assert_eq!(table.next_deadline(), Some(at_ms(5_000)), "pass {passes}");
        assert!(table.due(at_ms(5_000), 10).is_empty());
    }
    assert_eq!(table.next_deadline(), Some(at_ms(6_000)));
    assert_eq!(table.due(at_ms(6_000), usize::MAX).len() as i64, count);
}

#[test]
fn who_is_going_waits_for_the_outcome() {
    let (mut table, metrics) = table();
    table.lead(at_ms(0), 0);
    table.grant(A, 5, at_ms(0));
    table.grant(B, 6, at_ms(0));
    // A late keep-alive rescues a lease that nobody has marked yet.
    assert_eq!(table.due(at_ms(5_000), 10), [A]);
    assert_eq!(table.renew(A, at_ms(5_000)), Renewal::Renewed(5));
    assert!(!table.mark_going(A, Cause::Expired, at_ms(5_000)), "it was renewed");
    assert!(table.mark_going(A, Cause::Expired, at_ms(10_000)));
    assert_eq!(table.renew(A, at_ms(6_000)), Renewal::Going);
    assert_eq!(table.due(at_ms(99_000), 10), [B]);
    table.mark_staying(A);
    assert_eq!(table.due(at_ms(99_000), 10), [B, A]);
    assert!(table.mark_going(A, Cause::Expired, at_ms(99_000)));
    assert!(table.mark_going(B, Cause::Revoked, at_ms(99_000)));
    assert_eq!(table.next_deadline(), None);
    assert_eq!(table.by_expiry(), [B, A]);
    table.revoke(A);
    table.revoke(B);
    assert!(table.is_empty());
    assert_eq!(table.renew(A, at_ms(6_000)), Renewal::Missing);
    // The next of its name may be on its way: a client can end it, an expiry was not for it.
    assert!(!table.mark_going(A, Cause::Expired, at_ms(99_000)));
    assert!(table.mark_going(A, Cause::Revoked, at_ms(99_000)));
    assert_eq!((metrics.revoked.value(), metrics.expired.value()), (2, 1));
}

#[test]
fn the_end_of_a_term_undoes_the_marks() {
    let (mut table, _) = table();
    table.lead(at_ms(0), 0);
    table.grant(A, 5, at_ms(0));
    assert!(table.mark_going(A, Cause::Expired, at_ms(5_000)));
    table.follow();
    table.lead(at_ms(7_000), 0);
    assert_eq!(table.renew(A, at_ms(7_000)), Renewal::Renewed(5));
}

#[test]
fn a_pile_up_is_spread_over_seconds() {
    let (mut table, metrics) = table();
    for id in 1..=2_000 {
        table.grant(LeaseId(id), 60, at_ms(0));
    }
    table.grant(LeaseId(5_000), 61, at_ms(0));
    table.grant(LeaseId(5_001), 90, at_ms(0));
    table.lead(at_ms(0), 0);
    for (ms, expect) in
        [(59_999, 0), (60_000, 750), (60_999, 750), (61_000, 1_500), (62_000, 2_001)]
    {
        assert_eq!(table.due(at_ms(ms), usize::MAX).len(), expect, "at {ms} ms");
    }
    assert_eq!(table.due(at_ms(90_000), usize::MAX).len(), 2_002);
    assert!(!table.mark_going(LeaseId(5_001), Cause::Expired, at_ms(89_999)));
    let sixty: u64 = metrics.ttl.buckets().filter(|(le, _)| *le == 64e9).map(|(_, n)| n).sum();
    assert_eq!(sixty, 2_001);
}

/// The same table, by scanning everything: TTL, deadline, going.
type Plain = Vec<(LeaseId, i64, Option<Tick>, bool)>;

#[test]
fn agrees_with_a_plain_list_on_random_steps() {
    for seed in 0..20 {
        let mut prng = Prng::new(seed);
        let (mut table, _) = table();
        let mut plain: Plain = Vec::new();
        let (mut now, mut leading) = (at_ms(0), false);
        for step in 0..2_000 {
            let context = format!("seed {seed} step {step}");
            now = now.plus_ms(prng.below(400));
            let id = LeaseId(1 + prng.below(40) as i64);
            let ttl_s = 1 + prng.below(30) as i64;
            let found = plain.iter().position(|(known, ..)| *known == id);
            match (prng.below(20), found) {
                (0..6, None) => {
                    table.grant(id, ttl_s, now);
                    plain.push((id, ttl_s, leading.then(|| after(now, ttl_s)), false));
                }
                (0..2, Some(at)) => {
                    table.revoke(id);
                    plain.swap_remove(at);
                }
                (2..5, Some(at)) if leading && !plain[at].3 => {
                    let is_due = plain[at].2.is_some_and(|deadline| deadline <= now);
                    let cause = if prng.percent(50) { Cause::Expired } else { Cause::Revoked };
                    let goes = cause == Cause::Revoked || is_due;
                    assert_eq!(table.mark_going(id, cause, now), goes, "{context}");
                    plain[at].3 = goes;
                }
                (5..8, Some(at)) if leading => {
                    table.mark_staying(id);
                    plain[at].3 = false;
                }
                (8..16, _) => {
                    let expect = match found.map(|at| &mut plain[at]) {
                        _ if !leading => Renewal::NotLeading,
                        None => Renewal::Missing,
                        Some((.., true)) => Renewal::Going,
                        Some((_, ttl_s, deadline, _)) => {
                            *deadline = (*deadline).max(Some(after(now, *ttl_s)));
                            Renewal::Renewed(*ttl_s)
                        }
                    };
                    assert_eq!(table.renew(id, now), expect, "{context}");
                }
                (16, _) if prng.percent(20) => {
                    leading = !leading;
                    if leading {
                        table.lead(now, 500);
                    } else {
                        table.follow();
                    }
                    for (_, ttl_s, deadline, going) in &mut plain {
                        *deadline = leading.then(|| after(now.plus_ms(500), *ttl_s));
                        *going = false;
                    }
                }
                _ => {}
            }
            check(&mut table, &plain, now, &context);
        }
    }
}

fn check(table: &mut LeaseTable, plain: &Plain, now: Tick, context: &str) {
    let mut order: Vec<(Tick, LeaseId, bool)> = plain
        .iter()
        .map(|(id, _, deadline, going)| (deadline.unwrap_or(Tick(u64::MAX)), *id, *going))
        .collect();
    order.sort_unstable();
    let ids = |keep: &dyn Fn(&(Tick, LeaseId, bool)) -> bool| -> Vec<LeaseId> {
        order.iter().filter(|entry| keep(entry)).map(|(_, id, _)| *id).collect()
    };
    assert_eq!(table.by_expiry(), ids(&|_| true), "{context}");
    let due = ids(&|(deadline, _, going)| *deadline <= now && !going);
    assert_eq!(table.due(now, usize::MAX), due, "{context}");
    let next = order.iter().find(|(deadline, _, going)| !going && *deadline < Tick(u64::MAX));
    let next = next.map(|(deadline, ..)| *deadline);
    assert_eq!(table.next_deadline().is_some(), next.is_some(), "{context}");
    assert!(table.next_deadline() <= next, "{context}: looked at in time");
    assert_eq!(table.len(), plain.len(), "{context}");
    assert!(table.deadlines.len() <= plain.len(), "{context}: an entry for each at most");
    for (id, ttl_s, deadline, _) in plain {
        assert_eq!(table.granted_s(*id), Some(*ttl_s), "{context}");
        let left_s = deadline.map_or(9_223_372_036, |deadline| {
            i64::try_from(deadline.since(now) / 1_000_000_000).expect("short TTLs")
        });
        assert_eq!(table.remaining_s(*id, now), Some(left_s), "{context}");
    }
}
