//! Readers without a group.

use tripod::events::{Events, Follow, Missed};

use super::{capped, drafts, number};
use crate::redis_link::{TestRedis, eventually};

#[tokio::test]
async fn a_follower_reads_all_or_from_now_on_and_is_told_what_the_cap_took() {
    let server = TestRedis::events();
    let events = Events::connect(&capped(server.config(), 100)).await.unwrap();
    let publisher = events.publisher("fills").unwrap();
    let ids = publisher.publish_many(&drafts(0..150)).await.unwrap();
    let mut all = events.follower("fills", Follow::Oldest).await.unwrap();
    let mut new = events.follower("fills", Follow::Now).await.unwrap();
    let mut behind = events.follower("fills", Follow::After(ids[119])).await.unwrap();
    let mut gone = events.follower("fills", Follow::After(ids[10])).await.unwrap();
    let numbers = |read: &tripod::events::Followed| read.events.iter().map(number).collect::<Vec<_>>();

    let read = all.next().await.unwrap();
    assert_eq!((read.missed, numbers(&read)), (Missed::Exactly(0), (50..150).collect()));
    let read = behind.next().await.unwrap();
    assert_eq!((read.missed, numbers(&read)), (Missed::Exactly(0), (120..150).collect()));
    let read = gone.next().await.unwrap();
    assert_eq!((read.missed, numbers(&read)), (Missed::Unknown, (50..150).collect()));
    assert!(new.next().await.unwrap().events.is_empty(), "nothing is new yet");

    // 150..250 are gone before any of them reads; the one that waits is woken.
    publisher.publish_many(&drafts(150..350)).await.unwrap();
    for follower in [&mut all, &mut new, &mut behind, &mut gone] {
        let read = follower.next().await.unwrap();
        assert_eq!((read.missed, numbers(&read)), (Missed::Exactly(100), (250..350).collect()), "{follower:?}");
    }
    let waiting = tokio::spawn(async move {
        let read = new.next().await.unwrap();
        (read.missed, read.events.iter().map(number).collect::<Vec<_>>())
    });
    publisher.publish_many(&drafts(350..351)).await.unwrap();
    assert_eq!(waiting.await.unwrap(), (Missed::Exactly(0), vec![350]));

    // In another process it goes on behind the place it noted.
    let mut again = events.follower("fills", Follow::After(all.place())).await.unwrap();
    let read = again.next().await.unwrap();
    assert_eq!((read.missed, numbers(&read)), (Missed::Exactly(0), vec![350]));

    // A stream made anew.
    ::redis::cmd("DEL").arg("events:fills").exec_async(&mut server.ask().await).await.unwrap();
    publisher.publish_many(&drafts(0..3)).await.unwrap();
    let mut read = again.next().await.unwrap();
    eventually("the new stream is read", async || {
        if read.events.is_empty() {
            read = again.next().await.unwrap();
        }
        !read.events.is_empty()
    })
    .await;
    assert_eq!((read.missed, numbers(&read)), (Missed::Unknown, vec![0, 1, 2]));
}
