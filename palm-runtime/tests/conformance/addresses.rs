//! Addresses of bound ends, and the errors of those that cannot be bound or connected to.

use std::error::Error as _;
use std::io;

use bytes::Bytes;
use palm_runtime::socket::{Address, Publish, Pull, Push, Reply, Router, SocketError};

use super::harness::check;
use super::setup::{IpcFolder, any_tcp, options, recv_one, soon};

/// Binds an end of each type.
async fn bind_all(address: &Address) -> Vec<Result<Address, SocketError>> {
    let options = options(|options| options);
    vec![
        Push::bind(address, &options).await.map(|(_, bound)| bound),
        Pull::bind(address, &options).await.map(|(_, bound)| bound),
        Publish::bind(address, &options)
            .await
            .map(|(_, bound)| bound),
        Reply::bind(address, &options).await.map(|(_, bound)| bound),
        Router::bind(address, &options)
            .await
            .map(|(_, bound)| bound),
    ]
}

#[test]
fn port_0_returns_the_real_port() {
    check(async {
        for bound in bind_all(&any_tcp()).await {
            let bound = bound.unwrap().to_string();
            let port = bound
                .strip_prefix("tcp://127.0.0.1:")
                .expect("the host is kept");
            assert_ne!(port.parse::<u16>().unwrap(), 0);
        }
    });
}

#[test]
fn any_host_is_bound_and_can_be_connected_to() {
    check(async {
        let options = options(|options| options);
        for any in ["tcp://*:0", "tcp://[::1]:0"] {
            let (mut pull, bound) = Pull::bind(&any.parse().unwrap(), &options).await.unwrap();
            let push = Push::connect(&bound.for_peers(Some("localhost")), &options)
                .await
                .unwrap();
            push.send(Bytes::from_static(b"here")).await.unwrap();
            assert_eq!(recv_one(&mut pull).await, "here", "at {bound}");
        }
    });
}

#[test]
fn an_ipc_address_is_returned_unchanged() {
    check(async {
        let folder = IpcFolder::new();
        let (_pull, bound) = Pull::bind(&folder.ipc("a"), &options(|options| options))
            .await
            .unwrap();
        assert_eq!(bound, folder.ipc("a"));
    });
}

fn assert_names_address_and_cause(error: &SocketError, address: &Address, kind: io::ErrorKind) {
    let SocketError::Bind {
        address: named,
        source,
        ..
    } = error
    else {
        panic!("{error:?} is not `SocketError::Bind`");
    };
    assert_eq!(named, address);
    assert!(
        error.to_string().contains(&address.to_string()),
        "`{error}` does not name it"
    );
    assert_eq!(source.kind(), kind, "{source:?}");
    assert!(error.source().is_some());
}

#[test]
fn an_address_in_use_is_an_error_that_names_address_and_cause() {
    check(async {
        let folder = IpcFolder::new();
        let options = options(|options| options);
        for address in folder.all("a") {
            let (mut pull, bound) = Pull::bind(&address, &options).await.unwrap();
            for error in bind_all(&bound).await {
                let error = error.unwrap_err();
                assert_names_address_and_cause(&error, &bound, io::ErrorKind::AddrInUse);
            }
            // The end that was bound first is not affected.
            let push = Push::connect(&bound, &options).await.unwrap();
            push.send(Bytes::from_static(b"still here")).await.unwrap();
            assert_eq!(recv_one(&mut pull).await, "still here");
        }
    });
}

#[test]
fn an_address_that_cannot_be_bound_is_an_error_that_names_address_and_cause() {
    check(async {
        let folder = IpcFolder::new();
        let elsewhere = "tcp://192.0.2.1:5555".parse().unwrap();
        let missing = folder.ipc("missing/a");
        for error in bind_all(&elsewhere).await {
            let kind = io::ErrorKind::AddrNotAvailable;
            assert_names_address_and_cause(&error.unwrap_err(), &elsewhere, kind);
        }
        for error in bind_all(&missing).await {
            let kind = io::ErrorKind::NotFound;
            assert_names_address_and_cause(&error.unwrap_err(), &missing, kind);
        }
    });
}

#[test]
fn a_stale_ipc_socket_is_replaced() {
    check(async {
        let folder = IpcFolder::new();
        let options = options(|options| options);
        let address = folder.ipc("stale");
        let path = address.to_string().replace("ipc://", "");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(
            std::fs::exists(&path).unwrap(),
            "the file outlives its socket"
        );

        let (mut pull, bound) = Pull::bind(&address, &options).await.unwrap();
        let push = Push::connect(&bound, &options).await.unwrap();
        push.send(Bytes::from_static(b"taken over")).await.unwrap();
        assert_eq!(recv_one(&mut pull).await, "taken over");
    });
}

#[test]
fn a_regular_file_is_not_replaced_by_an_ipc_socket() {
    check(async {
        let folder = IpcFolder::new();
        let address = folder.ipc("precious");
        let path = address.to_string().replace("ipc://", "");
        std::fs::write(&path, "precious").unwrap();
        for error in bind_all(&address).await {
            assert!(matches!(error, Err(SocketError::Bind { .. })), "{error:?}");
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    });
}

#[test]
fn an_address_is_free_again_after_close() {
    check(async {
        let folder = IpcFolder::new();
        let options = options(|options| options);
        for address in folder.all("a") {
            let (mut pull, bound) = Pull::bind(&address, &options).await.unwrap();
            let push = Push::connect(&bound, &options).await.unwrap();
            push.send(Bytes::from_static(b"connected")).await.unwrap();
            assert_eq!(recv_one(&mut pull).await, "connected");
            soon("closing", pull.close()).await;
            soon("binding again", Pull::bind(&bound, &options))
                .await
                .unwrap();
        }
    });
}

#[test]
fn connecting_to_a_wildcard_or_port_0_is_an_error() {
    check(async {
        let options = options(|options| options);
        for nowhere in ["tcp://127.0.0.1:0", "tcp://*:5555"] {
            let nowhere = nowhere.parse().unwrap();
            let error = Push::connect(&nowhere, &options).await.unwrap_err();
            let SocketError::Connect { address, .. } = &error else {
                panic!("{error:?} is not `SocketError::Connect`");
            };
            assert_eq!(*address, nowhere);
        }
    });
}

#[test]
fn connecting_to_an_unknown_host_is_not_an_error() {
    check(async {
        let unknown = "tcp://no-such-host.invalid:5555".parse().unwrap();
        let push = soon(
            "connecting",
            Push::connect(&unknown, &options(|options| options)),
        )
        .await
        .unwrap();
        soon("closing", push.close(std::time::Duration::ZERO)).await;
    });
}
