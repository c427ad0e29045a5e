//! Mails to all tenants, newest first.

use crate::contents;
use crate::tree::{Folding, Node};
use tenure_client::Mail;

/// The newest mails.
#[derive(Clone, Debug, Default)]
pub struct Mails {
    /// The mails; `None` until the first answer.
    pub(crate) mails: Option<Vec<Mail>>,
    /// Which mails are open.
    pub(crate) folding: Folding,
}

impl Mails {
    /// The mails as lines that fold, for a window so many columns wide.
    pub(crate) fn nodes(&self, columns: usize) -> Vec<Node> {
        contents::mails(self.mails.as_deref().unwrap_or_default(), columns)
    }
}
