//! The filter line: `workflow:dunning state:past-due age:>3d tenant:acme`.
//!
//! The language is the API's own. The form of what is typed is checked here, on each key; the names in
//! it are the server's to know.

use tenure_client::{RunFilter, filter};

pub use tenure_client::filter::FIELDS;

/// A filter of the right form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// What was typed.
    pub text: String,
    /// What the API is asked.
    pub query: RunFilter,
}

impl Filter {
    /// Checks a filter line, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        filter::Filter::parse(text).map_err(|error| error.detail)?;
        Ok(Self {
            text: text.to_owned(),
            query: RunFilter {
                filter: (!text.is_empty()).then(|| text.to_owned()),
                ..RunFilter::default()
            },
        })
    }

    /// Whether every run passes.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}
