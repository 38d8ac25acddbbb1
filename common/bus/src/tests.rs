use super::*;

#[tokio::test]
async fn a_request_with_no_listener_is_certainly_not_carried_out() {
    let bus = Bus::in_memory();
    let answer: Result<u32> = bus.request("dea.x.start", &1, Duration::from_secs(1)).await;
    assert!(matches!(answer, Err(Error::NoResponders(_))));
}

#[tokio::test]
async fn a_request_is_answered_by_whoever_listens() {
    let bus = Bus::in_memory();
    let mut asked = bus.subscribe("dea.*.start").await.unwrap();
    let server = bus.clone();
    tokio::spawn(async move {
        let question = asked.next().await.unwrap();
        let number: u32 = question.read().unwrap();
        server.respond(&question, &(number + 1)).await.unwrap();
    });
    let answer: u32 = bus.request("dea.x.start", &41, Duration::from_secs(1)).await.unwrap();
    assert_eq!(answer, 42);
}

#[tokio::test]
async fn a_compare_and_set_on_an_old_revision_loses() {
    let bucket = Bus::in_memory().bucket("claims").await.unwrap();
    let first = bucket.create("a.1", &"x").await.unwrap();
    assert!(matches!(bucket.create("a.1", &"y").await, Err(Error::Conflict(_))));
    let second = bucket.update("a.1", &"y", first).await.unwrap();
    assert!(matches!(bucket.update("a.1", &"z", first).await, Err(Error::Conflict(_))));
    bucket.remove("a.1", second).await.unwrap();
    assert_eq!(bucket.get("a.1").await.unwrap(), None);
    bucket.create("a.1", &"again").await.unwrap();
}

#[tokio::test]
async fn a_watch_tells_what_is_there_and_then_what_changes() {
    let bucket = Bus::in_memory().bucket("claims").await.unwrap();
    let revision = bucket.create("a", &1).await.unwrap();
    let mut watch = bucket.watch();
    assert_eq!(watch.recv().await, Some(Change::Reset));
    assert!(matches!(watch.recv().await, Some(Change::Put(entry)) if entry.key == "a"));
    assert_eq!(watch.recv().await, Some(Change::Synced));
    bucket.remove("a", revision).await.unwrap();
    assert!(matches!(watch.recv().await, Some(Change::Removed { key, .. }) if key == "a"));
}
