//! A byte stream over TCP.

use std::io;

use tokio::net::{TcpStream, lookup_host};

/// Connects to the first address of `host` that answers. Small writes go out at once: the carrier gathers them itself.
pub async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((host, port)).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn a_refused_address_is_an_error_and_an_open_one_a_stream() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(super::connect("127.0.0.1", port).await.unwrap().nodelay().unwrap());
        drop(listener);
        assert!(super::connect("127.0.0.1", port).await.is_err());
    }
}
