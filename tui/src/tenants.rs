//! Finding a tenant by name, mail address or id.

use crate::event::{Answer, Door, Request};
use crate::keymap::Context;
use crate::place::{self, Place, cell};
use crate::theme::Tone;
use crate::tree::{Folding, Node};
use tenure_client::{Page, Tenant};
use tui_input::Input;

/// Tenants that were looked for.
#[derive(Clone, Debug)]
pub struct Tenants {
    /// What name, mail address or id must contain.
    pub(crate) query: String,
    /// The same while it is typed.
    pub(crate) editing: Option<Input>,
    /// Those that were found; `None` until the first answer.
    pub(crate) found: Option<Page<Tenant>>,
    folding: Folding,
}

impl Default for Tenants {
    /// Begins with the question for whom.
    fn default() -> Self {
        Self {
            query: String::new(),
            editing: Some(Input::default()),
            found: None,
            folding: Folding::default(),
        }
    }
}

impl Tenants {
    /// Looks for what was typed.
    pub(crate) fn search(&mut self) {
        if let Some(input) = self.editing.take() {
            self.query = input.value().trim().to_owned();
            self.found = None;
            self.folding = Folding::default();
        }
    }

    fn all(&self) -> &[Tenant] {
        self.found.as_ref().map_or(&[], |page| &page.items)
    }
}

impl Place for Tenants {
    fn context(&self) -> Context {
        if self.editing.is_some() {
            Context::Find
        } else {
            Context::Tenants
        }
    }

    fn request(&self) -> Request {
        Request::Tenants(self.query.clone())
    }

    fn take(&mut self, answer: Answer) -> bool {
        if let Answer::Tenants(found) = answer {
            self.found = Some(found);
        }
        false
    }

    fn nodes(&self, _columns: usize) -> Vec<Node> {
        let tenants = self.all().iter();
        tenants
            .map(|tenant| {
                let id = tenant.tenant_id.to_string();
                let since = tenant.created_at.format("%d %b %Y");
                let line = vec![
                    cell(Tone::Strong, &tenant.name, 28),
                    cell(Tone::Plain, &tenant.email, 32),
                    (Tone::Dim, format!("{since}  {id}")),
                ];
                Node::leaf(&id, line, &id)
            })
            .collect()
    }

    fn folding(&self) -> Folding {
        self.folding.clone()
    }

    fn folding_mut(&mut self) -> &mut Folding {
        &mut self.folding
    }

    fn door(&self, columns: usize) -> Option<Door> {
        let cursor = place::cursor(self, columns)?;
        let mut tenants = self.all().iter();
        let tenant = tenants.find(|tenant| tenant.tenant_id.to_string() == cursor)?;
        Some(Door::Tenant(tenant.tenant_id, Some(tenant.name.clone())))
    }
}
