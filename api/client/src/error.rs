//! What can go wrong between a caller and the API.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// RFC 9457 problem details: the body of every answer that is not a success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Stable URI of the kind of problem.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// The kind in a few words; the same for every occurrence.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// What happened this time, in words for the person who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// URI of this occurrence, usually the path that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Stable snake-case code for programs.
    #[serde(default)]
    pub code: String,
    /// Names the request in the server's logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What is wrong with single fields of the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Whether the same request may succeed later.
    #[serde(default)]
    pub retryable: bool,
}

/// One field of a request that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// JSON pointer into the request body.
    #[schema(example = "/email")]
    pub pointer: String,
    /// Stable snake-case code for programs.
    pub code: String,
    /// What is wrong, in words.
    pub detail: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let title = if self.title.is_empty() {
            "the server refused"
        } else {
            &self.title
        };
        write!(formatter, "{title}")?;
        if let Some(detail) = self.detail.as_deref().filter(|detail| *detail != title) {
            write!(formatter, ": {detail}")?;
        }
        for error in &self.errors {
            // Where there is one, its words are those of the whole.
            if self.detail.as_ref() == Some(&error.detail) {
                write!(formatter, " ({})", error.pointer)?;
            } else {
                write!(formatter, "; {} {}", error.pointer, error.detail)?;
            }
        }
        Ok(())
    }
}

/// Why a call gave no answer of the promised type.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server answered and refused; boxed because the problem is large.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// No answer came: nobody listens, the network broke, or the time was up.
    #[error("the server at {url} cannot be reached")]
    Unreachable {
        /// The address that was tried.
        url: String,
        /// What the transport said.
        source: reqwest::Error,
    },
    /// An answer came that is not what the API promises: most likely not this API, or another version.
    #[error("the answer to {path} is not what the API promises (HTTP {status}): {reason}")]
    Decode {
        /// The path that was asked.
        path: String,
        /// The HTTP status of the answer.
        status: u16,
        /// What could not be read.
        reason: String,
    },
    /// The client was given an address or a token that cannot be used.
    #[error("{0}")]
    Configuration(String),
}

impl ClientError {
    /// The problem, where the server stated one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// The HTTP status, where the server refused.
    pub fn status(&self) -> Option<u16> {
        self.problem().map(|problem| problem.status)
    }

    /// Whether the same call may succeed later without a change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Problem(problem) => problem.retryable,
            Self::Unreachable { .. } => true,
            Self::Decode { status, .. } => *status >= 500,
            Self::Configuration(_) => false,
        }
    }
}

fn about_blank() -> String {
    "about:blank".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(detail: &str) -> FieldError {
        FieldError {
            pointer: "/zone".to_owned(),
            code: "invalid".to_owned(),
            detail: detail.to_owned(),
        }
    }

    #[test]
    fn a_problem_is_told_without_repeating_itself() {
        let mut problem = Problem {
            title: "A field does not fit".to_owned(),
            detail: Some("no zone".to_owned()),
            errors: vec![field("no zone")],
            ..Problem::default()
        };
        assert_eq!(problem.to_string(), "A field does not fit: no zone (/zone)");
        problem.errors = vec![field("too long")];
        let told = "A field does not fit: no zone; /zone too long";
        assert_eq!(problem.to_string(), told);
    }
}
