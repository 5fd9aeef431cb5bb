//! A page of text over HTTP, for monitoring systems.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Longest time a reader may take over one request.
const PATIENCE: Duration = Duration::from_secs(2);

/// Answers every request on `address` with what `text` gives, in Prometheus' format, until the process ends; says where
/// it listens.
///
/// # Errors
///
/// When the address cannot be had.
pub fn serve(
    address: SocketAddr,
    text: impl Fn() -> String + Send + 'static,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let bound = listener.local_addr()?;
    thread::Builder::new()
        .name("vfnic-metrics".into())
        .spawn(move || {
            for stream in listener.incoming() {
                match stream {
                    // One at a time: a reader that dawdles costs the next one its patience, and nobody else anything.
                    Ok(stream) => drop(answer(stream, &text)),
                    Err(error) => {
                        log::warn!("metrics: {error}");
                        thread::sleep(Duration::from_millis(100));
                    }
                }
            }
        })?;
    Ok(bound)
}

fn answer(mut stream: TcpStream, text: &dyn Fn() -> String) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // Whatever is asked, the answer is the same; the request is read so that closing does not reset the connection.
    let mut request = [0; 4096];
    let _ = stream.read(&mut request)?;
    let body = text();
    write!(
        stream,
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
