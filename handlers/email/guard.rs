//! What stands between the SMTP library and a server: the few words in the clear before STARTTLS (RFC 3207), and a bound on
//! every answer.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use lettre::transport::smtp::{client::AsyncTokioStream, extension::ClientId};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};

use super::smtp::{Trouble, WORDS_BYTES_MAX};
use crate::text;

/// Most bytes that a server may say in one answer: its greeting, its extensions, its words on a refusal. The library
/// reads an answer anew with each of its lines, so a long one costs its square.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Longest line before TLS (RFC 5321 section 4.5.3.1.5 has 512).
const LINE_BYTES_MAX: usize = 4096;
/// Most lines of one answer before TLS.
const LINES_MAX: usize = 100;

/// Greets in the clear and asks for TLS. Whatever the server said beyond its answer is an injection: it ends here.
pub(super) async fn start_tls(mut tcp: TcpStream, hello: &ClientId) -> Result<TcpStream, Trouble> {
    let mut spare = Vec::new();
    let (code, lines) = clear_answer(&mut tcp, &mut spare).await?;
    if code != 220 {
        return Err(Trouble::Server(format!("it greets with {code} {}", shown(&lines))));
    }
    let (code, lines) = clear_command(&mut tcp, &mut spare, &format!("EHLO {hello}")).await?;
    if code != 250 {
        return Err(Trouble::Server(format!("it answers EHLO with {code} {}", shown(&lines))));
    }
    if !lines.iter().any(|line| line.trim().eq_ignore_ascii_case("STARTTLS")) {
        let mend = "and without it nothing is sent there (`tls: none` would send in the clear)";
        return Err(Trouble::Server(format!("it does not offer STARTTLS, {mend}")));
    }
    let (code, lines) = clear_command(&mut tcp, &mut spare, "STARTTLS").await?;
    if code != 220 {
        return Err(Trouble::Server(format!("it answers STARTTLS with {code} {}", shown(&lines))));
    }
    if !spare.is_empty() {
        return Err(Trouble::Server(
            "something was said in the clear after STARTTLS: an attack, or a fault".into(),
        ));
    }
    Ok(tcp)
}

async fn clear_command(
    tcp: &mut TcpStream,
    spare: &mut Vec<u8>,
    command: &str,
) -> Result<(u16, Vec<String>), Trouble> {
    let lost = |error: io::Error| Trouble::Server(error.to_string());
    tcp.write_all(format!("{command}\r\n").as_bytes()).await.map_err(lost)?;
    clear_answer(tcp, spare).await
}

/// One answer before TLS: its code and its lines without it.
async fn clear_answer(tcp: &mut TcpStream, spare: &mut Vec<u8>) -> Result<(u16, Vec<String>), Trouble> {
    let odd = || Trouble::Server("it does not speak SMTP".into());
    let mut lines = Vec::new();
    loop {
        let line = loop {
            if let Some(end) = spare.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = spare.drain(..=end).collect();
                break String::from_utf8_lossy(&line).trim_end().to_owned();
            }
            if spare.len() > LINE_BYTES_MAX {
                return Err(odd());
            }
            let mut buffer = [0; 1024];
            match tcp.read(&mut buffer).await {
                Ok(0) => return Err(Trouble::Server("it closed the connection".into())),
                Ok(length) => spare.extend_from_slice(&buffer[..length]),
                Err(error) => return Err(Trouble::Server(error.to_string())),
            }
        };
        let code = line.get(..3).and_then(|code| code.parse::<u16>().ok()).ok_or_else(odd)?;
        lines.push(line.get(4..).unwrap_or_default().to_owned());
        match line.as_bytes().get(3) {
            Some(b'-') if lines.len() < LINES_MAX => {}
            None | Some(b' ') => return Ok((code, lines)),
            Some(_) => return Err(odd()),
        }
    }
}

fn shown(lines: &[String]) -> String {
    let words = lines.join(" ");
    text::one_line(&text::cut(&words, WORDS_BYTES_MAX)).into_owned()
}

/// A stream that says something first, and from which no answer of more than [`ANSWER_BYTES_MAX`] bytes is read.
pub(super) struct Guarded<S> {
    inner: S,
    first: &'static [u8],
    read_since_write: usize,
    local: SocketAddr,
}

impl<S> Guarded<S> {
    pub(super) fn new(inner: S, first: &'static [u8], local: SocketAddr) -> Guarded<S> {
        Guarded { inner, first, read_since_write: 0, local }
    }
}

impl<S> fmt::Debug for Guarded<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guarded({})", self.local)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let length = self.first.len().min(buffer.remaining());
            buffer.put_slice(&self.first[..length]);
            self.first = &self.first[length..];
            return Poll::Ready(Ok(()));
        }
        if self.read_since_write > ANSWER_BYTES_MAX {
            let message = "it says more than any mail server has to say";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, message)));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        self.read_since_write += buffer.filled().len() - before;
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.read_since_write = 0;
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> AsyncTokioStream for Guarded<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}
