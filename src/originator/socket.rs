//! The Unix socket for clients on this machine. The kernel says who they are.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

/// Longest path that the kernel takes, in bytes (`sun_path` less its final zero).
pub const PATH_BYTES_MAX: usize = 107;

/// Settings of the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSettings {
    /// Where it is.
    pub path: PathBuf,
    /// Its permissions: who may connect.
    pub mode: u32,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Too long for the kernel.
    #[error("the socket's path {} has {} bytes; at most {PATH_BYTES_MAX} are possible: choose a shorter one", path.display(), path.as_os_str().len())]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// Something else stands there.
    #[error("{} is {what}, not a socket: move it away or choose another path", path.display())]
    Occupied {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Somebody answers there.
    #[error("another server listens on {}: stop it or choose another path", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The system said no.
    #[error("cannot listen on {}: {error}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Its words.
        error: io::Error,
    },
}

/// Listens. A socket that a dead process left is replaced; the data folder's lock keeps two servers apart.
pub fn listen(settings: &SocketSettings) -> Result<UnixListener, SocketError> {
    let path = settings.path.as_path();
    let io = |error| SocketError::Io { path: path.into(), error };
    if path.as_os_str().len() > PATH_BYTES_MAX {
        return Err(SocketError::TooLong { path: path.into() });
    }
    clear(path)?;
    let listener = UnixListener::bind(path).map_err(io)?;
    fs::set_permissions(path, fs::Permissions::from_mode(settings.mode)).map_err(io)?;
    Ok(listener)
}

/// Takes a dead socket away; refuses anything else.
fn clear(path: &Path) -> Result<(), SocketError> {
    let io = |error| SocketError::Io { path: path.into(), error };
    let kind = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
        Ok(metadata) => metadata.file_type(),
    };
    let what = if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_dir() {
        "a folder"
    } else if !kind.is_socket() {
        "a file"
    } else if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(SocketError::InUse { path: path.into() });
    } else {
        return fs::remove_file(path).map_err(io);
    };
    Err(SocketError::Occupied { path: path.into(), what })
}
