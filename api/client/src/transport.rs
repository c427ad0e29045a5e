//! One request and one answer over HTTP: headers, time limits, and what an answer means.
//!
//! No endpoint is known here, and nothing is sent twice: whether to try again is the caller's to say.

use crate::{ClientError, IdempotencyKey, Problem};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a whole answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection pool to one server, with one token.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    http: reqwest::Client,
    base: Url,
}

impl Transport {
    /// Prepares connections to `url`; nothing is sent yet.
    pub(crate) fn new(url: &str, token: &str) -> Result<Self, ClientError> {
        let base = parse_base(url)?;
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, bearer(token)?);
        let builder = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            // A redirect would carry the token to an address that nobody chose.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("tenure-client/", env!("CARGO_PKG_VERSION")));
        let http = with_tls(builder, &base)?.build().map_err(|error| {
            ClientError::Configuration(format!("the HTTP client cannot be built: {error}"))
        })?;
        Ok(Self { http, base })
    }

    /// The address that requests go to.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// Whether nobody on the way can read along.
    pub(crate) fn is_confidential(&self) -> bool {
        let host = self
            .base
            .host_str()
            .unwrap_or_default()
            .trim_matches(['[', ']']);
        let is_local = host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        self.base.scheme() == "https" || is_local
    }

    /// Asks with `GET`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.answer(path, self.request(Method::GET, path)).await
    }

    /// Asks with `GET` and a query.
    pub(crate) async fn get_with<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.answer(path, self.request(Method::GET, path).query(query))
            .await
    }

    /// Changes something with `POST`, once per key.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        key: &IdempotencyKey,
    ) -> Result<T, ClientError> {
        let request = self.once(Method::POST, path, key).json(body);
        self.answer(path, request).await
    }

    /// Changes something with `POST` and a query, once per key.
    pub(crate) async fn post_with<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
        body: &impl Serialize,
        key: &IdempotencyKey,
    ) -> Result<T, ClientError> {
        let request = self.once(Method::POST, path, key).query(query).json(body);
        self.answer(path, request).await
    }

    /// Puts something in its place with `PUT`, once per key.
    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        key: &IdempotencyKey,
    ) -> Result<T, ClientError> {
        let request = self.once(Method::PUT, path, key).json(body);
        self.answer(path, request).await
    }

    /// Changes parts of something with `PATCH`, once per key.
    pub(crate) async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        key: &IdempotencyKey,
    ) -> Result<T, ClientError> {
        let request = self.once(Method::PATCH, path, key).json(body);
        self.answer(path, request).await
    }

    /// Takes something away with `DELETE`, once per key.
    pub(crate) async fn delete<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
        key: &IdempotencyKey,
    ) -> Result<T, ClientError> {
        let request = self.once(Method::DELETE, path, key).query(query);
        self.answer(path, request).await
    }

    /// Asks with `GET` for what is no JSON.
    pub(crate) async fn text(&self, path: &str) -> Result<String, ClientError> {
        let (status, body) = self.body(path, self.request(Method::GET, path)).await?;
        String::from_utf8(body).map_err(|error| decode(path, status, error))
    }

    /// Asks with `GET` where only success or refusal counts.
    pub(crate) async fn probe(&self, path: &str) -> Result<(), ClientError> {
        self.body(path, self.request(Method::GET, path))
            .await
            .map(drop)
    }

    fn once(&self, method: Method, path: &str, key: &IdempotencyKey) -> reqwest::RequestBuilder {
        self.request(method, path)
            .header(IdempotencyKey::HEADER, key.as_str())
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        self.http.request(method, url)
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        path: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<T, ClientError> {
        let (status, body) = self.body(path, request).await?;
        serde_json::from_slice(&body).map_err(|error| decode(path, status, error))
    }

    async fn body(
        &self,
        path: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<(StatusCode, Vec<u8>), ClientError> {
        let response = request
            .send()
            .await
            .map_err(|source| self.unreachable(source))?;
        let status = response.status();
        let body = response
            .bytes()
            .await
            .map_err(|source| self.unreachable(source))?
            .to_vec();
        if status.is_success() {
            return Ok((status, body));
        }
        // A proxy in between answers in its own words; only a problem with a code is the API's.
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) if !problem.code.is_empty() || !problem.title.is_empty() => {
                Err(ClientError::Problem(Box::new(Problem {
                    status: status.as_u16(),
                    ..problem
                })))
            }
            _ => Err(decode(path, status, "no problem details in the answer")),
        }
    }

    fn unreachable(&self, source: reqwest::Error) -> ClientError {
        ClientError::Unreachable {
            url: self.base.to_string(),
            source: source.without_url(),
        }
    }
}

fn decode(path: &str, status: StatusCode, reason: impl std::fmt::Display) -> ClientError {
    ClientError::Decode {
        path: path.to_owned(),
        status: status.as_u16(),
        reason: reason.to_string(),
    }
}

fn parse_base(url: &str) -> Result<Url, ClientError> {
    let base = Url::parse(url)
        .map_err(|error| ClientError::Configuration(format!("`{url}` is no URL: {error}")))?;
    match base.scheme() {
        "http" | "https" => Ok(base),
        other => Err(ClientError::Configuration(format!(
            "`{url}` must start with http:// or https://, not {other}:"
        ))),
    }
}

fn bearer(token: &str) -> Result<HeaderValue, ClientError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
        ClientError::Configuration("the token holds characters that no token has".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Chooses TLS by the address. With `https` the process's provider is used, which the binary installs
/// once; with `http` an empty trust store stands in, because reqwest will not build without one.
fn with_tls(
    builder: reqwest::ClientBuilder,
    base: &Url,
) -> Result<reqwest::ClientBuilder, ClientError> {
    if base.scheme() == "https" {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(ClientError::Configuration(
                "https needs a TLS provider: the program must install one at its start".to_owned(),
            ));
        }
        return Ok(builder);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientError::Configuration(format!("TLS is not available: {error}")))?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(builder.tls_backend_preconfigured(config))
}
