//! What this program does as a runner or as a child of one.

use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::process::exit;
use std::time::Duration;

use palm_runner::process::{EXEC_ARGUMENT, exec};
use palm_runner::runner;

/// Plays a role if the arguments are those of one, and ends.
pub(crate) fn run() {
    let mut arguments = std::env::args_os().skip(1);
    let Some(role) = arguments.next() else {
        return;
    };
    if role == EXEC_ARGUMENT {
        let error = exec(arguments);
        eprintln!("not executed: {error}");
        exit(126);
    }
    match role.to_str() {
        Some("__run") => serve(arguments.next().is_some()),
        Some("notify") => {
            let texts: Vec<_> = arguments.map(|it| it.into_string().unwrap()).collect();
            notify(&texts.join("\n"));
        }
        Some("count") => count(),
        Some("allocate") => allocate(),
        Some("full_disk") => crate::machine::on_full_disk(),
        _ => return,
    }
    exit(0);
}

fn serve(is_resumed: bool) {
    let done = match is_resumed {
        true => runner::resume(|_| {}),
        false => {
            let launch = serde_json::from_reader(io::stdin()).unwrap();
            runner::run(launch, |progress| {
                println!("{}", serde_json::to_string(&progress).unwrap());
            })
        }
    };
    if let Err(error) = done {
        println!("{error}");
        exit(1);
    }
}

/// As the program `systemd-notify`.
fn notify(text: &str) {
    let socket = UnixDatagram::unbound().unwrap();
    let path = std::env::var_os("NOTIFY_SOCKET").unwrap();
    socket.send_to(text.as_bytes(), path).unwrap();
}

/// Uses more and more memory until it is ended.
fn allocate() {
    let mut all = Vec::new();
    loop {
        all.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&mut all);
    }
}

/// Writes numbered lines until it is ended.
fn count() {
    notify("READY=1");
    for number in 0_u64.. {
        let mut output = io::stdout().lock();
        writeln!(output, "line {number}").unwrap();
        drop(output);
        std::thread::sleep(Duration::from_micros(100));
    }
}
