//! Systems that answer single calls: palm, NATS and gRPC. Their clients are processes too, so that all are measured
//! alike. The programs of the others are a workspace of their own, `benches/peers`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::roles::start;
use crate::support::Process;

/// Time within which a NATS server has to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Builds the program `name` of the workspace in `benches/FOLDER`, and returns its path.
pub(crate) fn build(folder: &str, name: &str) -> PathBuf {
    let benches = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--locked"])
        .arg("--manifest-path")
        .arg(benches.join(folder).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .status()
        .expect("cargo starts");
    assert!(built.success(), "{name} is not built");
    target.join("release").join(name)
}

/// Services that return their payload.
pub(crate) struct System {
    pub(crate) name: &'static str,
    /// The program of its clients; `None` for this one.
    program: Option<PathBuf>,
    /// What the roles of its clients begin with.
    prefix: &'static str,
    address: String,
    services: Vec<Process>,
}

/// What a client has measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) per_second: f64,
    /// Of all processes, in µs.
    pub(crate) processor_time: f64,
}

impl System {
    /// Starts a server of palm, or a master with workers.
    pub(crate) fn palm(workers: usize) -> Self {
        let first = start(&[if workers == 0 { "server" } else { "master" }]);
        let address = first.address(0).to_owned();
        let workers = (0..workers).map(|_| start(&["worker", &address]));
        let workers: Vec<_> = workers.collect();
        Self {
            name: "palm",
            program: None,
            prefix: "",
            address,
            services: workers.into_iter().chain([first]).collect(),
        }
    }

    /// Starts a NATS server with services in one queue group, if `PALM_BENCH_NATS` is the path of the server.
    pub(crate) fn nats(services: usize) -> Option<Self> {
        let server = std::env::var_os("PALM_BENCH_NATS")?;
        let program = build("peers", "peers");
        let folder = std::env::temp_dir().join(format!("palm-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the folder can be created");
        let mut command = Command::new(server);
        command
            .args(["--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir"])
            .arg(&folder)
            .stderr(Stdio::null());
        let server = Process::launch(command);
        let address = nats_url(&folder.join(format!("nats-server_{}.ports", server.id())));
        std::fs::remove_dir_all(&folder).expect("the folder can be removed");
        let services = (0..services).map(|_| run(&program, &["nats-service", &address]));
        let services: Vec<_> = services.collect();
        Some(Self {
            name: "NATS",
            program: Some(program),
            prefix: "nats-",
            address,
            services: services.into_iter().chain([server]).collect(),
        })
    }

    /// Starts a gRPC server of tonic, if `PALM_BENCH_GRPC` is set.
    pub(crate) fn grpc() -> Option<Self> {
        std::env::var_os("PALM_BENCH_GRPC")?;
        let program = build("peers", "peers");
        let service = run(&program, &["grpc-service"]);
        Some(Self {
            name: "tonic",
            program: Some(program),
            prefix: "grpc-",
            address: service.address(0).to_owned(),
            services: vec![service],
        })
    }

    /// Runs a client with a role. Returns it after it has printed what it measured.
    fn client(&self, role: &str, arguments: &[&str]) -> Process {
        let role = format!("{}{role}", self.prefix);
        let arguments = [&[&role, &*self.address], arguments].concat();
        match &self.program {
            Some(program) => run(program, &arguments),
            None => start(&arguments),
        }
    }

    fn processor_time(&self) -> Duration {
        self.services.iter().map(Process::processor_time).sum()
    }

    /// Measures `tasks` tasks that share a client and make one call after the other, `count` calls in all.
    pub(crate) fn calls(&self, tasks: usize, count: usize) -> Rate {
        self.rate("calls", &[&tasks.to_string(), &count.to_string()], count)
    }

    /// Measures a job of `count` messages. Only palm has jobs.
    pub(crate) fn job(&self, count: usize) -> Rate {
        self.rate("job", &[&count.to_string()], count)
    }

    fn rate(&self, role: &str, arguments: &[&str], count: usize) -> Rate {
        let before = self.processor_time();
        let client = self.client(role, arguments);
        let used = self.processor_time() - before + client.processor_time();
        // A tenth more calls warm up.
        let calls = count + count / 10;
        Rate {
            per_second: number(&client, 0),
            processor_time: used.as_secs_f64() * 1e6 / calls as f64,
        }
    }

    /// Returns the median and the 99th percentile of `count` calls in a row, in µs.
    pub(crate) fn latency(&self, count: usize) -> (f64, f64) {
        let client = self.client("latency", &[&count.to_string()]);
        (number(&client, 0), number(&client, 1))
    }
}

fn run(program: &Path, arguments: &[&str]) -> Process {
    let mut command = Command::new(program);
    command.args(arguments);
    Process::spawn(command)
}

fn number(process: &Process, word: usize) -> f64 {
    process.address(word).parse().expect("it prints a number")
}

/// Waits until a NATS server has written its addresses to a file.
fn nats_url(ports: &Path) -> String {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        let text = std::fs::read_to_string(ports).unwrap_or_default();
        // An incomplete file has no closing brace.
        if text.trim_end().ends_with('}') {
            let mut words = text.split('"');
            let url = words.find(|word| word.starts_with("nats://"));
            return url.expect("the file names an address").to_owned();
        }
        assert!(Instant::now() < deadline, "the NATS server does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
}
