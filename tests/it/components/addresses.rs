//! Addresses: which are set, derived, published and rejected.

use std::time::Duration;

use palm::ComponentHandle;
use palm::prelude::*;
use palm::socket::Request;

use super::super::setup::{
    ANY, TempFolder, address, chain, check, connect, connect_through, options, soon, unbound,
};
use super::{First, Hand, Last, Middle, eval};

#[test]
fn worker_connects_by_explicit_push_and_pull_addresses() {
    check(async {
        let master = Master::new("master").bind(ANY).spawn().await.unwrap();
        let unbound = unbound();
        let worker = Hand
            .connect(&unbound)
            .name("hand")
            .push_address(master.address("worker_push_address").unwrap())
            .pull_address(master.address("worker_pull_address").unwrap());
        let worker = worker.spawn().await.unwrap();
        let client = connect("master", &master).await;
        assert_eq!(eval(&client, ["master.mark"], "x").await, "x hand");
        worker.shutdown().await.unwrap();
    });
}

#[test]
fn components_over_ipc_need_one_address() {
    check(async {
        let folder = TempFolder::new();
        for round in ["first", "again on the same paths"] {
            let master = Master::new("master").bind(folder.ipc("db")).pipelined(true);
            let master = master.spawn().await.unwrap();
            assert!(
                master
                    .addresses()
                    .values()
                    .all(|address| address.starts_with("ipc://"))
            );
            let hand = Hand
                .connect(master.db_address())
                .name("hand")
                .spawn()
                .await
                .unwrap();
            let last = Last
                .bind(folder.ipc("last"))
                .follow(master.db_address())
                .to_client(true);
            let last = last.spawn().await.unwrap();
            let client = connect_through(&master, &last).await;
            assert_eq!(
                eval(&client, ["master.mark", "last.mark"], round).await,
                format!("{round} hand last")
            );
            for component in [master, hand, last] {
                component.shutdown().await.unwrap();
            }
        }
    });
}

#[test]
fn wildcard_address_is_published_as_a_connectable_one() {
    check(async {
        let server = First.bind("tcp://*:0").trust_network(true);
        let server = server.spawn().await.unwrap();
        assert_eq!(server.addresses().len(), 3);
        for address in server.addresses().values() {
            assert!(
                !address.contains('*') && !address.ends_with(":0"),
                "{address}"
            );
        }
        let client = connect("first", &server).await;
        assert_eq!(eval(&client, ["first.mark"], "x").await, "x first");

        let server = First
            .bind("tcp://*:*")
            .trust_network(true)
            .advertised_host("localhost")
            .spawn()
            .await
            .unwrap();
        for address in server.addresses().values() {
            assert!(address.starts_with("tcp://localhost:"), "{address}");
        }
        let client = connect("first", &server).await;
        assert_eq!(eval(&client, ["first.mark"], "x").await, "x first");
    });
}

/// Waits until the component publishes each of these keys, and checks that `unknown` has no value.
async fn wait_for_keys(component: &ComponentHandle, keys: &[&str]) {
    let db_address = address(component.db_address());
    let request = Request::connect(&db_address, &options()).await.unwrap();
    let get = async |key: &str| {
        let body = Message::new("_.get", key.to_owned()).encode();
        request.request(body, Duration::from_secs(5)).await.unwrap()
    };
    for key in keys {
        let value = soon(
            &format!("`{}` publishing its {key}", component.name()),
            async {
                loop {
                    let value = get(key).await;
                    if !value.is_empty() {
                        return value;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
        )
        .await;
        match (*key, component.address(key)) {
            ("name", _) => assert_eq!(value, component.name().to_owned()),
            (_, Some(address)) => assert_eq!(value, address.to_owned()),
            (_, None) => assert!(value.starts_with(b"tcp://"), "{key}: {value:?}"),
        }
    }
    assert_eq!(get("unknown").await, "");
}

#[test]
fn each_component_kind_publishes_its_configuration() {
    check(async {
        let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
        let publishes = first.address("pub_address").unwrap();
        wait_for_keys(
            &first,
            &["name", "db_address", "pull_address", "pub_address"],
        )
        .await;

        let master = Master::new("master").bind(ANY).spawn().await.unwrap();
        let keys = [
            "name",
            "db_address",
            "pull_address",
            "pub_address",
            "worker_pull_address",
            "worker_push_address",
        ];
        wait_for_keys(&master, &keys).await;

        let middle = Middle.bind(ANY).sub_address(publishes).previous("first");
        let middle = middle.spawn().await.unwrap();
        wait_for_keys(
            &middle,
            &["name", "db_address", "sub_address", "pub_address"],
        )
        .await;

        let last = Last
            .bind(ANY)
            .stream(publishes, "first")
            .stream(publishes, "other");
        let last = last.spawn().await.unwrap();
        wait_for_keys(
            &last,
            &["name", "sub_address_0", "sub_address_1", "pub_address"],
        )
        .await;

        let hub = Hub::new("hub")
            .bind(ANY)
            .sub_address(publishes)
            .previous("first");
        let hub = hub.spawn().await.unwrap();
        let keys = [
            "name",
            "db_address",
            "sub_address",
            "pub_address",
            "worker_pull_address",
            "worker_push_address",
        ];
        wait_for_keys(&hub, &keys).await;
    });
}

#[test]
fn follower_by_db_address_publishes_its_sub_address() {
    check(async {
        let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
        let middle = Middle
            .bind(ANY)
            .follow(first.db_address())
            .spawn()
            .await
            .unwrap();
        wait_for_keys(&middle, &["sub_address"]).await;
        let last = Last
            .bind(ANY)
            .follow(first.db_address())
            .spawn()
            .await
            .unwrap();
        wait_for_keys(&last, &["sub_address_0"]).await;
    });
}

#[test]
fn conflicting_options_are_rejected_at_start() {
    check(async {
        let fails = async |builder: Result<ComponentHandle, palm::Error>, expected: &[&str]| {
            let error = chain(&builder.unwrap_err());
            for part in expected {
                assert!(error.contains(part), "`{part}` is not in: {error}");
            }
        };
        fails(
            First.bind("5555").spawn().await,
            &["first", "`5555`", "tcp://host:port"],
        )
        .await;
        fails(First.bind(ANY).name("a.b").spawn().await, &["`a.b`", "dot"]).await;
        fails(
            First.bind(ANY).pull_address("tcp://x").spawn().await,
            &["`tcp://x`", "port"],
        )
        .await;
        fails(Middle.bind(ANY).spawn().await, &["middle", ".follow("]).await;
        fails(
            Middle.bind(ANY).sub_address(ANY).spawn().await,
            &["middle", ".previous("],
        )
        .await;
        fails(Last.bind(ANY).spawn().await, &["last", ".stream("]).await;
        fails(
            Hand.connect("nonsense").name("hand").spawn().await,
            &["hand", "`nonsense`"],
        )
        .await;
    });
}
