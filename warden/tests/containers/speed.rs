//! How long it takes.

use crate::{
    need_containers,
    support::{World, spec},
};
use std::time::{Duration, Instant};

/// Each creation is a fresh process with limits, overlay, disk image, network and one host port; the time is the client's. No assertion on
/// the figure: it is printed, and `bin/bench` compares it.
#[tokio::test(flavor = "multi_thread")]
async fn creating_and_starting_is_measured() {
    need_containers!();
    let world = World::start().await;
    let mut times = vec![];
    for round in 0..20 {
        let handle = format!("box{round}");
        let mut asked = spec(&handle, &["/bin/sleep", "1000"]);
        if round < 3 {
            asked.ports = vec![8080];
        }
        let began = Instant::now();
        world.create(&asked).await;
        times.push(began.elapsed());
    }
    for round in 0..20 {
        world.client.destroy(&format!("box{round}")).await.unwrap();
    }
    times.sort();
    println!("create + start: p50 {:?}, p90 {:?}, least {:?}", times[10], times[18], times[0]);
    assert!(times[10] < Duration::from_secs(2));
    world.end().await;
}
