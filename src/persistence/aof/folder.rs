//! The folder of the append-only files: its manifest on the disk, and the steps by which files come and go.
//!
//! Every change follows the same order, so that a server killed at any moment leaves a set that loads:
//!
//! ```text
//! 1. new files are there, under names that the manifest does not have yet
//! 2. temp-<name>.manifest is written    3. fsync    4. renamed to <name>.manifest    5. fsync of the folder
//! 6. what the new manifest calls history is deleted, and a manifest without it written
//! ```
//! A step that fails changes neither the manifest on the disk nor the one here. Errors are the lines of the log; what is
//! done is logged here, in the words of real servers.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::manifest::{FileInfo, Manifest, ManifestError};
use crate::env::process::strerror;
use crate::observe::log;

/// See the head of this file.
#[derive(Debug)]
pub struct Folder {
    /// The server's directory: "." for a server, which stands in it.
    root: PathBuf,
    /// `appenddirname` and `appendfilename`.
    dirname: String,
    filename: Vec<u8>,
    manifest: Manifest,
    /// History is left where it is (a test's aid, `aof-disable-auto-gc`).
    pub keeps_history: bool,
}

/// Why a step was not done. The text is the log's.
#[derive(Debug)]
pub enum FolderError {
    Dir {
        dirname: String,
        why: io::Error,
    },
    /// A step with the manifest's text, by what the log says of it.
    Manifest {
        what: String,
        why: io::Error,
    },
    SyncDir {
        dirname: String,
        why: io::Error,
    },
    OpenManifest {
        path: PathBuf,
        why: io::Error,
    },
    BadManifest(ManifestError),
    Open {
        name: String,
        why: io::Error,
    },
    Rename {
        what: String,
        why: io::Error,
    },
}

impl FolderError {
    /// What the system said, if that is what it was.
    pub fn why(&self) -> Option<&io::Error> {
        match self {
            FolderError::Dir { why, .. }
            | FolderError::Manifest { why, .. }
            | FolderError::SyncDir { why, .. }
            | FolderError::OpenManifest { why, .. }
            | FolderError::Open { why, .. }
            | FolderError::Rename { why, .. } => Some(why),
            FolderError::BadManifest(_) => None,
        }
    }

    /// Everything that the log should say.
    pub fn log_lines(&self) -> Vec<String> {
        match self {
            FolderError::BadManifest(why) => why.log_lines(),
            _ => vec![self.to_string()],
        }
    }

    /// Says it.
    pub fn log(&self) {
        for line in self.log_lines() {
            log::warning!("{line}");
        }
    }
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = self.why().map_or_else(String::new, strerror);
        match self {
            FolderError::Dir { dirname, .. } => {
                write!(f, "Can't open or create append-only dir {dirname}: {why}")
            }
            FolderError::Manifest { what, .. } => write!(f, "{what}: {why}"),
            FolderError::SyncDir { dirname, .. } => {
                write!(f, "Fail to fsync AOF directory {dirname}: {why}.")
            }
            FolderError::OpenManifest { path, .. } => {
                let path = path.display();
                write!(f, "Fatal error: can't open the AOF manifest file {path} for reading: {why}")
            }
            FolderError::BadManifest(error) => error.fmt(f),
            FolderError::Open { name, .. } => write!(f, "Can't open the append-only file {name}: {why}"),
            FolderError::Rename { what, .. } => write!(f, "{what}: {why}"),
        }
    }
}

impl std::error::Error for FolderError {}

/// An incremental file that was opened, to be written at its end.
#[derive(Debug)]
pub struct OpenedIncr {
    pub file: File,
    pub size: u64,
}

/// The files of a new base that has taken its place.
#[derive(Debug)]
pub struct Adopted {
    /// Bytes of the base.
    pub base_size: u64,
}

