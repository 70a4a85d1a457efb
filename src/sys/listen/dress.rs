//! Whose the file of a unix socket is, and who may connect. Follows no link: whoever may write the folder could put one there,
//! and root would give away what it leads to.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::fcntl::AtFlags;
use nix::unistd::{Gid, Uid, fchownat, geteuid};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};

use super::ListenError;
use crate::sys::standing::{find_group, find_user};

/// A user and a group, where they are named.
pub(super) type Ids = (Option<Uid>, Option<Gid>);

/// `user`, `user:group` or `:group`, by name or number. A number needs no entry: containers run as one that nobody has.
pub(super) fn look_up(owner: &str) -> Result<Ids, ListenError> {
    let (user, group) = owner.split_once(':').unwrap_or((owner, ""));
    let missing = |name: &str| ListenError::NoSuchOwner { name: name.to_owned() };
    let uid = match user {
        "" => None,
        name => Some(find_user(name).map_err(|_| missing(name))?.0),
    };
    let gid = match group {
        "" => None,
        name => Some(find_group(name).map_err(|_| missing(name))?),
    };
    Ok((uid, gid))
}

/// Sets the permissions and the owner of a socket that this process has just bound to `path`. Refuses what is not it.
pub(super) fn dress(path: &Path, mode: u32, (user, group): Ids) -> io::Result<()> {
    let file = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let about = fstat(&file)?;
    // Ours by birth and of no other name: nobody else who may write here can make such a file, or bring one from elsewhere.
    let is_ours =
        FileType::from_raw_mode(about.st_mode) == FileType::Socket && about.st_uid == geteuid().as_raw() && about.st_nlink == 1;
    if !is_ours {
        return Err(io::Error::other("the file is no longer the socket that was made; let nobody else write to its folder"));
    }
    // A descriptor that only names a file takes no fchmod(2); the link in /proc leads to the file itself (open(2), O_PATH).
    fs::set_permissions(format!("/proc/self/fd/{}", file.as_raw_fd()), fs::Permissions::from_mode(mode))?;
    if (user, group) != (None, None) {
        // Not called for nothing: the systemd unit lets nobody give files away.
        fchownat(&file, "", user, group, AtFlags::AT_EMPTY_PATH)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn only_the_socket_that_was_just_made_is_given_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let us = (Some(geteuid()), Some(nix::unistd::getegid()));
        let _socket = UnixListener::bind(path("web.sock")).unwrap();
        dress(&path("web.sock"), 0o640, us).unwrap();
        assert_eq!(mode(&path("web.sock")), 0o640);
        // What a worker that may write the folder puts in its place, between bind(2) and here.
        fs::write(path("secret"), "").unwrap();
        fs::set_permissions(path("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink(path("secret"), path("link-to-secret")).unwrap();
        symlink(path("web.sock"), path("link-to-socket")).unwrap();
        for name in ["secret", "link-to-secret", "link-to-socket"] {
            let refused = dress(&path(name), 0o666, us).expect_err(name);
            assert!(refused.to_string().contains("is no longer the socket that was made"), "{name}: {refused}");
        }
        // A second name of another's socket.
        fs::hard_link(path("web.sock"), path("second-name")).unwrap();
        dress(&path("second-name"), 0o666, us).expect_err("a second name");
        assert_eq!((mode(&path("secret")), mode(&path("web.sock"))), (0o600, 0o640));
    }

    #[test]
    fn owners_are_names_or_numbers_of_whom_nobody_needs_to_know() {
        let root = (Some(Uid::from_raw(0)), Some(Gid::from_raw(0)));
        assert_eq!(look_up("root:root").unwrap(), root);
        assert_eq!(look_up("41234:41235").unwrap(), (Some(Uid::from_raw(41234)), Some(Gid::from_raw(41235))));
        assert_eq!(look_up(":41235").unwrap(), (None, Some(Gid::from_raw(41235))));
        let unknown = look_up("root:no-such-group").unwrap_err().to_string();
        assert_eq!(unknown, "[listen] owner: there is no user or group \"no-such-group\" on this host");
    }
}
