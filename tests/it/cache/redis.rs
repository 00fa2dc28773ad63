//! The store on Redis or Valkey, with servers that the tests start. Needs `PALM_REDIS`, the path of a `redis-server` or
//! `valkey-server` (version 7 or later, for the ports of the cluster).

use std::process::Command;
use std::time::Duration;

use palm::prelude::*;
use palm::{Change, KeyValue, PageLimits, RedisStore};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::super::process::Process;
use super::super::setup::{ANY, chain, check, connect, eventually, soon, unbound_socket};
use super::{Lender, Promises, check_store};

/// A server in a process of its own, which is killed when this is dropped.
struct Server {
    process: Process,
    port: u16,
    options: Vec<String>,
    folder: TempDir,
}

fn spawn(port: u16, options: &[String], folder: &TempDir) -> Process {
    let program = std::env::var_os("PALM_REDIS").expect("PALM_REDIS is the path of a redis-server");
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--port"]);
    command.arg(port.to_string()).args(["--save", "", "--dir"]);
    command.arg(folder.path()).args(options);
    Process::spawn("redis-server", command)
}

impl Server {
    /// Starts a server, and waits until it listens.
    async fn start(options: Vec<String>) -> Self {
        let port = unbound_socket().port();
        let folder = tempfile::tempdir().unwrap();
        let process = spawn(port, &options, &folder);
        let mut server = Self {
            process,
            port,
            options,
            folder,
        };
        assert!(server.is_ready().await, "it starts; is PALM_REDIS one?");
        server
    }

    async fn single() -> Self {
        Self::start(vec!["--appendonly".to_owned(), "no".to_owned()]).await
    }

    /// Waits until the server listens. Returns `false` if its process has exited.
    async fn is_ready(&mut self) -> bool {
        let (process, at) = (&mut self.process, ("127.0.0.1", self.port));
        let mut ended = false;
        eventually("the server listens", || {
            ended = process.has_ended();
            ended || std::net::TcpStream::connect(at).is_ok()
        })
        .await;
        !ended && self.send_command("PING").await == "PONG"
    }

    fn kill(&mut self) {
        self.process.kill_and_keep();
    }

    async fn start_again(&mut self) {
        self.process = spawn(self.port, &self.options, &self.folder);
        assert!(self.is_ready().await, "it starts again");
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sends a command, and returns the answer.
    async fn send_command(&self, command: &str) -> String {
        let exchange = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
            let command = format!("{command}\r\n");
            stream.write_all(command.as_bytes()).await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            let (kind, rest) = line.trim_end().split_at(1);
            match kind {
                "+" | ":" => rest.to_owned(),
                "$" => {
                    let mut text = vec![0; rest.parse().unwrap()];
                    stream.read_exact(&mut text).await.unwrap();
                    String::from_utf8(text).unwrap()
                }
                _ => panic!("`{}`: {line}", command.trim_end()),
            }
        };
        soon("an answer of the server", exchange).await
    }
}

