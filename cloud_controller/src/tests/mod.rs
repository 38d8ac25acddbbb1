//! The service from outside: real sockets on port 0, a database of its own, an in-memory bus, tokens of a test issuer.
//!
//! A scenario takes a [`World`]. Each runs on SQLite as a test of its own, and all of them run on PostgreSQL in one test that
//! starts a server for them.

mod apps;
mod harness;
mod internal;
mod marketplace;
mod platform;
mod push;
mod routes;
mod service_instances;
mod services_bindings;
mod services_catalog;
mod tenancy;
mod uploads;
mod workloads;

pub use harness::World;

use foundation::Secret;
use futures::{FutureExt, future::LocalBoxFuture};
use testkit::postgres::Postgres;

/// A test that does not know which database it runs on.
pub type Scenario = (&'static str, fn(World) -> LocalBoxFuture<'static, ()>);

/// Makes a test on SQLite of each scenario, and lists them for PostgreSQL.
macro_rules! scenarios {
    ($($name:ident,)*) => {
        mod on_sqlite {
            use crate::tests::World;
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(World::new().await).await;
                }
            )*
        }
        pub const SCENARIOS: &[$crate::tests::Scenario] =
            &[$((stringify!($name), |world| futures::FutureExt::boxed_local($name(world)))),*];
    };
}
use scenarios;

#[tokio::test]
async fn every_scenario_holds_on_postgresql() {
    let Some(server) = Postgres::start() else { return };
    let all = [
        tenancy::SCENARIOS,
        routes::SCENARIOS,
        platform::SCENARIOS,
        internal::SCENARIOS,
        push::SCENARIOS,
        uploads::SCENARIOS,
        apps::SCENARIOS,
        service_instances::SCENARIOS,
        services_bindings::SCENARIOS,
        services_catalog::SCENARIOS,
        workloads::SCENARIOS,
    ]
    .concat();
    for (number, (name, scenario)) in all.into_iter().enumerate() {
        let database = server.database(&format!("scenario{number}"));
        let world = World::on(Some(Secret::new(database))).await;
        let held = std::panic::AssertUnwindSafe(scenario(world)).catch_unwind().await;
        assert!(held.is_ok(), "{name} does not hold on PostgreSQL");
    }
}
