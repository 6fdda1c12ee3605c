//! Files that a command reads and writes for its user.

use std::fs::{self, File};
use std::io::{self, Read};

/// Longest file that is read; a long run with many series has some megabytes.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Reads a whole file of text.
///
/// # Errors
/// A sentence.
pub fn read(path: &str) -> Result<String, String> {
    let failed = |error: io::Error| format!("cannot read {path}: {error}");
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    let length = file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    if length as u64 == FILE_BYTES_MAX {
        return Err(format!("cannot read {path}: it has {FILE_BYTES_MAX} bytes or more"));
    }
    Ok(text)
}

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
        assert_eq!(read(&path), Ok("text".to_owned()));
        fs::write(&path, b"\xff").expect("a file");
        let error = read(&path).expect_err("no text");
        assert!(error.starts_with(&format!("cannot read {path}: ")), "{error}");
        let below = format!("{path}/below");
        let error = write(&below, "").expect_err("a file is no folder");
        assert!(error.starts_with(&format!("cannot write {below}: ")), "{error}");
        assert!(check_writable(&below).is_err());
        fs::remove_dir_all(&folder).expect("own folder");
    }
}
