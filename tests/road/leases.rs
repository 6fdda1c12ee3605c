//! Grants, ends and renewals that meet what is in flight.

use super::*;

#[test]
fn no_key_outlives_its_lease() {
    let mut rig = rig();
    let b = rig.key(1, 0);
    assert!(rig.ask(0, grant(7)).is_ok());
    // A put before the latch is deleted with the lease, one behind it is refused.
    let early = rig.call(1, Request::Put(put_of(&b, "early", 7)));
    rig.step(1);
    let revoke = rig.call(0, Request::LeaseRevoke(LeaseId(7)));
    rig.step(0);
    rig.deliver(0, 1, |mail| matches!(mail, Mail::Latch(..)));
    rig.step(1);
    let late = rig.call(1, Request::Put(put_of(&b, "late", 7)));
    rig.step(1);
    assert!(rig.reply(late).is_none(), "a latched shard evaluates nothing");
    rig.run();
    assert_eq!((revision(rig.reply(early)), revision(rig.reply(revoke))), (2, 3));
    assert_eq!(refused(rig.reply(late)), Reject::LeaseNotFound);
    let Ok(Answer::Range(left)) = rig.ask(1, Request::Range(everything())) else { panic!() };
    assert_eq!(left.count, 0);
}

#[test]
fn a_key_that_moved_to_another_lease_stays() {
    let mut rig = rig();
    let b = rig.key(1, 0);
    assert!(rig.ask(0, grant(7)).is_ok() && rig.ask(0, grant(8)).is_ok());
    assert_eq!(revision(Some(rig.ask(1, Request::Put(put_of(&b, "v", 7))))), 2);
    let moved = rig.call(1, Request::Put(put_of(&b, "w", 8)));
    rig.step(1);
    let revoke = rig.call(0, Request::LeaseRevoke(LeaseId(7)));
    rig.run();
    assert_eq!((revision(rig.reply(moved)), revision(rig.reply(revoke))), (3, 3));
    let Ok(Answer::Range(left)) = rig.ask(1, Request::Range(get(&b, 0))) else { panic!() };
    assert_eq!(left.count, 1);
}

#[test]
fn a_lease_that_is_being_granted_is_there_for_what_comes_behind_it() {
    let mut rig = rig();
    let b = rig.key(1, 0);
    let granted = rig.call(0, grant(7));
    rig.step(0);
    // The grant stands behind revision 1 and no shard knows of it. The second core's put takes
    // revision 2, so that what rests on it stands behind the grant too.
    let first = rig.call(1, put(&b, "x"));
    rig.step(1);
    let on_it = rig.call(1, if_version(&b, 1, Op::RequestPut(put_of(&b, "y", 7))));
    let on_none = rig.call(1, if_version(&b, 1, Op::RequestPut(put_of(&b, "y", 8))));
    rig.step(1);
    rig.run();
    assert_eq!((revision(rig.reply(granted)), revision(rig.reply(first))), (1, 2));
    assert_eq!(revision(rig.reply(on_it)), 3);
    let Some(Ok(Answer::Txn(missed))) = rig.reply(on_none) else { panic!("no key is put") };
    assert!(!missed.succeeded, "what was put on the lease is in flight and counts");
    let gone = rig.ask(1, Request::Put(put_of(&b, "z", 8)));
    assert_eq!(refused(Some(gone)), Reject::LeaseNotFound);
}

#[test]
fn a_lease_that_is_being_granted_can_be_revoked() {
    let mut rig = rig();
    let b = rig.key(1, 0);
    let granted = rig.call(0, grant(7));
    let revoke = rig.call(0, Request::LeaseRevoke(LeaseId(7)));
    rig.step(0);
    let early = rig.call(1, Request::Put(put_of(&b, "x", 7)));
    rig.step(1);
    rig.run();
    assert_eq!((revision(rig.reply(granted)), revision(rig.reply(revoke))), (1, 1));
    assert_eq!(refused(rig.reply(early)), Reject::LeaseNotFound);
}

