//! How far a command is, for whoever waits for it.

use std::io::Write;

/// Where progress is told.
pub struct Progress<'p> {
    /// Lines go there.
    pub out: &'p mut dyn Write,
    /// One line that is written over, for a person who watches.
    pub is_terminal: bool,
    /// Nothing is told.
    pub is_quiet: bool,
}

impl Progress<'_> {
    /// How far it is.
    pub(super) fn line(&mut self, text: &str) {
        if self.is_quiet {
            return;
        }
        // Whoever closed the stream does not want the line.
        let _ = if self.is_terminal {
            write!(self.out, "\r\x1b[K{text}").and_then(|()| self.out.flush())
        } else {
            writeln!(self.out, "{text}")
        };
    }

    /// What stays to be read.
    pub(super) fn note(&mut self, text: &str) {
        let head = if self.is_terminal { "\r\x1b[K" } else { "" };
        let _ = writeln!(self.out, "{head}{text}");
    }

    /// What comes next is no progress.
    pub(super) fn end(&mut self) {
        if self.is_terminal && !self.is_quiet {
            let _ = write!(self.out, "\r\x1b[K");
        }
    }
}
