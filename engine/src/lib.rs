#![doc = include_str!("../README.md")]

// Leaves.
mod attribute;
mod clock;
mod error;
mod id;
mod limit;
mod made_up;
mod payload;
mod priority;
mod retry;
// Rules: pure.
mod choose;
mod guard;
mod journal;
mod plan;
mod private;
mod run;
mod transition;
mod undo;
mod variants;
mod workflow;
// Shelves: all SQL, and only SQL.
mod store;
// Hands.
mod bell;
mod breaker;
mod committer;
mod context;
mod executor;
mod fan_out;
mod follow;
mod gate;
mod gather;
mod hall;
mod lanes;
mod lease;
mod memory;
mod progress;
mod registry;
mod results;
mod ring;
mod seats;
mod start;
mod tally;
mod upkeep;
mod worker;
// Doors.
pub mod audit;
pub mod bulk;
mod client;
mod database;
pub mod deploy;
#[doc(hidden)]
pub mod doc_example;
pub mod failover;
mod floor;
pub mod flow;
pub mod forget;
pub mod inspect;
pub mod operator;
mod pool;
pub mod retention;
pub mod schedule;
pub mod seal;
pub mod search;
pub mod tenant;
pub mod test_clock;
pub mod testkit;
pub mod weight;

pub use attribute::{AttributeKind, AttributeNames, Attributes, MAX_ATTRIBUTE_TEXT};
pub use client::{Client, Position, RunRef, Signalled};
pub use clock::sleep;
pub use context::{Context, Step};
pub use database::{Database, NoHost, Pooler, UrlError};
pub use error::{EngineError, ErrorRecord, ResultExt, StepError, is_away};
pub use fan_out::{ChildResult, Ended, FanOut, Join, Joined, MAX_FAN_OUT};
pub use gather::{Gather, MAX_BATCH, MAX_GATHERING};
pub use guard::{Guard, Need as GuardNeed};
pub use id::{
    BulkId, ClockId, Epoch, RunId, SHARDS, SYSTEM_TENANT, ScheduleId, ShardId, TenantId, WorkerId,
    derived_uuid, new_uuid, random_uuid,
};
pub use limit::{Limit, Need, Rate};
pub use payload::DEFAULT_PAYLOAD_LIMIT;
pub use pool::{PoolConfig, begin, begin_for, connect, connect_control, shed_broken};
pub use priority::Priority;
pub use private::{MASK, Private};
pub use registry::{Registry, RegistryBuilder, SignalKind};
pub use retry::{Exhausted, RetryPolicy};
pub use run::{Deadline, SignalOutcome, Status, StoredError};
pub use start::{StartOptions, Started};
pub use transition::{ClosePolicy, Transition};
pub use variants::variants;
pub use worker::{ClaimScope, Worker, WorkerConfig};
pub use workflow::{Event, FinishedRun, Reception, Workflow};
