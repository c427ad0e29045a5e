//! All schedules, and closely the one under the cursor: its coming slots and what became of the last.

use crate::dialog::{Subject, SubjectId};
use crate::event::{Request, ScheduleVerb};
use crate::slots;
use crate::tree::{Folding, Node};
use std::collections::BTreeMap;
use tenure_client::{AllowedAction, Schedule, ScheduleDetail};
use uuid::Uuid;

/// All schedules.
#[derive(Clone, Debug, Default)]
pub struct Schedules {
    /// The schedules; `None` until the first answer.
    pub(crate) all: Option<Vec<Schedule>>,
    /// What is folded.
    pub(crate) folding: Folding,
    /// Those that the cursor was on, as the server described them last.
    details: BTreeMap<Uuid, ScheduleDetail>,
}

impl Schedules {
    /// The next question to the server.
    pub(crate) fn request(&self) -> Request {
        Request::Schedules(self.chosen().map(|schedule| schedule.schedule_id))
    }

    /// Takes the server's answer; says whether it was the first, so that the one under the cursor is
    /// still to be asked for.
    pub(crate) fn take(&mut self, all: Vec<Schedule>, detail: Option<Box<ScheduleDetail>>) -> bool {
        let is_first = self.all.replace(all).is_none();
        let detail = detail.map(|detail| (detail.schedule.schedule_id, *detail));
        self.details.extend(detail);
        is_first
    }

    /// Whether the one under the cursor is not known closely.
    pub(crate) fn lacks_detail(&self) -> bool {
        self.chosen().is_some() && self.detail().is_none()
    }

    /// The schedules as lines that fold.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        let all = self.all.iter().flatten();
        all.map(|schedule| {
            let detail = self.details.get(&schedule.schedule_id);
            slots::node(schedule, detail)
        })
        .collect()
    }

    /// The one under the cursor as something to act on, once it is known closely.
    pub(crate) fn subject(&self) -> Option<Subject> {
        let schedule = &self.detail()?.schedule;
        let tenant = slots::owner(self.chosen()?);
        Some(Subject {
            id: SubjectId::Schedule(schedule.schedule_id),
            title: format!("schedule {} of {tenant}", schedule.name),
            revision: schedule.revision,
        })
    }

    /// What could be done to it from here.
    pub(crate) fn actions(&self) -> Vec<&AllowedAction> {
        let actions = self.detail().into_iter();
        actions
            .flat_map(|detail| &detail.allowed_actions)
            .filter(|action| ScheduleVerb::parse(&action.action).is_some())
            .collect()
    }

    /// The revision of a schedule, as the server named it last.
    pub(crate) fn revision(&self, schedule_id: Uuid) -> Option<i64> {
        let all = self.all.iter().flatten();
        let mut found = all.filter(|schedule| schedule.schedule_id == schedule_id);
        found.next().map(|schedule| schedule.revision)
    }

    fn detail(&self) -> Option<&ScheduleDetail> {
        self.details.get(&self.chosen()?.schedule_id)
    }

    /// The schedule that the cursor is on, or in.
    fn chosen(&self) -> Option<&Schedule> {
        let nodes = self.nodes();
        let rows = self.folding.rows(&nodes);
        let id = &rows.get(self.folding.position(&rows))?.node.id;
        let mut all = self.all.iter().flatten();
        all.find(|schedule| id.starts_with(&slots::id(schedule)))
    }
}
