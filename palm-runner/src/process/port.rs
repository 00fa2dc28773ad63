//! Which process uses a port.

use std::net::IpAddr;

use palm_plan::Instance;
use palm_plan::Wiring;
use palm_plan::instance::Readiness;
use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::FDTarget;

/// Returns a sentence if an address that the instance is going to bind is in use.
pub(crate) fn occupied(instance: &Instance) -> Option<String> {
    let wiring = instance.env.get("PALM_WIRING");
    let wiring =
        wiring.and_then(|text| serde_json::from_str::<Wiring<serde_json::Value>>(text).ok());
    let address = match &instance.readiness {
        Readiness::Address(address) => Some(address.clone()),
        _ => wiring.and_then(|wiring| wiring.bind),
    };
    let address = address?;
    let (ip, port) = listening(&address)?;
    let sockets = [procfs::net::tcp(), procfs::net::tcp6()];
    let mut sockets = sockets.into_iter().flatten().flatten();
    let socket = sockets.find(|it| it.state == TcpState::Listen && overlaps(it, ip, port))?;
    let owner = owner(socket.inode).unwrap_or_else(|| "a process of another user".to_owned());
    Some(format!("{address} is in use by {owner}"))
}

/// Returns the address of `tcp://..`, and `None` for one that the system chooses or that has to be resolved.
fn listening(address: &str) -> Option<(IpAddr, u16)> {
    let (host, port) = address.strip_prefix("tcp://")?.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host {
        "*" => Some((IpAddr::from([0, 0, 0, 0]), port)),
        "localhost" => Some((IpAddr::from([127, 0, 0, 1]), port)),
        host => Some((host.parse().ok()?, port)),
    }
}

fn overlaps(socket: &TcpNetEntry, ip: IpAddr, port: u16) -> bool {
    let other = socket.local_address.ip();
    socket.local_address.port() == port
        && (other == ip || other.is_unspecified() || ip.is_unspecified())
}

/// Returns the process that has the socket open, as `python3 (process 123)`.
fn owner(inode: u64) -> Option<String> {
    for process in procfs::process::all_processes().ok()?.flatten() {
        let Ok(descriptors) = process.fd() else {
            continue;
        };
        let is_socket = |target| matches!(target, FDTarget::Socket(it) if it == inode);
        if descriptors.flatten().any(|it| is_socket(it.target)) {
            let name = process.stat().map(|stat| stat.comm).unwrap_or_default();
            return Some(format!("{name} (process {})", process.pid));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn process_that_listens_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut instance = crate::state::tests::instance("a/0");
        for host in ["127.0.0.1", "*", "0.0.0.0", "localhost"] {
            instance.readiness = Readiness::Address(format!("tcp://{host}:{port}"));
            let text = occupied(&instance).unwrap();
            let end = format!("(process {})", std::process::id());
            assert!(text.starts_with("tcp://") && text.ends_with(&end), "{text}");
        }
        // A program learns the address by its wiring.
        instance.readiness = Readiness::Notify;
        let wiring = format!(
            r#"{{"version":1,"kind":"master","name":"a","bind":"tcp://127.0.0.1:{port}"}}"#
        );
        instance.env.insert("PALM_WIRING".to_owned(), wiring);
        let text = occupied(&instance).unwrap();
        assert!(
            text.starts_with(&format!("tcp://127.0.0.1:{port} is in use by ")),
            "{text}"
        );
        drop(listener);
        assert_eq!(occupied(&instance), None);
        instance.env.clear();
        instance.readiness = Readiness::Address("ipc:///nowhere".to_owned());
        assert_eq!(occupied(&instance), None);
    }
}
