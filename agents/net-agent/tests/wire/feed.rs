//! Cases 41 to 48: NAPI's changes.

use std::time::Duration;

use headnode_standin::Features;
use serde_json::json;
use triton_headnode::{Feed, FeedEvent, HttpClient, HttpOptions};
use triton_types::InstanceUuid;

use crate::lab::{CN, Lab, PAUSE, digits, eventually, mac};

/// net-agent case 41
#[tokio::test]
async fn the_feed_is_asked_for_then_upgraded_then_registered() {
    let lab = Lab::started().await;
    let asked: Vec<_> = lab.agents().into_iter().filter(|entry| entry.path == "/changefeeds").collect();
    assert!(asked.len() == 2 && asked.iter().all(|entry| entry.method == "GET" && entry.headers["accept-version"] == "~2"), "{asked:?}");
    assert!(asked[0].headers.get("upgrade").is_none() && asked[1].headers["upgrade"] == "websocket");
    let text = r#"{"instance":"44454c4c-0000-1000-8000-00000000000a","service":"net-agent","resources":[{"resource":"network","subResources":["create","delete","gateway","resolvers","routes"]},{"resource":"nic","subResources":["create","delete","allow_dhcp_spoofing","allow_ip_spoofing","allow_mac_spoofing","allow_restricted_traffic","allow_unfiltered_promisc"]},{"resource":"aggregation","subResources":["create","delete"]}]}"#;
    assert_eq!(net_agent::registration("44454c4c-0000-1000-8000-00000000000a").to_string(), text);
    assert_eq!(lab.standin.violations(), []);
}

/// net-agent case 42, 45
#[tokio::test]
async fn after_a_break_the_feed_begins_anew_and_everything_is_looked_at_again() {
    let lab = Lab::started().await;
    let uuid = lab.instance(5).await;
    let lists = || lab.agents().iter().filter(|entry| entry.path.contains("belongs_to_type")).count();
    let networks = || lab.agents().iter().filter(|entry| entry.path.starts_with("/networks/")).count();
    let before = (lists(), networks());
    lab.refuse("GET", "^/changefeeds", 503, 1);
    let begun = std::time::Instant::now();
    lab.standin.end_feeds();
    eventually("the end", || (lab.numbers.status()["feed"] == false).then_some(())).await;
    // What happens meanwhile nobody tells.
    lab.napi("PUT", &format!("/nics/{}", digits(5)), json!({"allow_ip_spoofing": true})).await;
    lab.napi("PUT", &format!("/networks/{}", lab.network), json!({"gateway": "10.0.0.3"})).await;
    eventually("both changes", || {
        let nic = lab.vm(uuid)["nics"][0].clone();
        (nic["allow_ip_spoofing"] == true && nic["gateway"] == "10.0.0.3").then_some(())
    })
    .await;
    assert!(begun.elapsed() >= PAUSE.mul_f64(1.8), "two pauses");
    assert!(lists() > before.0 && networks() > before.1);
}

/// net-agent case 43, 44
#[tokio::test]
async fn what_comes_here_is_looked_at_and_what_does_not_is_not() {
    let lab = Lab::started().await;
    let uuid = lab.instance(5).await;
    lab.put_nic(6, InstanceUuid::random(), json!({"state": "provisioning"})).await;
    lab.put_nic(7, InstanceUuid::random(), json!({"cn_uuid": uuid::Uuid::new_v4()})).await;
    lab.napi("DELETE", &format!("/nics/{}", digits(7)), json!({})).await;
    eventually("the question", || (!lab.asked(6).is_empty()).then_some(())).await;
    lab.settled().await;
    let asked = |n: u8| lab.asked(n).len();
    assert_eq!((asked(6), asked(7)), (1, 0));
    let before = asked(5);
    let item = json!({"changeKind": {"resource": "nic", "subResources": ["allow_ip_spoofing"]}, "changedResourceId": mac(5).to_string(),
        "cn_uuid": CN, "published": "1"});
    for _ in 0..3 {
        lab.standin.say_to_feeds(&item.to_string());
    }
    lab.settled().await;
    assert!((1..=2).contains(&(asked(5) - before)), "{}", asked(5) - before);
    assert_eq!(lab.did(uuid), []);
}

/// net-agent case 46
#[tokio::test]
async fn a_napi_without_a_feed_is_enough() {
    let mut lab = Lab::with(|config| config.features = Features { changefeed: false, ..Features::default() }).await;
    lab.start();
    eventually("the comparison", || (lab.numbers.status()["ready"] == true).then_some(())).await;
    let uuid = lab.instance(5).await;
    lab.set(uuid, json!({"state": "stopped"}));
    lab.napi_has(5, "the state", |nic| nic.is_some_and(|nic| nic["state"] == "stopped")).await;
    let asked = lab.agents().iter().filter(|entry| entry.path == "/changefeeds").count();
    assert!(asked >= 1 && lab.numbers.status()["feed"] == false);
}

/// net-agent case 47
#[tokio::test]
async fn a_sign_of_life_is_sent_between_27_and_28_seconds() {
    let lab = Lab::new().await;
    let client = HttpClient::new(HttpOptions::new("net-agent/1"));
    let mut feed = Feed::connect(&client, &lab.standin.napi_url().parse().unwrap(), &net_agent::registration(CN)).await.unwrap();
    assert!(matches!(feed.next().await.unwrap(), FeedEvent::Began(_)));
    tokio::time::pause();
    let waiting = tokio::spawn(async move { feed.next().await });
    tokio::task::yield_now().await;
    for (seconds, signs) in [(27, 0), (1, 1), (26, 1), (2, 2)] {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        // The other side has a clock of its own, and the time of this one stands still while nothing waits for it.
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while lab.standin.feeds().1 < signs {
            assert!(std::time::Instant::now() < deadline, "no sign of life");
            std::thread::yield_now();
        }
        assert_eq!(lab.standin.feeds().1, signs);
    }
    waiting.abort();
}

/// net-agent case 48
#[tokio::test]
async fn garbage_on_the_feed_ends_it_and_nothing_else() {
    let lab = Lab::started().await;
    let uuid = lab.instance(5).await;
    for garbage in [
        "not json",
        "[]",
        "{\"bootstrapRoutes\":5}",
        "{\"changeKind\":{}}",
        "{\"changeKind\":{\"resource\":\"nic\"},\"changedResourceId\":7}",
    ] {
        lab.standin.say_to_feeds(garbage);
        eventually("the break", || (lab.numbers.status()["feed"] == false).then_some(())).await;
        lab.fed().await;
    }
    // Of the protocol, and nonsense.
    for item in [
        json!({"changeKind": {"resource": "nic", "subResources": ["x"]}, "changedResourceId": "zz"}),
        json!({"changeKind": {"resource": "other", "subResources": []}, "changedResourceId": "zz", "cn_uuid": CN}),
    ] {
        lab.standin.say_to_feeds(&item.to_string());
    }
    lab.napi("PUT", &format!("/nics/{}", digits(5)), json!({"allow_ip_spoofing": true})).await;
    eventually("the update", || (lab.vm(uuid)["nics"][0]["allow_ip_spoofing"] == true).then_some(())).await;
    assert_eq!(lab.numbers.status()["feed"], true);
}
