//! The server of echo, http and wake_socket in Tokio: one task a connection, on the listening
//! socket that the client made (descriptor 3).

use bench::Bench;
use std::os::unix::io::FromRawFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// What goes back for what came in; one for each connection.
pub trait Reply: Default + Send + 'static {
    fn reply<'a>(&'a mut self, input: &'a [u8]) -> &'a [u8];
}

pub async fn accept_all<R: Reply>(listener: TcpListener) {
    loop {
        let (mut socket, _) = listener.accept().await.expect("accept failed");
        tokio::spawn(async move {
            let mut reply = R::default();
            let mut buffer = vec![0u8; 16384];
            while let Ok(n) = socket.read(&mut buffer).await {
                if n == 0 || socket.write_all(reply.reply(&buffer[..n])).await.is_err() {
                    break;
                }
            }
        });
    }
}

pub fn serve<R: Reply>(b: &Bench) -> ! {
    let rt = crate::drivers::runtime(b, true);
    rt.block_on(async {
        let listener = unsafe { std::net::TcpListener::from_raw_fd(3) };
        listener.set_nonblocking(true).unwrap();
        accept_all::<R>(TcpListener::from_std(listener).unwrap()).await
    });
    unreachable!()
}
