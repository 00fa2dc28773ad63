//! [`HostGuard`]: rejects requests by their `Host` and `Origin` before a service receives them.
//!
//! A web page can call a server at a loopback address, although other hosts cannot reach it: directly, because a
//! browser sends simple requests to any origin (cross-site request forgery), or by DNS rebinding, where the page's
//! own host name resolves to 127.0.0.1. The first kind has a foreign `Origin` or `Sec-Fetch-Site`, the second one a
//! foreign `Host`. A guard checks both at a loopback address, and at other addresses if the user lists names.
//!
//! At every address it also rejects requests whose host is missing or ambiguous.
//!
//! A gateway that another server serves does not know the address, so it checks by the host that a request names:
//! [`HostGuard::check_mounted`].

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName};
use hyper::http::uri::Authority;
use hyper::{Method, Request, StatusCode, Version};

use super::problem::Problem;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Allows every host or origin.
const ANY: &str = "*";

/// The hosts and origins that a listener or a gateway accepts.
#[derive(Debug, Clone, Default)]
pub(super) struct HostGuard {
    /// Whether the listener is bound to a loopback address.
    pub(super) is_loopback: bool,
    /// Names without a port, in lower case. `None` if the user lists none.
    pub(super) hosts: Option<Vec<String>>,
    /// As browsers send them, in lower case. `None` if the user lists none.
    pub(super) origins: Option<Vec<String>>,
}

/// Request extension: a page of another origin navigates here, through a link or a frame. The guard
/// accepts this because it is harmless to pages. A gateway rejects it, because a GET calls a function.
#[derive(Debug, Clone, Copy)]
pub(super) struct ForeignNavigation;

/// Extension of a request that the guard of a listener has accepted.
#[derive(Debug, Clone, Copy)]
struct CheckedByListener;

impl HostGuard {
    /// Returns a guard that allows these hosts and origins, for any address. Empty lists allow all.
    pub(super) fn new(hosts: &[String], origins: &[String]) -> Self {
        let listed = |names: &[String]| {
            let names: Vec<_> = names.iter().map(|name| name.to_lowercase()).collect();
            (!names.is_empty()).then_some(names)
        };
        Self {
            is_loopback: false,
            hosts: listed(hosts),
            origins: listed(origins),
        }
    }

    /// Checks a request to a gateway that another server serves. Does nothing if a listener has checked it.
    ///
    /// A request for a loopback name gets the checks of a loopback address. A page that rebinds its own host name is
    /// detected only if hosts are listed, since the address of the server is unknown. A request that names no host
    /// does not come from a browser, and is accepted.
    pub(super) fn check_mounted<B>(&self, request: &mut Request<B>) -> Result<(), Problem> {
        let names_host =
            request.uri().authority().is_some() || request.headers().contains_key(header::HOST);
        if !names_host || request.extensions().get::<CheckedByListener>().is_some() {
            return Ok(());
        }
        let host = host(request)?;
        let is_loopback = host.is_some_and(|host| is_loopback_name(&host_name(&host)));
        let guard = Self {
            is_loopback,
            ..self.clone()
        };
        guard.check(request)
    }

    /// Rejects a request whose host is missing, ambiguous or not allowed, or whose origin is not allowed.
    pub(super) fn check<B>(&self, request: &mut Request<B>) -> Result<(), Problem> {
        let host = host(request)?;
        self.check_host(&host)?;
        if !self.check_origin(request, &host)? {
            request.extensions_mut().insert(ForeignNavigation);
        }
        request.extensions_mut().insert(CheckedByListener);
        Ok(())
    }

