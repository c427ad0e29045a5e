//! One export of a tenant: whether it is ready, and its link where it was just made.

use crate::event::{Answer, Request};
use crate::gauge;
use crate::keymap::Context;
use crate::place::Place;
use crate::theme::Tone;
use crate::time;
use crate::tree::{Folding, Node, Piece};
use tenure_client::DataExport;
use uuid::Uuid;

/// An export, looked at closely.
#[derive(Clone, Debug)]
pub struct ExportPage {
    tenant_id: Uuid,
    /// The export, as the server described it last.
    pub(crate) of: DataExport,
    link: Option<String>,
    folding: Folding,
}

impl ExportPage {
    /// Opens an export.
    pub(crate) fn open(tenant_id: Uuid, of: DataExport, link: Option<String>) -> Self {
        Self {
            tenant_id,
            of,
            link,
            folding: Folding::default(),
        }
    }
}

impl Place for ExportPage {
    fn context(&self) -> Context {
        Context::Export
    }

    fn request(&self) -> Request {
        Request::Export(self.tenant_id, self.of.export_id)
    }

    fn take(&mut self, answer: Answer) -> bool {
        if let Answer::Export(of) = answer {
            self.of = *of;
        }
        false
    }

    fn nodes(&self, _columns: usize) -> Vec<Node> {
        let of = &self.of;
        let mut lines = Vec::new();
        if let Some(link) = &self.link {
            let words =
                "The link is told this once; whoever has it can read the export. y copies it:";
            lines.push(("warning", (Tone::Warn, words.to_owned())));
            lines.push(("link", (Tone::Strong, link.clone())));
        }
        lines.push(("status", status(of)));
        lines.push(("size", (Tone::Plain, size(of))));
        lines.push(("until", (Tone::Plain, until(of))));
        let fetched = match (of.downloads, of.last_download_at) {
            (0, _) | (_, None) => "it was not fetched yet".to_owned(),
            (count, Some(at)) => format!("fetched {count} times, last {} UTC", time::stamp(at)),
        };
        lines.push(("fetched", (Tone::Plain, fetched)));
        let by = format!(
            "asked for by {} on {} UTC",
            of.asked_by,
            time::stamp(of.asked_at)
        );
        lines.push(("by", (Tone::Dim, by)));
        lines.push(("why", (Tone::Dim, of.reason.clone())));
        lines.push(("id", (Tone::Dim, format!("export {}", of.export_id))));
        let lines = lines.into_iter();
        lines
            .map(|(id, piece)| {
                let copy = match id {
                    "id" => of.export_id.to_string(),
                    _ => piece.1.clone(),
                };
                Node::leaf(id, vec![piece], copy)
            })
            .collect()
    }

    fn folding(&self) -> Folding {
        self.folding.clone()
    }

    fn folding_mut(&mut self) -> &mut Folding {
        &mut self.folding
    }
}

/// Its status with a sign.
pub(super) fn status(of: &DataExport) -> Piece {
    let (tone, sign) = match of.status.as_str() {
        "ready" => (Tone::Good, '+'),
        "writing" => (Tone::Good, '*'),
        _ => (Tone::Dim, '-'),
    };
    (tone, format!("{sign} {}", of.status))
}

/// What is in it so far.
pub(super) fn size(of: &DataExport) -> String {
    format!("{} rows, {}", gauge::count(of.rows), gauge::bytes(of.bytes))
}

/// For how long its link works.
pub(super) fn until(of: &DataExport) -> String {
    match of.expires_at {
        Some(at) if of.status == "ready" => format!("its link works until {} UTC", time::stamp(at)),
        Some(at) => format!("its link ended {} UTC", time::stamp(at)),
        None => format!("its link works for {} days once it is ready", of.link_days),
    }
}
