//! The list of runs: its filter, its rows, and which run is selected.

use crate::event::Request;
use crate::filter::Filter;
use crate::pages::{Paged, Pages};
use tenure_client::{Page, RunFilter, RunSummary};
use tui_input::Input;
use uuid::Uuid;

/// Runs per page.
const PAGE_RUNS: u32 = 100;

/// The list of runs.
#[derive(Clone, Debug, Default)]
pub struct RunList {
    /// The filter in use.
    pub(crate) filter: Filter,
    /// The filter line while it is edited.
    pub(crate) editing: Option<Input>,
    /// The rows; `None` until the first answer.
    rows: Option<Vec<RunSummary>>,
    selected: Option<Uuid>,
    index: usize,
    pages: Pages,
}

impl RunList {
    /// Lists what passes the filter, from the first page.
    pub(crate) fn with_filter(filter: Filter) -> Self {
        Self {
            filter,
            ..Self::default()
        }
    }

    /// The next question to the server.
    pub(crate) fn request(&self) -> Request {
        Request::Runs(RunFilter {
            cursor: self.pages.cursor(),
            limit: Some(PAGE_RUNS),
            ..self.filter.query.clone()
        })
    }

    /// Takes a page of runs. The selection stays on its run; when that is gone, on its place.
    pub(crate) fn take_runs(&mut self, page: Page<RunSummary>) {
        self.pages.followed_by(page.next_cursor);
        self.rows = Some(page.items);
        self.select(self.position());
    }

    /// The rows on show.
    pub fn rows(&self) -> &[RunSummary] {
        self.rows.as_deref().unwrap_or_default()
    }

    /// Whether the server has answered yet.
    pub(crate) fn is_loaded(&self) -> bool {
        self.rows.is_some()
    }

    /// The selected run.
    pub fn selected(&self) -> Option<&RunSummary> {
        self.rows().get(self.position())
    }

    /// The place of the selected run.
    pub(crate) fn position(&self) -> usize {
        let found = self
            .rows()
            .iter()
            .position(|run| Some(run.run_id) == self.selected);
        found
            .unwrap_or(self.index)
            .min(self.rows().len().saturating_sub(1))
    }

    /// Moves the selection by rows, stopping at the ends.
    pub(crate) fn step(&mut self, by: isize) {
        let last = self.rows().len().saturating_sub(1);
        self.select(self.position().saturating_add_signed(by).min(last));
    }

    fn select(&mut self, index: usize) {
        self.index = index;
        self.selected = self.rows().get(index).map(|run| run.run_id);
    }
}

impl Paged for RunList {
    fn pages(&self) -> &Pages {
        &self.pages
    }

    fn pages_mut(&mut self) -> &mut Pages {
        &mut self.pages
    }

    fn forget(&mut self) {
        self.rows = None;
        self.selected = None;
        self.index = 0;
    }
}
