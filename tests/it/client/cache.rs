//! The cache of a component through a client: sessions, reserved keys, and the cache of pylm.

use std::time::Duration;

use bytes::Bytes;
use palm::CacheError;
use palm::prelude::*;
use palm::socket::{Publish, Pull, Reply};

use super::super::setup::{ANY_NAME, address, options, paused, soon};
use super::{echo, server_and_client, spawn};

#[test]
fn session_prefixes_the_cache_field_and_each_key() {
    paused(async {
        let (handle, _) = spawn().await;
        let connect = async |session: &str| {
            let client = Client::builder("server", handle.db_address()).session(session);
            soon("connecting", client.connect()).await.unwrap()
        };
        let (one, other) = (connect("one").await, connect("other").await);
        let plain = Client::connect("server", handle.db_address())
            .await
            .unwrap();
        one.set("k", "1").await.unwrap();
        other.set("k", "2").await.unwrap();
        assert_eq!(one.get("k").await.unwrap(), Some("1".into()));
        assert_eq!(plain.get("k").await.unwrap(), None);
        assert_eq!(plain.get("other/k").await.unwrap(), Some("2".into()));
        one.delete("k").await.unwrap();
        assert_eq!(one.get("k").await.unwrap(), None);
        assert_eq!(other.get("k").await.unwrap(), Some("2".into()));
    });
}

#[test]
fn cache_distinguishes_absent_keys_from_empty_values() {
    paused(async {
        let (_handle, _, client) = server_and_client().await;
        assert_eq!(client.get("ключ").await.unwrap(), None);
        client.set("ключ", Bytes::new()).await.unwrap();
        assert_eq!(client.get("ключ").await.unwrap(), Some(Bytes::new()));
        let large = Bytes::from(vec![0xff; 5_000_000]);
        client.set("ключ", large.clone()).await.unwrap();
        assert_eq!(client.cache().get("ключ").await.unwrap(), Some(large));
        client.delete("ключ").await.unwrap();
        client.delete("ключ").await.unwrap();
        assert_eq!(client.get("ключ").await.unwrap(), None);

        assert_eq!(client.get("name").await.unwrap(), Some("server".into()));
        let error = client
            .set("pull_address", "tcp://elsewhere:1")
            .await
            .unwrap_err();
        assert!(matches!(error, CacheError::Reserved { .. }), "{error}");
        let error = client.delete("name").await.unwrap_err();
        assert!(matches!(error, CacheError::Reserved { .. }), "{error}");
        assert!(client.set(&"k".repeat(5000), "x").await.is_err());
        echo(&client, "afterwards").await;
    });
}

#[test]
fn client_uses_only_the_cache_verbs_that_pylm_has() {
    paused(async {
        let (mut reply, at) = Reply::bind(&address(ANY_NAME), &options()).await.unwrap();
        let (_pull, pull_at) = Pull::bind(&address(ANY_NAME), &options()).await.unwrap();
        let (_publish, publish_at) = Publish::bind(&address(ANY_NAME), &options()).await.unwrap();
        // The cache of pylm has no `find`, and never answers a `delete` of an absent key.
        let service = tokio::spawn(async move {
            let mut values = std::collections::HashMap::from([
                ("name".to_owned(), Bytes::from("old")),
                ("pull_address".to_owned(), pull_at.to_string().into()),
                ("pub_address".to_owned(), publish_at.to_string().into()),
            ]);
            while let Ok((frames, responder)) = reply.recv().await {
                let message = Message::decode(frames[0].clone()).unwrap();
                let key = String::from_utf8_lossy(message.payload()).into_owned();
                let answer = match message.function().split('.').nth(1) {
                    Some("get") => values.get(&key).cloned().unwrap_or_default(),
                    Some("set") => {
                        values.insert(message.cache().to_owned(), message.payload().clone());
                        message.cache().to_owned().into()
                    }
                    Some("delete") => {
                        assert!(values.remove(&key).is_some(), "delete of `{key}`");
                        key.into()
                    }
                    _ => Bytes::new(),
                };
                responder.reply(answer).unwrap();
            }
        });
        let client = Client::builder("old", at)
            .timeout(Duration::from_secs(5))
            .connect();
        let client = soon("connecting", client).await.unwrap();
        client.delete("k").await.unwrap();
        client.set("k", "value").await.unwrap();
        assert_eq!(client.get("k").await.unwrap(), Some("value".into()));
        client.delete("k").await.unwrap();
        client.delete("k").await.unwrap();
        assert_eq!(client.get("k").await.unwrap(), None);
        let unsupported = |error: CacheError, expected: &str| match error {
            CacheError::Unsupported { operation } => assert_eq!(operation, expected),
            other => panic!("{other:?}"),
        };
        let swap = client.compare_and_set("k", None, None).await;
        unsupported(swap.unwrap_err(), "compare and set");
        unsupported(client.add("k", 1).await.unwrap_err(), "add");
        let found = client.scan("").next().await.unwrap();
        unsupported(found.unwrap_err(), "scan");
        let deleted = client.delete_prefix("k").await;
        unsupported(deleted.unwrap_err(), "delete by prefix");
        unsupported(client.watch("k").await.unwrap_err(), "watch");
        let brief = client.set_for("k", "x", Duration::from_secs(1)).await;
        unsupported(brief.unwrap_err(), "set for a time");
        assert!(!service.is_finished());
    });
}
