//! Tells systemd that the member serves: `READY=1` to the socket that NOTIFY_SOCKET names.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends `READY=1`. Nothing happens when nobody asked for it.
///
/// # Errors
/// What the socket said; the member serves all the same.
pub fn ready(notify_socket: Option<&OsStr>) -> io::Result<()> {
    let Some(path) = notify_socket.map(OsStr::as_bytes).filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let address = match path {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> Vec<u8> {
        let mut bytes = [0; 32];
        let len = socket.recv(&mut bytes).expect("a datagram");
        bytes[..len].to_vec()
    }

    #[test]
    fn ready_reaches_paths_and_abstract_names() {
        let name = format!("ringbolt-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let socket = UnixDatagram::bind_addr(&address).expect("an abstract socket");
        ready(Some(OsStr::new(&format!("@{name}")))).expect("sent");
        assert_eq!(received(&socket), b"READY=1");

        let path = std::env::temp_dir().join(&name);
        let socket = UnixDatagram::bind(&path).expect("a socket");
        ready(Some(path.as_os_str())).expect("sent");
        assert_eq!(received(&socket), b"READY=1");
        std::fs::remove_file(&path).expect("own socket");
        assert!(ready(Some(path.as_os_str())).is_err());
    }

    #[test]
    fn nothing_happens_when_nobody_asked() {
        ready(None).expect("nothing");
        ready(Some(OsStr::new(""))).expect("nothing");
    }
}