#[test]
fn a_refusal_by_a_lease_that_is_going_waits_for_its_end() {
    let mut rig = rig();
    let b = rig.key(1, 0);
    assert!(rig.ask(0, grant(7)).is_ok());
    let revoke = rig.call(0, Request::LeaseRevoke(LeaseId(7)));
    decide(&mut rig);
    rig.deliver(0, 1, |_| false);
    rig.step(1);
    let late = rig.call(1, Request::Put(put_of(&b, "x", 7)));
    for _ in 0..3 {
        rig.step(1);
        rig.deliver(1, 0, |_| false);
        rig.step(0);
        rig.deliver(0, 1, |_| false);
    }
    assert!(rig.reply(late).is_none(), "the end of the lease may be lost yet");
    rig.run();
    assert_eq!(revision(rig.reply(revoke)), 1);
    assert_eq!(refused(rig.reply(late)), Reject::LeaseNotFound);
}

#[test]
fn a_grant_is_answered_once_every_shard_knows_of_it() {
    let mut rig = rig();
    let granted = rig.call(0, grant(7));
    let again = rig.call(1, grant(7));
    rig.step(1);
    rig.deliver(1, 0, |_| false);
    rig.step(0);
    assert!(rig.reply(again).is_none(), "the first grant may be lost yet");
    rig.sync();
    rig.step(0);
    assert!(rig.reply(granted).is_none(), "the second core has not applied it");
    rig.run();
    assert_eq!(revision(rig.reply(granted)), 1);
    assert_eq!(refused(rig.reply(again)), Reject::LeaseExists);
}

/// A member with a key on lease 7, whose time has come and whose end waits for the latches.
fn expiring() -> (Rig, Bytes) {
    let mut rig = rig();
    let b = rig.key(1, 0);
    let short = Request::LeaseGrant(pb::LeaseGrantRequest { ttl: 2, id: 7 });
    assert!(rig.ask(0, short).is_ok());
    assert_eq!(revision(Some(rig.ask(1, Request::Put(put_of(&b, "v", 7))))), 2);
    rig.now = rig.now.plus_ms(2_500);
    rig.step(0);
    (rig, b)
}

fn ttl_s(reply: Option<Reply>) -> i64 {
    let Some(Ok(Answer::LeaseKeepAlive { ttl_s, .. })) = reply else { panic!("{reply:?}") };
    ttl_s
}

#[test]
fn a_deadline_is_looked_at_once_more_under_the_latch() {
    let (mut rig, b) = expiring();
    let renewed = rig.call(0, Request::LeaseKeepAlive(LeaseId(7)));
    rig.run();
    assert_eq!(ttl_s(rig.reply(renewed)), 2);
    let Ok(Answer::Range(left)) = rig.ask(1, Request::Range(get(&b, 0))) else { panic!() };
    assert_eq!((left.revision, left.count), (Revision(2), 1));
}

#[test]
fn an_end_that_is_decided_is_not_taken_back() {
    let (mut rig, b) = expiring();
    decide(&mut rig);
    let late = rig.call(0, Request::LeaseKeepAlive(LeaseId(7)));
    rig.deliver(0, 1, |_| false);
    let anew = rig.call(1, put(&b, "w"));
    rig.step(1);
    rig.step(0);
    assert!(rig.reply(late).is_none(), "whether the lease ends is not known yet");
    rig.run();
    assert_eq!(ttl_s(rig.reply(late)), 0);
    assert_eq!(revision(rig.reply(anew)), 4);
    let Ok(Answer::Range(left)) = rig.ask(1, Request::Range(get(&b, 0))) else { panic!() };
    let versions: Vec<_> = left.records.iter().map(|record| record.version).collect();
    assert_eq!(versions, [1], "the key was deleted at 3 and made anew");
}

#[test]
fn renewals_that_wait_are_bounded() {
    let (mut rig, _) = expiring();
    decide(&mut rig);
    let renew = || Request::LeaseKeepAlive(LeaseId(7));
    let first = rig.call(0, renew());
    for _ in 1..limits::LEASE_WAITING_MAX {
        let _ = rig.call(0, renew());
    }
    let one_more = rig.call(0, renew());
    rig.step(0);
    assert_eq!(refused(rig.reply(one_more)), Reject::TooManyRequests);
    assert!(rig.reply(first).is_none());
    rig.run();
    assert_eq!(ttl_s(rig.reply(first)), 0);
    // There is room again.
    assert_eq!(ttl_s(Some(rig.ask(0, renew()))), 0);
}
