//! A TCP connection of the executor as the HTTP/2 library wants it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::io::{AsyncRead as _, AsyncWrite as _};
use glommio::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection, with the bytes that were read to tell its protocol still before it.
#[derive(Debug)]
pub(super) struct TcpPipe {
    first: Bytes,
    stream: TcpStream,
}

impl TcpPipe {
    pub(super) fn new(first: Bytes, stream: TcpStream) -> TcpPipe {
        TcpPipe { first, stream }
    }
}

impl AsyncRead for TcpPipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let take = self.first.len().min(into.remaining());
            into.put_slice(&self.first[..take]);
            self.first.advance(take);
            return Poll::Ready(Ok(()));
        }
        let free = into.initialize_unfilled();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, free))?;
        into.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TcpPipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
