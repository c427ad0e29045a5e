//! One error for all routes, and its one answer: a problem document (RFC 9457).
//!
//! It says what was wrong, where, and what to do. The database's own words never leave the house.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tenure_client::{FieldError, Problem};
use tenure_engine::EngineError;
use tenure_workflows::DoorError;
use tenure_workflows::data_map::ReadError;
use tenure_workflows::product::ProductError;

/// Why a request was not met.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// No token, or none that counts.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The token's role does not reach.
    #[error("this needs role {needed} or higher; the token has {has}")]
    Forbidden {
        /// The least role.
        needed: &'static str,
        /// The token's.
        has: &'static str,
    },
    /// The request could not be read.
    #[error("{detail}")]
    BadRequest {
        /// Stable.
        code: &'static str,
        /// What was wrong, where, and what to do.
        detail: String,
    },
    /// A field does not fit.
    #[error("{detail}")]
    Invalid {
        /// JSON Pointer (RFC 6901) to the field.
        pointer: String,
        /// What was wrong, and what would be right.
        detail: String,
    },
    /// The `Idempotency-Key` belongs to another request.
    #[error("this Idempotency-Key was used with another body; use a new key")]
    KeyReused,
    /// Nothing is there, or nothing that the caller may see.
    #[error("{0}")]
    NotFound(String),
    /// The path knows no such method.
    #[error("the path does not know this method")]
    MethodNotAllowed,
    /// The body is larger than the limit.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The body is not JSON by its type.
    #[error("the body must be of type application/json")]
    UnsupportedMediaType,
    /// It contradicts what is there.
    #[error("{detail}")]
    Conflict {
        /// Stable.
        code: &'static str,
        /// With what, and what to do.
        detail: String,
    },
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The business refused.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// A product's database refused.
    #[error(transparent)]
    Product(#[from] ProductError),
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// The process is about to end.
    #[error("this process is about to end; another one serves")]
    Draining,
    /// A bug of ours.
    #[error("an error of ours")]
    Internal,
}

/// What a problem document says of an error.
struct Verdict {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
    pointer: Option<String>,
}

impl Verdict {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: String) -> Self {
        Self {
            status,
            code,
            title,
            detail,
            pointer: None,
        }
    }

    fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }
}

impl ApiError {
    /// Whether the database went away under the request, or was away.
    fn is_away(&self) -> bool {
        let error = match self {
            Self::Database(error)
            | Self::Engine(EngineError::Database(error))
            | Self::Door(
                DoorError::Database(error) | DoorError::Engine(EngineError::Database(error)),
            ) => error,
            _ => return false,
        };
        tenure_engine::is_away(error)
    }

    /// Whether it is the request that is at fault.
    pub(crate) fn blames_caller(&self) -> bool {
        self.verdict().status.is_client_error()
    }

    fn verdict(&self) -> Verdict {
        let text = self.to_string();
        match self {
            Self::Unauthorized(_) => Verdict::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "No valid token",
                text,
            ),
            Self::Forbidden { .. } => Verdict::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "The role does not reach",
                text,
            ),
            Self::BadRequest { code, .. } => Verdict::new(
                StatusCode::BAD_REQUEST,
                code,
                "The request cannot be read",
                text,
            ),
            Self::Invalid { pointer, .. } => invalid(text).at(pointer.clone()),
            Self::KeyReused => Verdict::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "The key belongs to another request",
                text,
            ),
            Self::NotFound(_) => not_found("not_found", text),
            Self::MethodNotAllowed => Verdict::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "No such method here",
                text,
            ),
            Self::TooLarge(_) => too_large(text),
            Self::UnsupportedMediaType => Verdict::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "Not JSON",
                text,
            ),
            Self::Conflict { code, .. } => conflict(code, text),
            Self::Engine(error) => engine(error),
            Self::Door(error) => door(error),
            Self::Product(error) => product(error),
            Self::Database(error) => database(error),
            Self::Draining => Verdict::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "draining",
                "About to end",
                text,
            ),
            Self::Internal => internal(),
        }
    }
}

fn invalid(detail: String) -> Verdict {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    Verdict::new(status, "invalid", "A field does not fit", detail)
}

fn not_found(code: &'static str, detail: String) -> Verdict {
    Verdict::new(StatusCode::NOT_FOUND, code, "Nothing is there", detail)
}

fn unavailable(code: &'static str, detail: String) -> Verdict {
    Verdict::new(
        StatusCode::SERVICE_UNAVAILABLE,
        code,
        "Something that it needs is away",
        detail,
    )
}

fn conflict(code: &'static str, detail: String) -> Verdict {
    Verdict::new(
        StatusCode::CONFLICT,
        code,
        "It contradicts what is there",
        detail,
    )
}

fn too_large(detail: String) -> Verdict {
    let status = StatusCode::PAYLOAD_TOO_LARGE;
    Verdict::new(status, "payload_too_large", "Too large", detail)
}

fn internal() -> Verdict {
    Verdict::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "An error of ours",
        "Nothing half done was kept. The request id finds the cause in our log.".to_owned(),
    )
}