impl Folder {
    /// Reads the manifest, if there is one. Nothing is changed.
    pub fn read(root: &Path, dirname: &str, filename: &[u8]) -> Result<Folder, FolderError> {
        let mut folder = Folder {
            root: root.to_owned(),
            dirname: dirname.to_owned(),
            filename: filename.to_owned(),
            manifest: Manifest::default(),
            keeps_history: false,
        };
        let path = folder.dir().join(folder.manifest_name());
        match fs::read(&path) {
            Ok(text) => folder.manifest = Manifest::parse(&text).map_err(FolderError::BadManifest)?,
            Err(why) if matches!(why.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(why) => return Err(FolderError::OpenManifest { path, why }),
        }
        Ok(folder)
    }

    /// Where the files are.
    pub fn dir(&self) -> PathBuf {
        self.root.join(&self.dirname)
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// `appendfilename`.
    pub fn filename(&self) -> &[u8] {
        &self.filename
    }

    fn manifest_name(&self) -> PathBuf {
        OsStr::from_bytes(&[&self.filename, &b".manifest"[..]].concat()).into()
    }

    /// The name under which writes are gathered while the first base is made.
    fn temp_incr_name(&self) -> Vec<u8> {
        [b"temp-", &self.filename[..], b".incr"].concat()
    }

    fn path(&self, name: &[u8]) -> PathBuf {
        self.dir().join(OsStr::from_bytes(name))
    }

    // --- At the start ---

    /// Takes over the single file of a server before 7.0, if one is there and its way into the folder was not finished
    /// before.
    pub fn upgrade(&mut self) -> Result<(), FolderError> {
        let old = self.root.join(OsStr::from_bytes(&self.filename));
        let begun = self.manifest.incr.is_empty()
            && self.manifest.base.as_ref().is_some_and(|base| base.name == self.filename)
            && !self.path(&self.filename).exists();
        if !(self.manifest.is_empty() || begun) || !old.is_file() {
            return Ok(());
        }
        self.create_dir()?;
        let mut manifest = self.manifest.clone();
        manifest.old_file_as_base(&self.filename);
        self.persist(manifest)?;
        let shown = String::from_utf8_lossy(&self.filename).into_owned();
        fs::rename(&old, self.path(&self.filename)).map_err(|why| FolderError::Rename {
            what: format!("Error trying to move the old AOF file {shown} into dir {}", self.dirname),
            why,
        })?;
        self.sync_dir()?;
        log::notice!(
            "Successfully migrated an old-style AOF file ({shown}) into the AOF directory ({}).",
            self.dirname
        );
        Ok(())
    }

    /// Opens the last incremental file to go on in it, or a first one. Of a server that starts with nothing the base is
    /// made before, by `write_base`, which is given the path of the base.
    pub fn open_on_start<E: From<FolderError>>(
        &mut self,
        rdb: bool,
        write_base: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<OpenedIncr, E> {
        self.create_dir()?;
        let mut manifest = self.manifest.clone();
        if manifest.is_empty() {
            let name = manifest.new_base(&self.filename, rdb);
            write_base(&self.path(&name))?;
            log::notice!("Creating AOF base file {} on server start", String::from_utf8_lossy(&name));
        }
        let new = manifest.incr.is_empty();
        let name = match manifest.incr.last_mut() {
            Some(last) => {
                last.end_offset = None;
                last.name.clone()
            }
            None => manifest.new_incr(&self.filename),
        };
        let opened = self.open_incr(&name, false)?;
        if manifest != self.manifest {
            self.persist(manifest)?;
        }
        let doing = if new { "Creating" } else { "Opening" };
        log::notice!("{doing} AOF incr file {} on server start", String::from_utf8_lossy(&name));
        Ok(opened)
    }

    // --- While it runs ---

    /// Makes the folder if it is not there.
    pub fn create_dir(&self) -> Result<(), FolderError> {
        let dir = self.dir();
        match fs::create_dir(&dir) {
            Err(why) if why.kind() != io::ErrorKind::AlreadyExists || !dir.is_dir() => {
                Err(FolderError::Dir { dirname: self.dirname.clone(), why })
            }
            _ => Ok(()),
        }
    }

    /// A new incremental file, for what is written from the beginning of a rewrite on.
    pub fn begin_incr(&mut self) -> Result<OpenedIncr, FolderError> {
        let mut manifest = self.manifest.clone();
        let name = manifest.new_incr(&self.filename);
        let opened = self.open_incr(&name, true)?;
        self.persist(manifest)?;
        log::notice!("Creating AOF incr file {} on background rewrite", String::from_utf8_lossy(&name));
        Ok(opened)
    }

    /// The same before there is a first base: the manifest does not have it until there is.
    pub fn begin_temp_incr(&mut self) -> Result<OpenedIncr, FolderError> {
        let name = self.temp_incr_name();
        let opened = self.open_incr(&name, true)?;
        log::notice!("Creating AOF incr file {} on background rewrite", String::from_utf8_lossy(&name));
        Ok(opened)
    }

    fn open_incr(&self, name: &[u8], empty: bool) -> Result<OpenedIncr, FolderError> {
        let opened =
            File::options().append(true).create(true).mode(0o644).open(self.path(name)).and_then(|file| {
                if empty {
                    file.set_len(0)?;
                }
                let size = file.metadata()?.len();
                Ok(OpenedIncr { file, size })
            });
        opened.map_err(|why| FolderError::Open { name: String::from_utf8_lossy(name).into_owned(), why })
    }

    /// The base that a child has made, in the file `temp`, takes its place; what it holds is
    /// history. `writing`: the last incremental file goes on. `temp_incr`: it is the temporary one, which gets its name now.
    pub fn adopt_base(
        &mut self,
        temp: &Path,
        rdb: bool,
        writing: bool,
        temp_incr: bool,
    ) -> Result<Adopted, FolderError> {
        let mut manifest = self.manifest.clone();
        let base = manifest.new_base(&self.filename, rdb);
        let base_path = self.path(&base);
        let shown = String::from_utf8_lossy(&base).into_owned();
        let shown_temp = temp.file_name().unwrap_or_default().to_string_lossy();
        fs::rename(temp, &base_path).map_err(|why| FolderError::Rename {
            what: format!("Error trying to rename the temporary AOF base file {shown_temp} into {shown}"),
            why,
        })?;
        log::notice!("Successfully renamed the temporary AOF base file {shown_temp} into {shown}");
        let mut incr_path = None;
        if temp_incr {
            let (temp, name) = (self.temp_incr_name(), manifest.new_incr(&self.filename));
            let path = self.path(&name);
            let (shown_temp, shown) = (String::from_utf8_lossy(&temp), String::from_utf8_lossy(&name));
            if let Err(why) = fs::rename(self.path(&temp), &path) {
                let what =
                    format!("Error trying to rename the temporary AOF incr file {shown_temp} into {shown}");
                let _ = fs::remove_file(&base_path);
                return Err(FolderError::Rename { what, why });
            }
            log::notice!("Successfully renamed the temporary AOF incr file {shown_temp} into {shown}");
            incr_path = Some(path);
        }
        manifest.incr_is_history(writing);
        if let Err(why) = self.persist(manifest) {
            // Nobody knows of these files, and nobody will.
            let _ = fs::remove_file(&base_path);
            if let Some(path) = incr_path {
                let _ = fs::rename(path, self.path(&self.temp_incr_name()));
            }
            return Err(why);
        }
        let base_size = fs::metadata(&base_path).map_or(0, |metadata| metadata.len());
        Ok(Adopted { base_size })
    }

    /// Removes the temporary incremental file; what it held is dropped by whoever drops the returned file.
    pub fn drop_temp_incr(&self) -> Option<File> {
        let name = self.temp_incr_name();
        log::notice!("Removing the temp incr aof file {} in the background", String::from_utf8_lossy(&name));
        unlink(&self.path(&name))
    }

    /// Removes the files that are history, from the disk and from the manifest. Their bytes are freed by whoever drops
    /// the returned files, which may take a while. What cannot be removed is no part of the data set all the same.
    pub fn drop_history(&mut self) -> Result<Vec<File>, FolderError> {
        if self.keeps_history || self.manifest.history.is_empty() {
            return Ok(Vec::new());
        }
        self.sync_dir()?;
        let mut manifest = self.manifest.clone();
        let mut files = Vec::new();
        for old in std::mem::take(&mut manifest.history) {
            log::notice!("Removing the history file {} in the background", old.shown());
            files.extend(unlink(&old.path(&self.dir())));
        }
        self.persist(manifest)?;
        Ok(files)
    }

    /// The size of a file of the data set.
    pub fn size(&self, file: &FileInfo) -> io::Result<u64> {
        let size = fs::metadata(file.path(&self.dir())).map(|metadata| metadata.len());
        size.inspect_err(|why| {
            log::warning!("Unable to obtain the AOF file {} length. stat: {}", file.shown(), strerror(why));
        })
    }

    // --- The manifest on the disk ---

    fn persist(&mut self, manifest: Manifest) -> Result<(), FolderError> {
        let name = self.manifest_name();
        let temp = Path::new(OsStr::from_bytes(&[b"temp-", name.as_os_str().as_bytes()].concat())).to_owned();
        let (shown, shown_temp) = (name.display(), temp.display());
        let (path, temp_path) = (self.dir().join(&name), self.dir().join(&temp));
        let failed = |what: String| move |why| FolderError::Manifest { what, why };
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(&temp_path)
            .map_err(failed(format!("Can't open the AOF manifest file {shown_temp}")))?;
        let written = file
            .write_all(&manifest.to_text())
            .map_err(failed(format!("Error trying to write the temporary AOF manifest file {shown_temp}")))
            .and_then(|()| {
                file.sync_all().map_err(failed(format!("Fail to fsync the temp AOF file {shown_temp}")))
            })
            .and_then(|()| {
                fs::rename(&temp_path, &path).map_err(failed(format!(
                    "Error trying to rename the temporary AOF manifest file {shown_temp} into {shown}"
                )))
            });
        if let Err(why) = written {
            let _ = fs::remove_file(&temp_path);
            return Err(why);
        }
        // From here on this is what is on the disk. Whether it would outlive the machine is asked again before anything
        // that it calls history goes.
        self.manifest = manifest;
        if let Err(why) = self.sync_dir() {
            why.log();
        }
        Ok(())
    }

    fn sync_dir(&self) -> Result<(), FolderError> {
        let synced = File::open(self.dir()).and_then(|dir| dir.sync_all());
        synced.map_err(|why| FolderError::SyncDir { dirname: self.dirname.clone(), why })
    }
}

/// Removes a name. The file that is returned holds the last claim on its bytes.
fn unlink(path: &Path) -> Option<File> {
    let file = File::open(path).ok();
    // What is not there needs no removing.
    let _ = fs::remove_file(path);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn read(root: &Path) -> Folder {
        Folder::read(root, "aofs", b"a.aof").unwrap()
    }

    fn start(folder: &mut Folder) -> OpenedIncr {
        folder
            .open_on_start(true, |path| {
                fs::write(path, "base").map_err(|why| FolderError::Open { name: String::new(), why })
            })
            .unwrap()
    }

    #[test]
    fn a_server_starts_a_set_rewrites_it_and_starts_again() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("aofs");
        let mut folder = read(root.path());
        assert!(folder.manifest().is_empty() && !dir.exists());
        let first = start(&mut folder);
        assert_eq!(names(&dir), ["a.aof.1.base.rdb", "a.aof.1.incr.aof", "a.aof.manifest"]);
        (&first.file).write_all(b"first").unwrap();

        let second = folder.begin_incr().unwrap();
        (&second.file).write_all(b"second").unwrap();
        assert_eq!(read(root.path()).manifest(), folder.manifest());
        fs::write(root.path().join("temp-rewriteaof-bg-7.aof"), "new base").unwrap();
        let adopted =
            folder.adopt_base(&root.path().join("temp-rewriteaof-bg-7.aof"), false, true, false).unwrap();
        assert_eq!(adopted.base_size, 8);
        // Killed here, the history would be deleted by the next start.
        assert_eq!(read(root.path()).manifest().history.len(), 2);
        assert_eq!(folder.drop_history().unwrap().len(), 2);
        assert_eq!(names(&dir), ["a.aof.2.base.aof", "a.aof.2.incr.aof", "a.aof.manifest"]);

        let mut again = read(root.path());
        assert_eq!(again.manifest(), folder.manifest());
        let opened = start(&mut again);
        assert_eq!(opened.size, 6);
        (&opened.file).write_all(b"!").unwrap();
        assert_eq!(fs::read(dir.join("a.aof.2.incr.aof")).unwrap(), b"second!");
    }

    #[test]
    fn appending_begins_in_a_temporary_file_until_there_is_a_base() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("aofs");
        let mut folder = read(root.path());
        folder.create_dir().unwrap();
        folder.begin_temp_incr().unwrap();
        assert_eq!(names(&dir), ["temp-a.aof.incr"]);
        assert!(read(root.path()).manifest().is_empty());
        assert!(folder.drop_temp_incr().is_some());
        let incr = folder.begin_temp_incr().unwrap();
        (&incr.file).write_all(b"since").unwrap();
        fs::write(root.path().join("temp-base"), "base").unwrap();
        folder.adopt_base(&root.path().join("temp-base"), true, true, true).unwrap();
        assert_eq!(names(&dir), ["a.aof.1.base.rdb", "a.aof.1.incr.aof", "a.aof.manifest"]);
        assert_eq!(read(root.path()).manifest().incr[0].name, b"a.aof.1.incr.aof");
    }

    #[test]
    fn the_file_of_an_old_server_becomes_the_base_whenever_it_was_interrupted() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.aof"), "old").unwrap();
        let mut folder = read(root.path());
        folder.upgrade().unwrap();
        let dir = root.path().join("aofs");
        assert_eq!(names(&dir), ["a.aof", "a.aof.manifest"]);
        // As if it had ended between the manifest and the move.
        fs::rename(dir.join("a.aof"), root.path().join("a.aof")).unwrap();
        let mut folder = read(root.path());
        folder.upgrade().unwrap();
        assert_eq!(fs::read(dir.join("a.aof")).unwrap(), b"old");
        // Once there is a set, a file of that name is somebody else's.
        fs::write(root.path().join("a.aof"), "another").unwrap();
        let mut folder = read(root.path());
        folder.upgrade().unwrap();
        assert_eq!(fs::read(dir.join("a.aof")).unwrap(), b"old");
        start(&mut folder);
        assert_eq!(names(&dir), ["a.aof", "a.aof.1.incr.aof", "a.aof.manifest"]);
    }

    #[test]
    fn a_step_that_fails_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let mut folder = read(root.path());
        start(&mut folder);
        let before = folder.manifest().clone();
        let error = folder.adopt_base(Path::new("not-there"), true, true, false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Error trying to rename the temporary AOF base file not-there into a.aof.2.base.rdb: No such file or directory"
        );
        // Something is in the manifest's way.
        fs::create_dir(folder.dir().join("temp-a.aof.manifest")).unwrap();
        let error = folder.begin_incr().unwrap_err();
        assert_eq!(error.to_string(), "Can't open the AOF manifest file temp-a.aof.manifest: Is a directory");
        fs::write(root.path().join("temp-base"), "base").unwrap();
        folder.adopt_base(&root.path().join("temp-base"), true, true, false).unwrap_err();
        assert!(!folder.dir().join("a.aof.2.base.rdb").exists());
        assert_eq!(*folder.manifest(), before);
        assert_eq!(*read(root.path()).manifest(), before);
        fs::write(root.path().join("file"), "").unwrap();
        let folder = Folder::read(root.path(), "file", b"a.aof").unwrap();
        let error = folder.create_dir().unwrap_err().to_string();
        assert_eq!(error, "Can't open or create append-only dir file: File exists");
    }
}
