//! How clients connect, and what the error says if they cannot.

use std::time::Duration;

use palm::ConnectError;
use palm::prelude::*;

use super::super::setup::{ANY, STALLED, TempFolder, chain, check, soon, unbound};
use super::{Server, echo, spawn_at};

#[test]
fn connect_error_says_what_to_do() {
    check(async {
        let (handle, _) = spawn_at(ANY).await;
        let short = Duration::from_millis(300);
        let fails = async |builder: palm::ClientBuilder, expected: &[&str]| {
            let error = soon("giving up", builder.connect_timeout(short).connect()).await;
            let error = error.unwrap_err();
            let text = chain(&error);
            for part in expected {
                assert!(text.contains(part), "`{part}` is not in: {text}");
            }
            error
        };
        let db_address = handle.db_address();
        let error = fails(
            Client::builder("other", db_address),
            &[db_address, "`server`", "`other`"],
        )
        .await;
        assert!(matches!(error, ConnectError::Name { .. }));

        let absent = unbound();
        let error = fails(
            Client::builder("server", &absent),
            &[&absent, "no answer from", "300ms"],
        )
        .await;
        assert!(matches!(error, ConnectError::NoAnswer { .. }));

        let error = fails(
            Client::builder("server", db_address).sub_address(&absent),
            &[&absent, "no connection to", "300ms"],
        )
        .await;
        assert!(matches!(error, ConnectError::NoPublisher { .. }));

        let error = fails(
            Client::builder("server", "localhost"),
            &["`localhost`", "tcp://host:port"],
        )
        .await;
        assert!(matches!(error, ConnectError::Socket(_)));

        let error = fails(
            Client::builder("server", &absent)
                .this_config(true)
                .sub_address(&absent),
            &["push_address"],
        )
        .await;
        assert!(matches!(error, ConnectError::Incomplete));

        let mut template = palm::ServerTemplate::new("odd");
        template.register_bypass(palm::parts::CacheService::bind(ANY), "Cache");
        template.preset_cache("pull_address", "over there");
        let odd = template.spawn().await.unwrap();
        let error = fails(
            Client::builder("odd", odd.db_address()),
            &["pull_address", "`over there`"],
        )
        .await;
        assert!(matches!(error, ConnectError::BadAddress { .. }));
    });
}

#[test]
fn client_connects_to_a_server_that_starts_later() {
    check(async {
        let at = TempFolder::new();
        let db_address = at.ipc("db");
        let connecting = tokio::spawn(Client::connect("server", db_address.clone()));
        // Another client gives up after that time.
        let other = Client::builder("server", &db_address).connect_timeout(STALLED);
        let error = soon("giving up", other.connect()).await.unwrap_err();
        assert!(matches!(error, ConnectError::NoAnswer { .. }), "{error}");
        assert!(!connecting.is_finished());
        let _handle = Server::new().bind(db_address).spawn().await.unwrap();
        let client = soon("connecting", connecting).await.unwrap().unwrap();
        echo(&client, "at last").await;
    });
}
