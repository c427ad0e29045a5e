//! Mails to all tenants, newest first.

use crate::contents;
use crate::event::{Answer, Request};
use crate::keymap::Context;
use crate::place::Place;
use crate::tree::{Folding, Node};
use tenure_client::Mail;

/// The newest mails.
#[derive(Clone, Debug, Default)]
pub struct Mails {
    /// The mails; `None` until the first answer.
    pub(crate) mails: Option<Vec<Mail>>,
    /// Which mails are open.
    folding: Folding,
}

impl Place for Mails {
    fn context(&self) -> Context {
        Context::Mails
    }

    fn request(&self) -> Request {
        Request::Mails
    }

    fn take(&mut self, answer: Answer) -> bool {
        if let Answer::Mails(mails) = answer {
            self.mails = Some(mails);
        }
        false
    }

    fn nodes(&self, columns: usize) -> Vec<Node> {
        contents::mails(self.mails.as_deref().unwrap_or_default(), columns)
    }

    fn folding(&self) -> Folding {
        self.folding.clone()
    }

    fn folding_mut(&mut self) -> &mut Folding {
        &mut self.folding
    }
}
