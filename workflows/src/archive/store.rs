//! Which store archives lie in: a folder, or a bucket of an S3-compatible store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long the client tries again by itself; beyond that the step does.
const RETRY_FOR: Duration = Duration::from_secs(15);

/// Where archives lie.
#[derive(Debug, Clone)]
pub enum ArchiveConfig {
    /// In a folder, which is there.
    Folder(PathBuf),
    /// In a bucket.
    S3(S3Config),
}

/// A bucket of an S3-compatible store.
#[derive(Clone)]
pub struct S3Config {
    /// The bucket.
    pub bucket: String,
    /// What names in it begin with.
    pub prefix: String,
    /// The store's address; `None` for the one of the region.
    pub endpoint: Option<String>,
    /// The region.
    pub region: String,
    /// The access key's id.
    pub access_key_id: String,
    /// The access key itself.
    pub secret_access_key: String,
}

impl std::fmt::Debug for S3Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Config")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

pub(super) fn open(config: &ArchiveConfig) -> Result<(Arc<dyn ObjectStore>, Path), String> {
    match config {
        ArchiveConfig::Folder(folder) => {
            let store = LocalFileSystem::new_with_prefix(folder);
            let store = store.map_err(|error| {
                format!(
                    "the archive's folder {} cannot be used: {error}",
                    folder.display()
                )
            })?;
            let store = store.with_fsync(true).with_automatic_cleanup(true);
            Ok((Arc::new(store), Path::default()))
        }
        ArchiveConfig::S3(s3) => {
            let retry = RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: 3,
                retry_timeout: RETRY_FOR,
            };
            let plain = s3
                .endpoint
                .as_deref()
                .is_some_and(|url| url.starts_with("http://"));
            let client = ClientOptions::new()
                .with_timeout(TIMEOUT)
                .with_allow_http(plain);
            let mut builder = AmazonS3Builder::new()
                .with_bucket_name(&s3.bucket)
                .with_region(&s3.region)
                .with_access_key_id(&s3.access_key_id)
                .with_secret_access_key(&s3.secret_access_key)
                .with_client_options(client)
                .with_retry(retry);
            if let Some(endpoint) = &s3.endpoint {
                builder = builder.with_endpoint(endpoint);
            }
            let store = builder.build();
            let store =
                store.map_err(|error| format!("the archive's bucket does not fit: {error}"))?;
            let root = Path::parse(&s3.prefix);
            let root =
                root.map_err(|error| format!("the archive's prefix does not fit: {error}"))?;
            Ok((Arc::new(store), root))
        }
    }
}
