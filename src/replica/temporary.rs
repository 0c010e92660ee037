//! Where SQLite puts what it does not keep in memory: a confined process cannot reach the system's folder for that.

use std::io;
use std::path::Path;

use rusqlite::Connection;

/// From now on temporary files of this process are made in `folder`. They have no name there for longer than a moment. Must be
/// called before there are threads.
///
/// # Errors
/// The folder's name is not UTF-8, or SQLite does not know this setting any more (it is deprecated, without a replacement).
pub fn keep_in(folder: &Path) -> io::Result<()> {
    const SETTING: &str = "temp_store_directory";
    let name = folder.to_str().ok_or_else(|| io::Error::other("its name is not UTF-8"))?;
    let set = || {
        let db = Connection::open_in_memory()?;
        db.pragma_update(None, SETTING, name)?;
        db.pragma_query_value(None, SETTING, |row| row.get::<_, String>(0))
    };
    match set() {
        Ok(now) if now == name => Ok(()),
        Ok(_) => Err(io::Error::other("SQLite does not keep the setting")),
        Err(error) => Err(io::Error::other(error)),
    }
}
