//! Alarms: raised by clients and by the quota, in force from the moment they are decided.

use super::AlarmChange;
use super::Leader;
use crate::base::effect::{AlarmKind, Effect};
use crate::base::limits::OPERATIONS_MAX;
use crate::base::reject::Reject;
use crate::node::coordinator::{Kind, prepared};
use crate::node::mail::Origin;
use crate::node::{Here, Outbox};
use crate::orderer::{Place, Proposal};
use crate::wire::call::Answer;
use crate::wire::etcdserverpb as pb;

impl Leader {
    pub(super) fn set_alarm(&mut self, member: u64, kind: AlarmKind, raised: bool) {
        if raised {
            self.alarms.insert((member, kind));
        } else {
            self.alarms.remove(&(member, kind));
        }
    }

    pub(super) fn alarm(
        &mut self,
        here: &mut Here,
        origin: Origin,
        request: pb::AlarmRequest,
        out: &mut Outbox,
    ) {
        use pb::alarm_request::AlarmAction;
        let kind = match request.alarm() {
            pb::AlarmType::None => None,
            pb::AlarmType::Nospace => Some(AlarmKind::NoSpace),
            pb::AlarmType::Corrupt => Some(AlarmKind::Corrupt),
        };
        let member = request.member_id;
        let change = match (request.action(), kind) {
            (AlarmAction::Activate, Some(kind)) => AlarmChange::Raise(member, kind),
            (AlarmAction::Deactivate, Some(kind)) => AlarmChange::Clear(member, kind),
            (AlarmAction::Get, _) => {
                let wanted = |(_, held): &&(u64, AlarmKind)| kind.is_none_or(|kind| kind == *held);
                let alarms = self.alarms.iter().filter(wanted).copied().collect();
                if self.alarms_in_flight > 0 {
                    // It waits for what it lists, and shows the revision that this stands behind.
                    let revision = here.shared.newest_taken();
                    let answer = Some(prepared(origin, Ok(Answer::Alarm { revision, alarms })));
                    let (place, effects) = (Place::Behind(revision), Vec::new());
                    self.orderer.offer(Proposal { place, effects, bytes: 0, credit: 0, answer });
                    return;
                }
                let revision = here.shared.committed().0;
                return here.answer(origin, Ok(Answer::Alarm { revision, alarms }), out);
            }
            (_, None) => {
                let revision = here.shared.committed().0;
                let alarms = Vec::new();
                return here.answer(origin, Ok(Answer::Alarm { revision, alarms }), out);
            }
        };
        let shards = here.topology.router().all();
        self.coordinator.begin(here, Kind::Alarm(Some(origin), change), shards, Vec::new(), out);
    }

    /// A call met the quota while no alarm was on. It is refused behind the alarm's own entry, so
    /// that who is refused finds the alarm raised.
    pub(in crate::node) fn refuse_for_space(
        &mut self,
        here: &mut Here,
        origin: Origin,
        out: &mut Outbox,
    ) {
        let (member, kind) = (here.config.member, AlarmKind::NoSpace);
        if self.alarms.contains(&(member, kind)) {
            let in_flight = self.is_unsettled(here);
            return self.refuse(here, origin, self.space_reject(), in_flight, out);
        }
        if self.no_space.len() >= OPERATIONS_MAX {
            return here.answer(origin, Err(Reject::TooManyRequests), out);
        }
        self.no_space.push(origin);
        if self.no_space.len() == 1 {
            self.raise_for_space(here, out);
        }
    }

    /// Raises the space alarm of this member, if it is not raised.
    pub(super) fn raise_for_space(&mut self, here: &mut Here, out: &mut Outbox) {
        let (member, kind) = (here.config.member, AlarmKind::NoSpace);
        if self.is_open() && !self.alarms.contains(&(member, kind)) {
            let kind = Kind::Alarm(None, AlarmChange::Raise(member, kind));
            let shards = here.topology.router().all();
            self.coordinator.begin(here, kind, shards, Vec::new(), out);
        }
    }

    /// The calls that were waiting for the space alarm, once it is raised, and what they are told.
    pub(in crate::node) fn take_refused(&mut self, here: &Here) -> Vec<(Origin, Reject)> {
        if !self.alarms.contains(&(here.config.member, AlarmKind::NoSpace)) {
            return Vec::new();
        }
        let reject = self.space_reject();
        std::mem::take(&mut self.no_space).into_iter().map(|origin| (origin, reject)).collect()
    }

    /// The corruption alarm is looked at before the quota, and may have come meanwhile.
    fn space_reject(&self) -> Reject {
        if self.is_corrupt() { Reject::Corrupt } else { Reject::NoSpace }
    }

    /// Decides a change of alarms: the effects, and the alarms that the answer lists.
    pub(in crate::node) fn change_alarms(
        &mut self,
        change: AlarmChange,
    ) -> (Vec<Effect>, Vec<(u64, AlarmKind)>) {
        let (member, kind, raised) = match change {
            AlarmChange::Raise(member, kind) => (member, kind, true),
            AlarmChange::Clear(member, kind) => (member, kind, false),
        };
        let held = self.alarms.contains(&(member, kind));
        if held == raised {
            let alarms = if raised { vec![(member, kind)] } else { Vec::new() };
            return (Vec::new(), alarms);
        }
        self.set_alarm(member, kind, raised);
        self.alarms_in_flight += 1;
        (vec![Effect::Alarm { member, kind, raised }], vec![(member, kind)])
    }
}
