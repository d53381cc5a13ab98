//! What lies in the data directory and is not loaded at the start. Whoever changed `appendonly` in the configuration file
//! and started anew has data on the disk and none in memory, as with real servers, and is told so while the files are
//! still there: the next save would write over them. Nothing is changed here.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use super::aof::Folder;

/// What to say when a set of append-only files is begun: a dump beside it holds data that is not loaded.
pub fn by_new_files(dump: &Path) -> Option<String> {
    written_at(dump)?;
    Some(format!(
        "WARNING appendonly is yes and there was no append-only file: {} is not loaded, and the next save writes over it. If its data is wanted: SHUTDOWN NOSAVE, start with 'appendonly no', then CONFIG SET appendonly yes and CONFIG REWRITE.",
        shown(dump)
    ))
}

/// What to say when only the dump counts: append-only files that are newer hold what it lacks.
pub fn by_dump(folder: &Folder, dump: &Path) -> Option<String> {
    let newest = folder.manifest().files().filter_map(|file| written_at(&file.path(&folder.dir()))).max()?;
    if written_at(dump).is_some_and(|dumped| dumped >= newest) {
        return None;
    }
    Some(format!(
        "WARNING appendonly is no: the append-only files in {}, which are newer than the dump, are not loaded. If their data is wanted: SHUTDOWN NOSAVE, start with 'appendonly yes', then CONFIG SET appendonly no and CONFIG REWRITE.",
        shown(&folder.dir())
    ))
}

/// With the directory, since it may be the wrong one.
pub fn shown(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// When that file was written last, if there is something in it.
fn written_at(path: &Path) -> Option<SystemTime> {
    let found = fs::metadata(path).ok().filter(|found| found.is_file() && found.len() > 0)?;
    found.modified().ok()
}
