//! TLS by rustls: the certificate of a server, and the certificates that a client trusts.

use std::path::Path;
use std::sync::Arc;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{PemObject, SectionKind};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use super::write_timeout::WriteTimeout;
use crate::failure::BoxError;

/// Why certificates or a key cannot be used for TLS. The message names the file, if there is one, and its content.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct TlsError {
    what: String,
    source: Option<BoxError>,
}

impl TlsError {
    fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            source: None,
        }
    }
}

fn failed<E: Into<BoxError>>(what: impl Into<String>) -> impl FnOnce(E) -> TlsError {
    let what = what.into();
    move |source| TlsError {
        what,
        source: Some(source.into()),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The certificate chain and private key of a server. Clients can negotiate HTTP/2 or HTTP/1.1.
#[derive(Clone)]
pub struct ServerTls(TlsAcceptor);

impl ServerTls {
    /// Reads PEM files: the certificate, followed by its intermediate certificates, and the certificate's key.
    ///
    /// # Errors
    ///
    /// Returns [`TlsError`] if a file cannot be read, has no certificate or not exactly one key, or if the key does not
    /// belong to the first certificate. The error names the file and its content.
    pub fn from_files(
        certificates: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        let (certificates, key) = (certificates.as_ref(), key.as_ref());
        let (chain, key_pem) = (read(certificates)?, read(key)?);
        Self::new((&chain, &quoted(certificates)), (&key_pem, &quoted(key)))
    }

    /// Parses the contents of such files.
    ///
    /// # Errors
    ///
    /// As for [`from_files`](Self::from_files).
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Self::new((certificates, "the certificates"), (key, "the key"))
    }

    /// Parses the contents of two files, each with its name for errors.
    fn new(
        (certificates, chain_name): (&[u8], &str),
        (key, key_name): (&[u8], &str),
    ) -> Result<Self, TlsError> {
        let certificates = parse_certificates(certificates, chain_name)?;
        let key = parse_key(key, key_name)?;
        let cannot =
            format!("the key in {key_name} cannot be used with the certificate in {chain_name}");
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_no_client_auth()
                    .with_single_cert(certificates, key)
            })
            .map_err(failed(cannot))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    pub(super) async fn accept(
        &self,
        stream: WriteTimeout,
    ) -> std::io::Result<TlsStream<WriteTimeout>> {
        self.0.accept(stream).await
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("ServerTls")
    }
}

/// The certificate authorities that a client trusts. Server certificates are always verified.
#[derive(Clone)]
pub struct ClientTls(Arc<ClientConfig>);

impl ClientTls {
    /// Trusts only servers whose certificate is signed by one of these PEM certificates.
    ///
    /// # Errors
    ///
    /// Returns [`TlsError`] if the PEM has no certificate.
    pub fn from_pem(certificates: &[u8]) -> Result<Self, TlsError> {
        Self::parse_roots(certificates, "the certificates")
    }

    /// Trusts only servers whose certificate is signed by one of the certificates in this PEM file.
    ///
    /// # Errors
    ///
    /// Returns [`TlsError`] if the file cannot be read or has no certificate. The error names the file and its content.
    pub fn from_file(certificates: impl AsRef<Path>) -> Result<Self, TlsError> {
        let path = certificates.as_ref();
        Self::parse_roots(&read(path)?, &quoted(path))
    }

    fn parse_roots(certificates: &[u8], name: &str) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in parse_certificates(certificates, name)? {
            let added = roots.add(certificate);
            added.map_err(failed(format!("a certificate in {name} cannot be used")))?;
        }
        Self::with_roots(roots)
    }

    fn with_roots(roots: RootCertStore) -> Result<Self, TlsError> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(failed("TLS cannot be set up"))?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// Creates a connector that requires TLS unless `is_plain`.
    pub(crate) fn connector(
        tls: Option<Self>,
        is_plain: bool,
        connector: HttpConnector,
    ) -> Result<HttpsConnector<HttpConnector>, TlsError> {
        let builder = HttpsConnectorBuilder::new();
        let builder = match tls {
            Some(Self(config)) => builder.with_tls_config(ClientConfig::clone(&config)),
            // Plain HTTP must not fail in a container without system certificates.
            None if is_plain => {
                let Self(config) = Self::with_roots(RootCertStore::empty())?;
                builder.with_tls_config(ClientConfig::clone(&config))
            }
            None => builder
                .with_provider_and_native_roots(ring::default_provider())
                .map_err(failed("the system's certificates cannot be read"))?,
        };
        let builder = if is_plain {
            builder.https_or_http()
        } else {
            builder.https_only()
        };
        Ok(builder.enable_all_versions().wrap_connector(connector))
    }
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("ClientTls")
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(failed(format!("cannot read {}", quoted(path))))
}

fn quoted(path: &Path) -> String {
    format!("`{}`", path.display())
}

/// Parses at least one certificate.
fn parse_certificates(pem: &[u8], name: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = || failed(format!("{name}: the PEM is malformed"));
    let certificates: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(wrong())?;
    if certificates.is_empty() {
        let found = found(pem);
        let what = format!(
            "there is no certificate in {name}: expected `-----BEGIN CERTIFICATE-----`, found {found}"
        );
        return Err(TlsError::new(what));
    }
    for certificate in &certificates {
        let parsed = ParsedCertificate::try_from(certificate);
        parsed.map_err(failed(format!("a certificate in {name} is malformed")))?;
    }
    Ok(certificates)
}