    fn check_host(&self, host: &Option<Authority>) -> Result<(), Problem> {
        if !self.is_loopback && self.hosts.is_none() {
            return Ok(());
        }
        // Only HTTP/1.0 needs no host, and browsers do not speak it.
        let Some(host) = host else { return Ok(()) };
        let name = host_name(host);
        let is_listed = |listed: &String| listed == ANY || *listed == name;
        let listed = self.hosts.as_deref().unwrap_or_default();
        if self.is_loopback && is_loopback_name(&name) || listed.iter().any(is_listed) {
            return Ok(());
        }
        let detail = format!(
            "the host `{name}` is not allowed: if it is a name of this server, add it by `allowed_hosts` of the `Listener` or \
             `GatewayOptions`"
        );
        Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail))
    }

    /// Returns `true` if no page of another origin sent the request or that origin is allowed, and `false` if such a
    /// page navigates here. Rejects other requests of such pages.
    fn check_origin<B>(
        &self,
        request: &Request<B>,
        host: &Option<Authority>,
    ) -> Result<bool, Problem> {
        let headers = request.headers();
        let listed = self.origins.as_deref().unwrap_or_default();
        if !self.is_loopback && self.origins.is_none() || listed.iter().any(|it| it == ANY) {
            return Ok(true);
        }
        let rejected = |from: &str| {
            let detail = format!(
                "a web page of {from} must not call this server: to allow it, add the origin by `allowed_origins` of \
                 the `Listener` or `Gateway`"
            );
            Err(Problem::new(StatusCode::FORBIDDEN, detail))
        };
        if let Some(origin) = single(headers, &header::ORIGIN)? {
            let origin = origin.to_ascii_lowercase();
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            let host = host.as_ref().map(|host| host.as_str().to_ascii_lowercase());
            let is_same = authority.is_some() && authority == host.as_deref();
            if is_same || listed.contains(&origin) {
                return Ok(true);
            }
            return rejected(&format!("the origin `{origin}`"));
        }
        // Some requests of pages, such as those for images, have no `Origin`.
        let site = single(headers, &SEC_FETCH_SITE)?;
        if site.is_none_or(|site| site == "same-origin" || site == "none") {
            return Ok(true);
        }
        let is_safe = matches!(*request.method(), Method::GET | Method::HEAD);
        if is_safe && single(headers, &SEC_FETCH_MODE)? == Some("navigate") {
            return Ok(false);
        }
        rejected("another origin")
    }
}

/// Returns the host of a request, from its target or its `Host` header. Rejects a missing or ambiguous host.
fn host<B>(request: &Request<B>) -> Result<Option<Authority>, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let hosts = request.headers().get_all(header::HOST).iter().count();
    let target = request.uri().authority();
    let is_needed = match request.version() {
        Version::HTTP_09 | Version::HTTP_10 => false,
        Version::HTTP_11 => true,
        _ => target.is_none(),
    };
    if hosts > 1 || is_needed && hosts == 0 {
        let detail = format!("expected exactly one `Host` header, found {hosts}");
        return Err(bad(detail));
    }
    let header = request.headers().get(header::HOST);
    let host = header.map(|header| {
        let host = Authority::try_from(header.as_bytes()).ok();
        host.filter(is_host).ok_or_else(|| {
            let header = String::from_utf8_lossy(header.as_bytes());
            bad(format!("`{header}` is not a host"))
        })
    });
    let host = host.transpose()?;
    match (target, host) {
        (Some(target), Some(host)) if *target != host => Err(bad(format!(
            "the target names the host `{target}`, but the header `Host` names `{host}`"
        ))),
        (Some(target), _) if !is_host(target) => Err(bad(format!("`{target}` is not a host"))),
        (Some(target), _) => Ok(Some(target.clone())),
        (None, host) => Ok(host),
    }
}

/// Returns whether the authority is a name or an address, with or without a port, and has no user name.
fn is_host(authority: &Authority) -> bool {
    let host = authority.host();
    let text = authority.as_str();
    let is_name =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_');
    (!host.is_empty() && host.chars().all(is_name) || host.starts_with('['))
        && !text.contains('@')
        && (text == host || authority.port_u16().is_some())
}

/// Returns the name of a host in lower case, without its port and without the dot at the end of a full name.
fn host_name(host: &Authority) -> String {
    let name = host.host().to_ascii_lowercase();
    name.strip_suffix('.').map(str::to_owned).unwrap_or(name)
}

