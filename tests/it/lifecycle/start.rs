//! Components start, or say why they cannot.

use palm::ComponentKind;
use palm::parts::{CacheService, PubService, PullService, PushService};
use palm::prelude::*;
use tokio::net::TcpStream;

use super::super::setup::{
    ANY, ANY_NAME, Gate, TempFolder, chain, check, connect, paused, soon, starts_again, unbound,
};
use super::{Slow, Where};

#[test]
fn spawned_component_listens_at_all_of_its_addresses() {
    check(async {
        let gate = Gate::closed();
        let server = Slow { gate }.bind(ANY).pull_address(ANY).pub_address(ANY);
        let server = server.spawn().await.unwrap();
        assert_eq!(server.addresses().len(), 3);
        for address in server.addresses().values() {
            assert!(!address.ends_with(":0"));
            let address = address.strip_prefix("tcp://").unwrap();
            TcpStream::connect(address).await.unwrap();
        }
        assert_eq!(server.address("db_address"), Some(server.db_address()));
        assert_eq!(server.address("worker_push_address"), None);
    });
}

#[test]
fn start_at_an_address_in_use_names_it() {
    check(async {
        let gate = Gate::closed();
        let server = Slow { gate: gate.clone() }
            .bind(ANY)
            .pull_address(ANY)
            .pub_address(ANY);
        let server = server.spawn().await.unwrap();
        for key in ["db_address", "pull_address", "pub_address"] {
            let taken = server.address(key).unwrap();
            let at = |mine: &str| if mine == key { taken } else { ANY };
            let other = Slow { gate: gate.clone() }
                .bind(at("db_address"))
                .pull_address(at("pull_address"))
                .pub_address(at("pub_address"));
            let error = chain(&other.spawn().await.unwrap_err());
            for part in ["`slow`", taken, "in use"] {
                assert!(error.contains(part), "`{part}` is not in: {error}");
            }
        }

        let folder = TempFolder::new();
        let master = Master::new("master")
            .bind(folder.ipc("db"))
            .spawn()
            .await
            .unwrap();
        let error = Master::new("other")
            .bind(folder.ipc("db"))
            .spawn()
            .await
            .unwrap_err();
        let error = chain(&error);
        assert!(
            error.contains(&folder.ipc("db")) && error.contains("in use"),
            "{error}"
        );
        // The first master is unchanged.
        assert_eq!(
            connect("master", &master)
                .await
                .get("name")
                .await
                .unwrap()
                .unwrap(),
            "master"
        );
    });
}

#[test]
fn failed_start_leaves_no_address_bound() {
    check(async {
        let gate = Gate::closed();
        let server = Slow { gate: gate.clone() }.bind(ANY).spawn().await.unwrap();
        let paths = TempFolder::new();
        let start = |db_address: &str| {
            let other = Slow { gate: gate.clone() }.bind(db_address);
            let other = other.pull_address(paths.ipc("pull"));
            other.pub_address(paths.ipc("pub")).spawn()
        };
        for _ in 0..200 {
            // Addresses that were bound before the failure are free again.
            let error = chain(&start(server.db_address()).await.unwrap_err());
            assert!(error.contains(server.db_address()), "{error}");
        }
        let _started = start(&paths.ipc("db")).await.unwrap();
    });
}

#[test]
fn component_runs_on_its_own_thread() {
    check(async {
        let pull = unbound();
        let server = Where.bind(ANY).pull_address(&pull).own_thread(true);
        let server = server.spawn().await.unwrap();
        let client = connect("where", &server).await;
        assert_eq!(client.eval(Where::THREAD, ()).await.unwrap(), "where");

        let other = Where.bind(server.db_address()).own_thread(true).spawn();
        let error = chain(&soon("the error", other).await.unwrap_err());
        assert!(error.contains(server.db_address()), "{error}");

        soon("the end", server.shutdown()).await.unwrap();
        let next = async || {
            let next = Where.bind(ANY).pull_address(&pull).own_thread(true);
            next.spawn().await
        };
        let _next = starts_again(next).await;
    });
}

#[test]
fn invalid_routes_are_rejected_by_name() {
    paused(async {
        let template = || {
            let mut template = palm::ServerTemplate::new("template");
            template.register_outbound(PubService::bind(ANY_NAME), "Pub");
            template.register_bypass(CacheService::bind(ANY_NAME), "Cache");
            template
        };
        let fails = async |template: palm::ServerTemplate, expected: &[&str]| {
            let error = chain(&template.spawn().await.unwrap_err());
            for part in expected {
                assert!(error.contains(part), "`{part}` is not in: {error}");
            }
        };
        let mut typo = template();
        typo.register_inbound(PullService::bind(ANY_NAME), "Pull")
            .route("Puhb");
        fails(typo, &["`template`", "`Pull`", "`Puhb`", "`Pub`"]).await;

        let mut bypass = template();
        bypass
            .register_inbound(PullService::bind(ANY_NAME), "Pull")
            .route("Cache");
        fails(
            bypass,
            &["`Pull`", "`Cache`", "not an outbound part", "`Pub`"],
        )
        .await;

        let mut twice = template();
        twice
            .register_inbound(PullService::bind(ANY_NAME), "Pub")
            .route("Pub");
        fails(twice, &["two parts", "`Pub`"]).await;

        let mut circle = template();
        circle
            .register_outbound(PushService::bind(ANY_NAME), "One")
            .route("Other");
        circle
            .register_outbound(PushService::bind(ANY_NAME), "Other")
            .route("One");
        fails(circle, &["One → Other → One"]).await;

        let mut itself = template();
        itself
            .register_outbound(PushService::bind(ANY_NAME), "One")
            .route("One");
        fails(itself, &["One → One"]).await;

        let mut loose = template();
        loose.register_inbound(PullService::bind(ANY_NAME), "Pull");
        fails(loose, &["`template`", "`Pull` has no route", "`Pub`"]).await;

        fails(template(), &["no route leads to `Pub`"]).await;

        let mut caches = palm::ServerTemplate::new("template");
        caches.register_bypass(CacheService::bind(ANY_NAME), "Cache");
        caches.register_bypass(CacheService::bind(ANY_NAME), "Other");
        fails(caches, &["`Cache` and `Other`", "a component has one"]).await;
    });
}

#[test]
fn registered_components_are_listed() {
    let found = palm::components().into_iter().find(|component| {
        component.type_name == "Slow" && component.declared_at.ends_with("lifecycle")
    });
    let slow = found.unwrap();
    assert_eq!((slow.kind, slow.name), (ComponentKind::Server, "slow"));
    assert_eq!(slow.doc, "Does everything slowly.");
    let functions: Vec<_> = slow
        .functions
        .iter()
        .map(|function| &*function.name)
        .collect();
    assert_eq!(functions, ["gated", "noted", "endless"]);
    assert_eq!(
        (&*slow.functions[0].input, &*slow.functions[0].output),
        ("Bytes", "Bytes")
    );
    assert_eq!(slow.functions[0].doc, "Waits at the gate.");
    assert!(!slow.functions[0].takes_context && slow.functions[1].takes_context);
    let kinds: Vec<_> = palm::components()
        .iter()
        .map(|component| component.kind)
        .collect();
    for kind in [
        ComponentKind::Server,
        ComponentKind::Pipeline,
        ComponentKind::Sink,
        ComponentKind::Master,
        ComponentKind::Hub,
        ComponentKind::Worker,
        ComponentKind::MuxWorker,
    ] {
        assert!(kinds.contains(&kind), "{kind}");
    }
}
