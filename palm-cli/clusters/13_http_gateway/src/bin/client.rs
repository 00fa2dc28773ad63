//! The client: `client HOST:PORT`, as the job of the cluster calls it.

use std::io::{Error, Read as _, Write as _};
use std::net::TcpStream;

fn main() -> Result<(), Error> {
    let host = std::env::args()
        .nth(1)
        .expect("the host and port are an argument");
    let mut stream = TcpStream::connect(&host)?;
    write!(
        stream,
        "GET /function HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    match response.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => println!("{body}"),
        _ => return Err(Error::other(response)),
    }
    Ok(())
}