/// Starts three servers, each with a third of the keys.
async fn cluster() -> Vec<Server> {
    let mut servers = Vec::new();
    let mut bus_ports = Vec::new();
    for (number, slots) in ["0 5460", "5461 10921", "10922 16383"].iter().enumerate() {
        let bus_port = unbound_socket().port();
        let options =
            format!("--cluster-enabled yes --cluster-node-timeout 2000 --cluster-port {bus_port}");
        let server = Server::start(options.split(' ').map(str::to_owned).collect()).await;
        server
            .send_command(&format!("CLUSTER ADDSLOTSRANGE {slots}"))
            .await;
        server
            .send_command(&format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1))
            .await;
        servers.push(server);
        bus_ports.push(bus_port);
    }
    for (server, bus_port) in servers.iter().zip(bus_ports).skip(1) {
        let meet = format!("CLUSTER MEET 127.0.0.1 {} {bus_port}", server.port);
        servers[0].send_command(&meet).await;
    }
    let complete = async {
        for server in &servers {
            loop {
                let info = server.send_command("CLUSTER INFO").await;
                if info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3") {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    soon("the servers know each other", complete).await;
    servers
}

async fn store(server: &Server) -> RedisStore {
    let store = RedisStore::connect(server.url());
    soon("connecting", store).await.unwrap()
}

async fn keys(store: &RedisStore, prefix: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut after = None;
    loop {
        let page = store.scan(prefix, after, PageLimits::default());
        let page = soon("a page", page).await.unwrap();
        keys.extend(page.entries.into_iter().map(|entry| entry.key));
        after = page.next;
        if after.is_none() {
            keys.sort();
            keys.dedup();
            return keys;
        }
    }
}

#[test]
#[ignore = "needs PALM_REDIS, the path of a redis-server"]
fn redis_server_keeps_the_contract_of_caches() {
    check(async {
        let server = Server::single().await;
        check_store(store(&server).await, Promises::Fewer).await;
    });
}

#[test]
#[ignore = "needs PALM_REDIS, the path of a redis-server"]
fn redis_cluster_keeps_the_contract_of_caches() {
    check(async {
        let servers = cluster().await;
        check_store(store(&servers[1]).await, Promises::Fewer).await;
        // The first server of the list need not be reachable.
        let absent = format!("redis://127.0.0.1:{}", unbound_socket().port());
        let store = RedisStore::builder(absent).node(servers[2].url()).connect();
        let store = soon("connecting", store).await.unwrap();
        store.delete_prefix("").await.unwrap();
        for number in 0..300 {
            let key = format!("k/{number}");
            store.set(&key, "v".into(), None).await.unwrap();
        }
        for server in &servers {
            let count: usize = server.send_command("DBSIZE").await.parse().unwrap();
            assert!(count > 50, "each has its share: {count}");
        }
        assert_eq!(keys(&store, "k/").await.len(), 300);
        assert_eq!(store.delete_prefix("k/").await.unwrap(), 300);
        for server in &servers {
            assert_eq!(server.send_command("DBSIZE").await, "0");
        }
    });
}

#[test]
#[ignore = "needs PALM_REDIS, the path of a redis-server"]
fn redis_store_leaves_keys_of_other_programs_alone() {
    check(async {
        let server = Server::single().await;
        server.send_command("SET foreign x").await;
        server.send_command("LPUSH palm:list x").await;
        let ours = store(&server).await;
        let theirs = RedisStore::builder(server.url()).namespace("theirs:");
        let theirs = soon("connecting", theirs.connect()).await.unwrap();
        // Prefixes with characters that are special in patterns, and keys that differ from them.
        let odd = ["a*b", "a[b]", "a?b", "a\\b", "a^b", "a-b", "a b", "\u{fc}"];
        for key in odd.iter().chain(&["aXb", "ab", "axxb"]) {
            ours.set(key, "v".into(), None).await.unwrap();
        }
        for key in odd {
            assert_eq!(keys(&ours, key).await, [key], "{key}");
        }
        theirs.set("a*b", "other".into(), None).await.unwrap();
        assert_eq!(ours.get("a*b").await.unwrap(), Some("v".into()));
        assert_eq!(server.send_command("GET theirs:a*b").await, "other");
        assert_eq!(ours.delete_prefix("").await.unwrap(), 11);
        assert_eq!(keys(&theirs, "").await, ["a*b"]);
        assert_eq!(server.send_command("GET foreign").await, "x");
        assert_eq!(server.send_command("LLEN palm:list").await, "1");
    });
}

#[test]
#[ignore = "needs PALM_REDIS, the path of a redis-server"]
fn redis_watchers_receive_changes_of_all_clients_and_report_gaps() {
    check(async {
        let mut server = Server::single().await;
        let (first, second) = (store(&server).await, store(&server).await);
        let cache = palm::Cache::new(first);
        let mut watch = cache.watch("k").await.unwrap();
        second.set("k", "v".into(), None).await.unwrap();
        let change = super::next(&mut watch).await;
        let (key, value) = ("k".to_owned(), "v".into());
        assert_eq!(change, Change::Set { key, value });

        server.kill();
        assert!(second.get("k").await.is_err(), "no server listens");
        server.start_again().await;
        assert_eq!(super::next(&mut watch).await, Change::Lagged);
        // The first request may fail because its connection was closed.
        let set = async {
            while let Err(error) = second.set("k", "again".into(), None).await {
                println!("not yet: {error:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        soon("a set after the restart", set).await;
        let change = super::next(&mut watch).await;
        let (key, value) = ("k".to_owned(), "again".into());
        assert_eq!(change, Change::Set { key, value });
    });
}

#[test]
#[ignore = "needs PALM_REDIS, the path of a redis-server"]
fn redis_keeps_the_keys_of_a_restarted_master() {
    check(async {
        let server = Server::single().await;
        for number in 1..=3 {
            let master = Master::new("master").bind(ANY).cache(store(&server).await);
            let master = master.spawn().await.unwrap();
            let client = connect("master", &master).await;
            assert_eq!(client.add("starts", 1).await.unwrap(), number);
            drop(client);
            master.shutdown().await.unwrap();
        }
    });
}

#[test]
fn unreachable_redis_server_is_reported() {
    check(async {
        let port = unbound_socket().port();
        let url = format!("redis://user:secret@127.0.0.1:{port}");
        let rejected = soon("a rejection", RedisStore::connect(url)).await;
        let text = format!("the store at `127.0.0.1:{port}` cannot be opened");
        assert_eq!(rejected.unwrap_err().to_string(), text);
        let rejected = soon("a rejection", RedisStore::connect("no URL")).await;
        let text = "the store at `URL 1` cannot be opened";
        assert_eq!(rejected.unwrap_err().to_string(), text);
    });
}

/// A server that answers each command immediately, or, while it hangs, later, as a stopped process does.
async fn hanging_server() -> (String, tokio::sync::watch::Sender<bool>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (hangs, is_hanging) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut is_hanging = is_hanging.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                while let Some(command) = read_command(&mut stream).await {
                    if is_hanging.wait_for(|hangs| !hangs).await.is_err() {
                        return;
                    }
                    let answer = match &*command {
                        "INFO" => "$17\r\ncluster_enabled:0\r\n",
                        "GET" => "$-1\r\n",
                        _ => "+OK\r\n",
                    };
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, hangs)
}

/// Reads the name of the next command; `None` at the end of the connection.
async fn read_command(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    stream
        .read_line(&mut line)
        .await
        .ok()
        .filter(|read| *read > 0)?;
    let count: usize = line.trim_end().strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::new();
    for _ in 0..count {
        line.clear();
        stream.read_line(&mut line).await.ok()?;
        let len: usize = line.trim_end().strip_prefix('$')?.parse().ok()?;
        let mut word = vec![0; len + 2];
        stream.read_exact(&mut word).await.ok()?;
        words.push(String::from_utf8_lossy(&word[..len]).into_owned());
    }
    Some(words.first()?.to_uppercase())
}

#[test]
fn hanging_redis_server_is_reported_to_each_caller_and_used_again() {
    check(async {
        let (address, hangs) = hanging_server().await;
        let store = RedisStore::connect(format!("redis://{address}"));
        let store = soon("connecting", store).await.unwrap();
        let server = Lender(Promises::Fewer).bind(ANY).cache(store);
        let server = server.spawn().await.unwrap();
        let client = connect("lender", &server).await;
        client.set("k", "v").await.unwrap();
        assert_eq!(server.cache_failure(), None);

        hangs.send_replace(true);
        let begin = std::time::Instant::now();
        let rejected = soon("the error", client.set("k", "v")).await.unwrap_err();
        let waited = begin.elapsed();
        let expected = format!(
            "the store failed: Redis at `{address}` did not answer within 2s: check that it runs and is not \
             overloaded; the request may have been carried out, and the next one tries again"
        );
        assert_eq!(chain(&rejected), expected);
        assert!(waited >= Duration::from_secs(2), "{waited:?}");
        assert!(waited < Duration::from_secs(5), "{waited:?}");
        assert_eq!(server.cache_failure(), Some(expected.clone()));
        let begin = std::time::Instant::now();
        let rejected = soon("the error", client.get("k")).await.unwrap_err();
        assert_eq!(chain(&rejected), expected);
        let waited = begin.elapsed();
        assert!(waited < Duration::from_secs(5), "{waited:?}");

        hangs.send_replace(false);
        soon("a set", client.set("k", "v")).await.unwrap();
        assert_eq!(soon("a get", client.get("k")).await.unwrap(), None);
        assert_eq!(server.cache_failure(), None);
        server.shutdown().await.unwrap();
    });
}