fn engine(error: &EngineError) -> Verdict {
    let text = error.to_string();
    match error {
        EngineError::UnknownWorkflow(_) => {
            let detail = format!("{text}; see /v1/workflows");
            not_found("unknown_workflow", detail).at("/workflow")
        }
        EngineError::UnknownTenant(_) => not_found("unknown_tenant", text).at("/tenant_id"),
        EngineError::TenantClosing(_) => conflict("tenant_closing", text).at("/tenant_id"),
        EngineError::RunNotFound(_) => not_found("unknown_run", text),
        EngineError::KeyTaken { .. } => conflict("key_taken", text).at("/key"),
        EngineError::RunFinished { .. } => conflict("run_finished", text),
        EngineError::Moved { .. } => conflict("moved", text).at("/revision"),
        EngineError::Changed { .. } => conflict("moved", text).at("/seen"),
        EngineError::NotAllowed { .. } => conflict("not_allowed", text),
        EngineError::OwnDoor { .. } => conflict("own_door", text),
        EngineError::NeedsRole { .. } => Verdict::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "The role does not reach",
            text,
        ),
        EngineError::KeysDestroyed(_) => conflict("keys_destroyed", text),
        EngineError::MasterKey(_) => unavailable("keys_unavailable", text),
        EngineError::HoldNotFound(_) => not_found("unknown_hold", text),
        EngineError::ScheduleNotFound(_) => not_found("unknown_schedule", text),
        EngineError::BadSchedule { field, .. } => invalid(text).at(format!("/{field}")),
        EngineError::NoSuchGate { what, .. } => {
            not_found("unknown_gate", format!("{text}; {}", where_to_look(what)))
        }
        EngineError::BulkNotFound(_) => not_found("unknown_bulk_operation", text),
        EngineError::BadBulk { field, .. } => invalid(text).at(format!("/{field}")),
        EngineError::CountDiffers { .. } => conflict("count_differs", text).at("/runs"),
        EngineError::NameTaken(_) => conflict("name_taken", text).at("/name"),
        EngineError::Malformed { what, .. } => {
            invalid(text).at(format!("/{}", what.replace(' ', "_")))
        }
        EngineError::PayloadTooLarge { .. } => too_large(text),
        EngineError::Database(error) => database(error),
        _ => internal(),
    }
}

fn where_to_look(what: &str) -> &'static str {
    match what {
        "limit" => "see /v1/limits",
        "workflow" | "queue" => "see /v1/workflows",
        "tenant" => "see /v1/tenants",
        "breaker" => "see /v1/breakers",
        _ => "see /v1/pauses",
    }
}

fn door(error: &DoorError) -> Verdict {
    let text = error.to_string();
    match error {
        DoorError::UnknownPlan(_) => invalid(format!("{text}; see /v1/plans")).at("/plan"),
        DoorError::Retired { what, .. } => invalid(text).at(match *what {
            "plan" => "/plan",
            "coupon" => "/coupon",
            "legal entity" => "/legal_entity",
            _ => "/add_ons",
        }),
        DoorError::NotSoldIn { .. } | DoorError::UnknownCurrency(_) => {
            invalid(text).at("/currency")
        }
        DoorError::BadCatalogue { place, .. } => invalid(text).at(match place.as_str() {
            "" => String::new(),
            place => format!("/{}", place.replace('.', "/")),
        }),
        DoorError::UnknownZone(_) => invalid(text).at("/zone"),
        DoorError::Malformed { field, .. } => invalid(text).at(format!("/{field}")),
        DoorError::BadPolicy { place, .. } => invalid(text).at(format!("/document{place}")),
        DoorError::NotFound { .. } => not_found("not_found", text),
        DoorError::Conflict(_) => conflict("conflict", text),
        DoorError::Product(error) => product(error),
        DoorError::Engine(error) => engine(error),
        DoorError::Database(error) => database(error),
        _ => internal(),
    }
}

fn product(error: &ProductError) -> Verdict {
    let text = error.to_string();
    match error {
        ProductError::UnknownSource(..) => not_found("unknown_source", text).at("/source"),
        ProductError::NoMap(_) | ProductError::UnknownVersion(..) => conflict("no_data_map", text),
        ProductError::OtherModel { .. } => invalid(text).at("/model"),
        ProductError::BypassesRowSecurity(_) => conflict("bypasses_row_security", text),
        ProductError::DoesNotFit(_) => conflict("data_map_does_not_fit", text),
        ProductError::Catalog(ReadError::UnknownSchema(_)) => conflict("unknown_schema", text),
        ProductError::Refused(_) => conflict("refused", text),
        // Its words may hold a tenant's values, so they stay in our log.
        ProductError::Database(_) | ProductError::Catalog(_) => {
            unavailable("product_unavailable", text)
        }
        _ => internal(),
    }
}

/// A database that is away passes; anything else that it says is a bug of ours.
fn database(error: &sqlx::Error) -> Verdict {
    let away = match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            ["57", "08", "53", "40", "55"]
                .iter()
                .any(|class| code.starts_with(class))
        }),
        _ => false,
    };
    if away {
        Verdict::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "database_unavailable",
            "The database is away",
            "If its answer was lost on the way it may have been done, otherwise nothing was. Send the \
             same request again with the same Idempotency-Key: it is done once."
                .to_owned(),
        )
    } else {
        internal()
    }
}

/// Rides with the answer to a request for which the database was away.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DatabaseAway;

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let verdict = self.verdict();
        if verdict.status.is_server_error() {
            tracing::error!(error = ?self, "a request failed");
        }
        let retryable = verdict.status == StatusCode::SERVICE_UNAVAILABLE;
        let problem = Problem {
            kind: format!("https://tenure.example/problems/{}", verdict.code),
            title: verdict.title.to_owned(),
            status: verdict.status.as_u16(),
            detail: Some(verdict.detail.clone()),
            code: verdict.code.to_owned(),
            errors: verdict
                .pointer
                .map(|pointer| FieldError {
                    pointer,
                    code: verdict.code.to_owned(),
                    detail: verdict.detail,
                })
                .into_iter()
                .collect(),
            retryable,
            ..Problem::default()
        };
        let mut response = (verdict.status, axum::Json(problem)).into_response();
        if self.is_away() {
            response.extensions_mut().insert(DatabaseAway);
        }
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if verdict.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if retryable {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