/// Returns whether the name always resolves to this machine. RFC 6761 reserves `localhost` and the names below it.
fn is_loopback_name(name: &str) -> bool {
    let bare = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    match bare.unwrap_or(name).parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
}

/// Returns the value of a header, or an error if the request has it more than once.
pub(super) fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    let detail = match (value.map(|value| value.to_str()), values.next()) {
        (None, _) => return Ok(None),
        (Some(Ok(value)), None) => return Ok(Some(value.trim())),
        (Some(Err(_)), None) => format!("the header `{name}` is not ASCII text"),
        (Some(_), Some(_)) => format!("the request has the header `{name}` more than once"),
    };
    Err(Problem::new(StatusCode::BAD_REQUEST, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> HostGuard {
        HostGuard {
            is_loopback: true,
            ..HostGuard::default()
        }
    }

    /// `status` is the status of the rejection, 200 for an accepted request, and 201 for a foreign navigation.
    #[track_caller]
    fn check(
        guard: &HostGuard,
        target: &str,
        version: Version,
        headers: &[(&str, &str)],
        status: u16,
    ) {
        let mut request = Request::get(target).version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        let checked = guard.check(&mut request);
        let is_foreign = request.extensions().get::<ForeignNavigation>().is_some();
        let found = match checked {
            Ok(()) => 200 + u16::from(is_foreign),
            Err(problem) => problem.status.as_u16(),
        };
        assert_eq!(found, status, "{target} {version:?} {headers:?}");
    }

    #[test]
    fn request_without_exactly_one_valid_host_is_rejected() {
        let guard = HostGuard::default();
        let (old, one, two) = (Version::HTTP_10, Version::HTTP_11, Version::HTTP_2);
        check(&guard, "/", one, &[("host", "a")], 200);
        check(&guard, "/", one, &[], 400);
        check(&guard, "/", old, &[], 200);
        check(&guard, "/", two, &[], 400);
        check(&guard, "http://a/", two, &[], 200);
        for version in [old, one, two] {
            let twice = [("host", "a"), ("host", "a")];
            check(&guard, "/", version, &twice, 400);
            check(&guard, "http://a/", version, &[("host", "a")], 200);
            check(&guard, "http://a:1/", version, &[("host", "A:1")], 200);
            check(&guard, "http://a/", version, &[("host", "b")], 400);
            check(&guard, "http://a:1/", version, &[("host", "a:2")], 400);
        }
        for host in [
            "", ":80", "a b", "u@a", "a:b", "a:65536", "a/b", "a,b", "\u{e4}",
        ] {
            check(&guard, "/", one, &[("host", host)], 400);
        }
        for host in ["a:80", "[::1]", "[::1]:80", "1.2.3.4:5", "a_b.c"] {
            check(&guard, "/", one, &[("host", host)], 200);
        }
        check(&guard, "http://u@a/", one, &[("host", "a")], 400);
    }

    #[test]
    fn loopback_listener_accepts_loopback_names_and_allowed_ones() {
        let check = |guard: &HostGuard, host: &str, status| {
            check(guard, "/", Version::HTTP_11, &[("host", host)], status);
        };
        let mut guard = loopback();
        for host in [
            "localhost",
            "LOCALHOST:80",
            "localhost.:80",
            "a.localhost",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:80",
            "[::ffff:127.0.0.1]",
        ] {
            check(&guard, host, 200);
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "evillocalhost",
            "10.0.0.1",
            "0.0.0.0",
            "[::2]",
        ] {
            check(&guard, host, 421);
        }
        guard.hosts = Some(vec!["shop.example".to_owned()]);
        check(&guard, "Shop.Example:8080", 200);
        check(&guard, "localhost", 200);
        check(&guard, "evil.example", 421);
        guard.is_loopback = false;
        check(&guard, "shop.example", 200);
        check(&guard, "localhost", 421);
        guard.hosts = Some(vec![ANY.to_owned()]);
        check(&guard, "evil.example", 200);
        check(&HostGuard::default(), "evil.example", 200);
    }

    #[test]
    fn requests_of_pages_of_other_origins_are_rejected_unless_allowed() {
        let host = ("host", "localhost:80");
        let check = |guard: &HostGuard, headers: &[(&str, &str)], status| {
            let headers: Vec<_> = [&[host], headers].concat();
            check(guard, "/", Version::HTTP_11, &headers, status);
        };
        let mut guard = loopback();
        for origin in ["http://localhost:80", "https://LOCALHOST:80"] {
            check(&guard, &[("origin", origin)], 200);
        }
        for origin in [
            "http://evil.example",
            "http://localhost:3000",
            "http://localhost",
            "null",
            "",
            "localhost:80",
        ] {
            check(&guard, &[("origin", origin)], 403);
        }
        check(
            &guard,
            &[
                ("origin", "http://localhost:80"),
                ("origin", "http://localhost:80"),
            ],
            400,
        );
        for site in ["none", "same-origin"] {
            check(&guard, &[("sec-fetch-site", site)], 200);
        }
        for site in ["cross-site", "same-site", "whatever"] {
            check(&guard, &[("sec-fetch-site", site)], 403);
            let mode = |mode| [("sec-fetch-site", site), ("sec-fetch-mode", mode)];
            check(&guard, &mode("no-cors"), 403);
            check(&guard, &mode("navigate"), 201);
        }
        guard.origins = Some(vec!["http://localhost:3000".to_owned()]);
        check(
            &guard,
            &[
                ("origin", "http://LOCALHOST:3000"),
                ("sec-fetch-site", "same-site"),
            ],
            200,
        );
        check(&guard, &[("origin", "http://evil.example")], 403);
        guard.is_loopback = false;
        check(&guard, &[("origin", "http://evil.example")], 403);
        guard.origins = Some(vec![ANY.to_owned()]);
        check(&guard, &[("origin", "http://evil.example")], 200);
        check(
            &HostGuard::default(),
            &[("origin", "http://evil.example")],
            200,
        );
    }

    #[test]
    fn mounted_gateway_checks_requests_for_loopback_names_and_listed_hosts() {
        let check = |guard: &HostGuard, headers: &[(&str, &str)], status: u16| {
            let mut request = Request::post("/");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let mut request = request.body(()).unwrap();
            let checked = guard.check_mounted(&mut request);
            let found = checked.map_or_else(|problem| problem.status.as_u16(), |()| 200);
            assert_eq!(found, status, "{headers:?}");
        };
        let (local, remote) = (("host", "localhost:80"), ("host", "shop.example"));
        let foreign = ("origin", "http://evil.example");
        let guard = HostGuard::default();
        check(&guard, &[], 200);
        check(&guard, &[local], 200);
        check(&guard, &[local, ("origin", "http://localhost:80")], 200);
        check(&guard, &[local, foreign], 403);
        check(&guard, &[local, ("sec-fetch-site", "cross-site")], 403);
        check(&guard, &[local, local], 400);
        // Only the user knows the names of the server.
        check(&guard, &[remote, foreign], 200);
        let hosts = ["Shop.example".to_owned()];
        let guard = HostGuard::new(&hosts, &[]);
        check(&guard, &[remote], 200);
        check(&guard, &[local], 200);
        check(&guard, &[("host", "evil.example")], 421);
        let guard = HostGuard::new(&hosts, &["http://evil.example".to_owned()]);
        check(&guard, &[local, foreign], 200);
        check(&guard, &[remote, ("origin", "http://other.example")], 403);
    }

    #[test]
    fn request_that_a_listener_has_checked_is_not_checked_again() {
        let request = Request::post("/").header("host", "localhost");
        let request = request.header("origin", "http://shop.example");
        let mut request = request.body(()).unwrap();
        let listener = HostGuard {
            is_loopback: true,
            ..HostGuard::new(&[], &["http://shop.example".to_owned()])
        };
        assert!(listener.check(&mut request).is_ok());
        assert!(HostGuard::default().check_mounted(&mut request).is_ok());
    }
}
