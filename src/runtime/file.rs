//! Files that a command writes for its user.

use std::fs;

/// Writes a whole file, in place of what was there.
///
/// # Errors
/// A sentence.
pub fn write(path: &str, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("cannot write {path}: {error}"))
}

/// Whether a file can be written there; it is made if it is not there yet.
///
/// # Errors
/// A sentence.
pub fn check_writable(path: &str) -> Result<(), String> {
    let opened = fs::OpenOptions::new().append(true).create(true).open(path);
    opened.map(|_| ()).map_err(|error| format!("cannot write {path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_said() {
        let folder = std::env::temp_dir().join(format!("ringbolt-file-{}", std::process::id()));
        fs::create_dir(&folder).expect("a folder");
        let path = folder.join("result").display().to_string();
        assert_eq!(check_writable(&path), Ok(()));
        write(&path, "text").expect("a file");
        check_writable(&path).expect("a file");
        assert_eq!(fs::read_to_string(&path).expect("text"), "text");
        let below = format!("{path}/below");
        let error = write(&below, "").expect_err("a file is no folder");
        assert!(error.starts_with(&format!("cannot write {below}: ")), "{error}");
        assert!(check_writable(&below).is_err());
        fs::remove_dir_all(&folder).expect("own folder");
    }
}
