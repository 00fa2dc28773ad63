//! HTTPS. The certificate next to this file is self-signed, for 127.0.0.1.

use palm::http::{ClientTls, GatewayOptions, Listener, ServerTls, serve};
use palm::parts::{CacheService, HttpConnection, PubService, PullService, Retry};
use palm::prelude::*;
use palm::{CallError, FailureKind};
use tokio_util::task::AbortOnDropHandle;

use super::setup::{ANY, check, connect, soon, unbound_socket};

const CERTIFICATE: &[u8] = include_bytes!("certificate.pem");
const KEY: &[u8] = include_bytes!("key.pem");
const STRANGER: &[u8] = include_bytes!("stranger.pem");

struct Hands;

#[palm::http_worker(server = "shop")]
impl Hands {
    #[palm::method]
    fn shout(&self, text: String) -> String {
        text.to_uppercase()
    }
}

fn listener(address: &str) -> Listener {
    let tls = ServerTls::from_pem(CERTIFICATE, KEY).unwrap();
    Listener::new(address).tls(tls)
}

async fn call(workers: HttpConnection) -> Result<String, CallError> {
    let mut template = ServerTemplate::new("shop");
    template
        .register_inbound(PullService::bind(ANY), "Pull")
        .route("Http");
    template.register_outbound(workers, "Http").route("Pub");
    template.register_outbound(PubService::bind(ANY), "Pub");
    template.register_bypass(CacheService::bind(ANY), "Cache");
    let master = template.spawn().await.unwrap();
    let client = connect("shop", &master).await;
    let answer = soon("an answer", client.eval(Hands::SHOUT, "x").into_future()).await;
    master.shutdown().await.unwrap();
    answer
}

#[test]
fn http_worker_is_verified_by_its_certificate() {
    check(async {
        let at = unbound_socket();
        let serving = serve(Hands.into_service(), listener(&at.to_string()));
        let _serving = AbortOnDropHandle::new(tokio::spawn(serving));
        let url = format!("https://{at}");

        let trusting = HttpConnection::connect(&url).tls(ClientTls::from_pem(CERTIFICATE).unwrap());
        assert_eq!(call(trusting).await.unwrap(), "X");

        let once = Retry::new().attempts(1);
        let wary = HttpConnection::connect(&url)
            .retry(once)
            .tls(ClientTls::from_pem(STRANGER).unwrap());
        let Err(CallError::Remote(error)) = call(wary).await else {
            panic!("it is not signed by a known authority");
        };
        assert_eq!(error.kind, FailureKind::Unavailable);
        assert!(error.message.contains("certificate"), "{error}");
    });
}

#[test]
#[ignore = "needs curl"]
fn gateway_serves_https_and_http_2_to_curl() {
    check(async {
        let master = Master::new("shop")
            .bind(ANY)
            .gateway(listener("127.0.0.1:0"), GatewayOptions::new());
        let master = master.spawn().await.unwrap();
        let url = master.address("http_address").unwrap();
        assert!(url.starts_with("https://"));
        let folder = tempfile::tempdir().unwrap();
        let trusted = folder.path().join("certificate.pem");
        std::fs::write(&trusted, CERTIFICATE).unwrap();
        for (version, expected) in [("--http2", "200 2"), ("--http1.1", "200 1.1")] {
            let mut curl = tokio::process::Command::new("curl");
            curl.args([
                "--silent",
                "--output",
                "-",
                "--write-out",
                "\n%{http_code} %{http_version}",
            ]);
            curl.arg(version)
                .arg("--cacert")
                .arg(&trusted)
                .arg(format!("{url}/healthz"));
            let output = soon("curl", curl.output()).await.unwrap();
            let output = String::from_utf8(output.stdout).unwrap();
            let (health, versions) = output.rsplit_once('\n').unwrap();
            assert_eq!(versions, expected);
            assert!(health.contains("\"status\":\"pass\""), "{health}");
        }
        // Clients that do not trust the certificate or do not use TLS receive nothing, and do not stop others.
        let rejected = tokio::process::Command::new("curl")
            .args(["--silent", url])
            .status();
        assert!(!soon("curl", rejected).await.unwrap().success());
        let plain = tokio::process::Command::new("curl")
            .args([
                "--silent",
                "--output",
                "/dev/null",
                &url.replace("https", "http"),
            ])
            .status();
        assert!(!soon("curl", plain).await.unwrap().success());
        master.shutdown().await.unwrap();
    });
}

#[test]
fn malformed_certificate_is_rejected() {
    for (certificate, key) in [
        (&b"text"[..], KEY),
        (CERTIFICATE, &b"text"[..]),
        (STRANGER, KEY),
    ] {
        let rejected = ServerTls::from_pem(certificate, key).unwrap_err();
        assert!(!rejected.to_string().is_empty());
    }
    assert!(ClientTls::from_pem(b"-----BEGIN CERTIFICATE-----\nAA").is_err());
}
