//! A transaction whose begin is given up leaves nothing open on the pool's connection: what the next
//! user writes there is committed.

use std::future::Future;
use std::task::{Context, Poll, Waker};

use tenure_engine::PoolConfig;

use crate::support;

#[tokio::test(flavor = "multi_thread")]
async fn a_begin_that_is_given_up_swallows_nobodys_writes() {
    let options = support::database().await;
    let config = PoolConfig {
        max_connections: 1,
        ..PoolConfig::default()
    };
    let pool = tenure_engine::connect(options.clone(), &config)
        .await
        .unwrap();
    let mut other = support::connect(&options).await;
    for round in 0..50_u128 {
        {
            let mut begin = std::pin::pin!(tenure_engine::begin(&pool));
            // As far as it comes, then dropped: the connection has begun, or not, or is under way.
            for _ in 0..=round % 5 {
                let polled = begin.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                if let Poll::Ready(tx) = polled {
                    drop(tx.unwrap());
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let id = uuid::Uuid::from_u128(round + 1);
        sqlx::query("insert into engine.test_clock (clock_id, now_at) values ($1, engine.now())")
            .bind(id)
            .execute(&pool)
            .await
            .unwrap();
        let kept: bool =
            sqlx::query_scalar("select exists (select from engine.test_clock where clock_id = $1)")
                .bind(id)
                .fetch_one(&mut other)
                .await
                .unwrap();
        assert!(kept, "round {round}: acknowledged, and not there");
    }
}