/// Parses exactly one private key.
fn parse_key(pem: &[u8], name: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    let wrong = failed(format!("{name}: the PEM is malformed"));
    let keys: Result<Vec<PrivateKeyDer<'static>>, _> = PrivateKeyDer::pem_slice_iter(pem).collect();
    let mut keys = keys.map_err(wrong)?;
    match (keys.pop(), keys.len()) {
        (Some(key), 0) => Ok(key),
        (Some(_), others) => {
            let what = format!("expected one private key in {name}, found {}", others + 1);
            Err(TlsError::new(what))
        }
        (None, _) => {
            let found = found(pem);
            let what = format!(
                "there is no private key in {name}: expected `-----BEGIN PRIVATE KEY-----`, found {found}"
            );
            Err(TlsError::new(what))
        }
    }
}

/// Describes the content of a file in which no certificate or key was found.
fn found(pem: &[u8]) -> String {
    const ENCRYPTED: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";

    if pem.is_empty() {
        return "nothing: it is empty".to_owned();
    }
    if pem
        .windows(ENCRYPTED.len())
        .any(|window| window == ENCRYPTED)
    {
        return "an encrypted private key, which you have to decrypt first".to_owned();
    }
    let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem);
    let mut kinds: Vec<_> = sections
        .map_while(Result::ok)
        .map(|(kind, _)| kind_of(kind))
        .collect();
    kinds.dedup();
    match kinds.is_empty() {
        true => format!("{} bytes that are not PEM", pem.len()),
        false => kinds.join(" and "),
    }
}

fn kind_of(kind: SectionKind) -> &'static str {
    match kind {
        SectionKind::Certificate => "a certificate",
        SectionKind::PublicKey => "a public key",
        SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
            "a private key"
        }
        SectionKind::Crl => "a revocation list",
        SectionKind::Csr => "a certificate request",
        _ => "another PEM section",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::failure::chain;

    // Read when a test runs: a package of this crate has no keys, and its tests build without them.
    static CERTIFICATE: LazyLock<String> = LazyLock::new(|| pem("certificate.pem"));
    static STRANGER: LazyLock<String> = LazyLock::new(|| pem("stranger.pem"));
    static KEY: LazyLock<String> = LazyLock::new(|| pem("key.pem"));
    const OTHER_PEM: &str = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    const GARBAGE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    const UNFINISHED: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n";
    const ENCRYPTED: &str =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";

    fn pem(name: &str) -> String {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/it/tls");
        std::fs::read_to_string(format!("{folder}/{name}")).unwrap()
    }

    /// Returns the error for files with these contents.
    fn rejected(certificates: &str, key: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let (certificates, key) = (write("chain.pem", certificates), write("key.pem", key));
        let error = ServerTls::from_files(certificates, key).map(drop);
        let error = error.map_or_else(|error| chain(&error), |()| "usable".to_owned());
        error.replace(&*folder.path().to_string_lossy(), "")
    }

    #[test]
    fn server_tls_rejects_files_without_a_certificate_and_its_key_by_name() {
        let both = format!("{}{}", *KEY, *CERTIFICATE);
        assert_eq!(rejected(&CERTIFICATE, &KEY), "usable");
        assert_eq!(rejected(&both, &both), "usable");
        let expected = "expected `-----BEGIN CERTIFICATE-----`, found";
        for (certificates, found) in [
            ("", "nothing: it is empty"),
            ("no PEM", "6 bytes that are not PEM"),
            (KEY.as_str(), "a private key"),
            (OTHER_PEM, "a public key"),
        ] {
            let expected = format!("there is no certificate in `/chain.pem`: {expected} {found}");
            assert_eq!(rejected(certificates, &KEY), expected);
        }
        let expected = "expected `-----BEGIN PRIVATE KEY-----`, found";
        for (key, found) in [
            ("", "nothing: it is empty"),
            ("no PEM", "6 bytes that are not PEM"),
            (CERTIFICATE.as_str(), "a certificate"),
            (
                ENCRYPTED,
                "an encrypted private key, which you have to decrypt first",
            ),
        ] {
            let expected = format!("there is no private key in `/key.pem`: {expected} {found}");
            assert_eq!(rejected(&CERTIFICATE, key), expected);
        }
        let keys = KEY.repeat(2);
        let expected = "expected one private key in `/key.pem`, found 2";
        assert_eq!(rejected(&CERTIFICATE, &keys), expected);
        for (certificates, expected) in [
            (GARBAGE, "a certificate in `/chain.pem` is malformed: "),
            (UNFINISHED, "`/chain.pem`: the PEM is malformed: "),
            (
                STRANGER.as_str(),
                "the key in `/key.pem` cannot be used with the certificate in `/chain.pem`: ",
            ),
        ] {
            let rejected = rejected(certificates, &KEY);
            assert!(rejected.starts_with(expected), "{rejected}");
        }
        let missing = ServerTls::from_files("/nowhere/chain.pem", "/nowhere/key.pem");
        let missing = chain(&missing.unwrap_err());
        assert!(
            missing.starts_with("cannot read `/nowhere/chain.pem`: "),
            "{missing}"
        );
    }

    #[test]
    fn client_tls_rejects_pem_without_certificates() {
        let rejected = |pem: &str| chain(&ClientTls::from_pem(pem.as_bytes()).unwrap_err());
        for (pem, found) in [
            ("", "nothing: it is empty"),
            (KEY.as_str(), "a private key"),
        ] {
            let expected = "there is no certificate in the certificates: \
                            expected `-----BEGIN CERTIFICATE-----`, found";
            assert_eq!(rejected(pem), format!("{expected} {found}"));
        }
        assert!(rejected(GARBAGE).starts_with("a certificate in the certificates is malformed"));
        let missing = chain(&ClientTls::from_file("/nowhere/roots.pem").unwrap_err());
        assert!(
            missing.starts_with("cannot read `/nowhere/roots.pem`: "),
            "{missing}"
        );
    }
}
