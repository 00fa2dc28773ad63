//! Clusters of nothing but libzmq: its proxy with workers that return their messages, a ROUTER that returns them, and a
//! chain of PUSH and PULL. A client has many messages under way. Each is a process of its own, which is this program with
//! a role.

use std::io::Write;
use std::time::Instant;

use zmq::{
    Context, DEALER, DONTWAIT, Message, PULL, PUSH, ROUTER, Result, SNDMORE, Socket, SocketType,
};

/// An address on a port that the system picks.
const ANY: &str = "tcp://127.0.0.1:0";

/// Calls under way at once.
const WINDOW: usize = 2000;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let context = Context::new();
    std::thread::spawn(end_when_orphaned);
    let ended = match arguments[..] {
        ["proxy"] => proxy(&context),
        ["worker", proxy] => work(&context, proxy),
        ["echo"] => echo(&context),
        ["step", next] => step(&context, Some(next)),
        ["last-step"] => step(&context, None),
        ["client", proxy, message_bytes, count] => {
            let socket = connected(&context, DEALER, proxy);
            let measure = |it| measure(&it, &it, number(message_bytes), number(count));
            socket.and_then(measure)
        }
        ["chain-client", first, last, message_bytes, count] => {
            let ends = connected(&context, PUSH, first)
                .and_then(|first| Ok((first, connected(&context, PULL, last)?)));
            ends.and_then(|(first, last)| {
                measure(&first, &last, number(message_bytes), number(count))
            })
        }
        _ => panic!("no such role: {arguments:?}"),
    };
    ended.expect("the sockets work");
}

fn number(argument: &str) -> usize {
    argument.parse().expect("it is a number")
}

/// Ends with the process that started this one, which holds the other end of stdin.
fn end_when_orphaned() {
    let _ = std::io::stdin().read_line(&mut String::new());
    std::process::exit(0);
}

fn print_line(words: &[&str]) {
    println!("{}", words.join(" "));
    std::io::stdout().flush().expect("stdout is open");
}

fn socket(context: &Context, socket_type: SocketType) -> Result<Socket> {
    let socket = context.socket(socket_type)?;
    // Without limits, since a ROUTER drops what is beyond them. The client's window bounds what is queued.
    socket.set_sndhwm(0)?;
    socket.set_rcvhwm(0)?;
    Ok(socket)
}

fn bound(context: &Context, socket_type: SocketType) -> Result<(Socket, String)> {
    let socket = socket(context, socket_type)?;
    socket.bind(ANY)?;
    let address = socket.get_last_endpoint()?.expect("an address is text");
    Ok((socket, address))
}

fn connected(context: &Context, socket_type: SocketType, address: &str) -> Result<Socket> {
    let socket = socket(context, socket_type)?;
    socket.connect(address)?;
    Ok(socket)
}

fn proxy(context: &Context) -> Result<()> {
    let (clients, client_address) = bound(context, ROUTER)?;
    let (workers, worker_address) = bound(context, DEALER)?;
    print_line(&[&client_address, &worker_address]);
    zmq::proxy(&clients, &workers)
}

/// Sends each frame back, the one that names the client included.
fn work(context: &Context, proxy: &str) -> Result<()> {
    let socket = connected(context, DEALER, proxy)?;
    print_line(&["ready"]);
    pass(&socket, &socket)
}

/// Returns each message to the client that has sent it.
fn echo(context: &Context) -> Result<()> {
    let (socket, address) = bound(context, ROUTER)?;
    print_line(&[&address]);
    pass(&socket, &socket)
}

/// Passes each message on: to the next step, or to the client, which connects to the last one.
fn step(context: &Context, next: Option<&str>) -> Result<()> {
    let (pull, address) = bound(context, PULL)?;
    match next {
        Some(next) => {
            let push = connected(context, PUSH, next)?;
            print_line(&[&address]);
            pass(&pull, &push)
        }
        None => {
            let (push, last) = bound(context, PUSH)?;
            print_line(&[&address, &last]);
            pass(&pull, &push)
        }
    }
}

fn pass(from: &Socket, to: &Socket) -> Result<()> {
    loop {
        let frame = from.recv_msg(0)?;
        let more = if frame.get_more() { SNDMORE } else { 0 };
        to.send(frame, more)?;
    }
}

/// Prints how many messages a second were returned.
fn measure(to: &Socket, from: &Socket, message_bytes: usize, count: usize) -> Result<()> {
    let message = vec![b'x'; message_bytes];
    // Warms up.
    exchange(to, from, &message, 2 * WINDOW)?;
    let start = Instant::now();
    exchange(to, from, &message, count)?;
    let rate = count as f64 / start.elapsed().as_secs_f64();
    print_line(&[&rate.to_string()]);
    Ok(())
}

fn exchange(to: &Socket, from: &Socket, message: &[u8], count: usize) -> Result<()> {
    let (mut sent, mut received) = (0, 0);
    let mut answer = Message::new();
    while received < count {
        while sent < count && sent - received < WINDOW {
            to.send(message, 0)?;
            sent += 1;
        }
        from.recv(&mut answer, 0)?;
        received += 1;
        while received < sent && from.recv(&mut answer, DONTWAIT).is_ok() {
            received += 1;
        }
    }
    Ok(())
}
