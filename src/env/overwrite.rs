//! Overwriting a file of the user's so that a crash leaves the old text or the new one, whole; and so that it stays the
//! file that it was: its mode, owner and group, and the symbolic links that lead to it.
//!
//! 1. Links are followed: what they lead to is overwritten, and they stay.
//! 2. The new text is written beside the file, in a file that nobody else can read, since it may hold passwords.
//! 3. That gets the owner, the group and the mode of the old file, is synced, and renamed over it.
//! 4. Where the file cannot be replaced (it is a mount point of its own, as in containers; its directory is not ours to
//!    write; its owner is not ours to give) but can be written, it is written where it stands. Room is reserved before
//!    the first byte is touched; a crash in the midst of it can leave a mixture.
//! 5. Where only the owner cannot be kept, and the file cannot be written either, it becomes ours.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// The mode of a file that was not there before, less the process's umask.
const NEW_FILE: u32 = 0o644;

/// Gives a file this text.
pub fn overwrite(file: &Path, text: &[u8]) -> io::Result<()> {
    let file = &fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let old = match fs::metadata(file) {
        Ok(old) => old,
        Err(why) if why.kind() == ErrorKind::NotFound => return replace(file, text, None, Owner::Any),
        Err(why) => return Err(why),
    };
    let Err(why) = replace(file, text, Some(&old), Owner::Kept) else { return Ok(()) };
    if !is_refusal(&why) {
        return Err(why);
    }
    match write_in_place(file, text) {
        Err(second) if is_refusal(&second) => replace(file, text, Some(&old), Owner::Any),
        written => written,
    }
}

/// Whether the new file must belong to the owner of the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Kept,
    Any,
}

/// Whether the system does not let us do it this way, so that another way may work; a full disk, say, is no refusal.
fn is_refusal(why: &io::Error) -> bool {
    matches!(
        why.kind(),
        ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::ResourceBusy
            | ErrorKind::CrossesDevices
    )
}

fn replace(file: &Path, text: &[u8], old: Option<&Metadata>, owner: Owner) -> io::Result<()> {
    let (temp, mut out) = create_beside(file, if old.is_some() { 0o600 } else { NEW_FILE })?;
    let replaced = out
        .write_all(text)
        .and_then(|()| old.map_or(Ok(()), |old| become_like(&out, old, owner)))
        .and_then(|()| out.sync_all())
        .and_then(|()| fs::rename(&temp, file))
        .and_then(|()| File::open(file.parent().unwrap_or(Path::new("/")))?.sync_all());
    if replaced.is_err() {
        // After the rename there is nothing left to remove, which is as well.
        let _ = fs::remove_file(&temp);
    }
    replaced
}

/// Gives an open file the owner, group and mode of another one.
fn become_like(out: &File, old: &Metadata, owner: Owner) -> io::Result<()> {
    let new = out.metadata()?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid())
        && let Err(why) = fchown(out, Some(old.uid()), Some(old.gid()))
    {
        if owner == Owner::Kept {
            return Err(why);
        }
        // The group may still be one of ours; if it is not, whoever reads the file by it loses it.
        let _ = fchown(out, None, Some(old.gid()));
    }
    out.set_permissions(Permissions::from_mode(old.mode() & 0o7777))
}

/// Creates a file of the same name with a suffix that no other file has.
fn create_beside(file: &Path, mode: u32) -> io::Result<(PathBuf, File)> {
    let mut attempt = 0;
    loop {
        let mut name = file.as_os_str().to_os_string();
        name.push(format!(".{}-{attempt}", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(mode).open(&name) {
            Err(why) if why.kind() == ErrorKind::AlreadyExists && attempt < 100 => attempt += 1,
            opened => return opened.map(|out| (PathBuf::from(name), out)),
        }
    }
}

fn write_in_place(file: &Path, text: &[u8]) -> io::Result<()> {
    let mut out = OpenOptions::new().write(true).open(file)?;
    let len = i64::try_from(text.len()).map_err(io::Error::other)?;
    if len > 0 {
        nix::fcntl::posix_fallocate(&out, 0, len)?;
    }
    out.write_all(text)?;
    out.set_len(text.len() as u64)?;
    out.sync_all()
}

#[cfg(test)]
mod tests {
    use super::overwrite;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    #[test]
    fn a_file_keeps_its_mode_and_owner_and_the_links_that_lead_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("real.conf"), dir.path().join("redis.conf"));
        fs::write(&file, "a longer text than the new one").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        // Only the superuser may give a file away.
        let given_away = chown(&file, Some(12_345), Some(12_346)).is_ok();
        symlink("real.conf", &link).unwrap();
        overwrite(&link, b"new text").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new text");
        let after = fs::metadata(&file).unwrap();
        assert_eq!(after.mode() & 0o7777, 0o640);
        if given_away {
            assert_eq!((after.uid(), after.gid()), (12_345, 12_346));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary file is left");
    }

    #[test]
    fn a_file_that_was_not_there_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("redis.conf");
        overwrite(&file, b"text").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"text");
        assert_eq!(fs::metadata(&file).unwrap().mode() & !0o644 & 0o777, 0);
    }

    #[test]
    fn a_file_is_written_where_it_stands_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("redis.conf");
        fs::write(&file, "a longer text than the new one").unwrap();
        super::write_in_place(&file, b"new text").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new text");
        super::write_in_place(&file, b"").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"");
    }
}
