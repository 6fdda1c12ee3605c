//! The rules of this repository that a compiler does not check: who imports whom, what a room
//! must not touch, the card at the head of a room, and how long things may get.

#![allow(clippy::print_stderr, reason = "a warning of this test is meant to be read")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_WARN: usize = 600;
const FILE_LINES_MAX: usize = 1_000;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_COLUMNS_MAX: usize = 100;
/// Packages in Cargo.lock, build and tests included. It only shrinks, or says why it grew:
/// hdrhistogram and what its log format needs (deflate, a parser) are six; zstd and what builds
/// its sources are four.
const PACKAGES_MAX: usize = 227;

/// Functions above the bar, each with its reason.
const LONG_FUNCTIONS: [(&str, &str, &str); 0] = [];

/// Rooms by rank: a room imports what stands on a lower line, and nothing of its own line.
const RANKS: [&[&str]; 6] = [
    &["base"],
    &["wire"],
    &["config", "frontend", "router", "orderer", "shard", "watch", "lease", "auth", "cluster"],
    &["node"],
    &["runtime", "sim"],
    &["cli"],
];

/// Imports against the direction: file, room imported, why.
const IMPORTS_ALLOWED: [(&str, &str, &str); 1] =
    [("src/base/record.rs", "wire", "its tests check the encoding against the generated message")];

/// What only some files may name: word, where, and exceptions with the reason for each.
struct Reserved {
    word: &'static str,
    home: &'static str,
    except: &'static [(&'static str, &'static str)],
}

const RESERVED: [Reserved; 9] = [
    Reserved { word: "raft::", home: "src/orderer/driver.rs", except: &[] },
    Reserved { word: "glommio", home: "src/runtime/", except: &[] },
    Reserved { word: "io_uring", home: "src/runtime/", except: &[] },
    Reserved { word: "libc", home: "src/runtime/", except: &[] },
    Reserved { word: "std::os", home: "src/runtime/", except: &[] },
    Reserved { word: "unsafe", home: "src/runtime/", except: &[] },
    Reserved {
        word: "std::fs",
        home: "src/runtime/",
        except: &[("src/cli/mod.rs", "reads the configuration file, before there is a runtime")],
    },
    Reserved {
        word: "std::net",
        home: "src/runtime/",
        except: &[("src/config/url.rs", "an address as a value; nothing is resolved or opened")],
    },
    Reserved {
        word: "std::process",
        home: "src/runtime/",
        except: &[("src/main.rs", "hands the exit code to the system")],
    },
];

/// Words that no code of ours may hold: word, what to use, files that may and why.
type Banned = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const BANNED: [Banned; 13] = [
    ("Instant::now", "the Tick that is handed in", &[("src/runtime/clock.rs", "makes the ticks")]),
    (
        "SystemTime::now",
        "the Tick that is handed in",
        &[
            ("src/runtime/clock.rs", "says when a benchmark began"),
            ("src/runtime/log.rs", "a line of the log carries wall time"),
            ("src/runtime/metrics.rs", "a start time is a metric"),
        ],
    ),
    ("thread_rng", "the Prng that is handed in", &[]),
    ("RandomState", "an ordered map or a fixed hasher", &[]),
    (
        "thread::sleep",
        "a timer of the executor",
        &[("src/runtime/disk.rs", "paces the filling of a segment on a blocking thread")],
    ),
    ("println!", "the log", &[]),
    ("eprintln!", "the log", &[]),
    ("todo!", "an error that says so", &[]),
    ("unimplemented!", "an error that says so", &[]),
    ("dbg!", "nothing", &[]),
    ("FIXME", "the mended code", &[]),
    (".unwrap()", "expect with the invariant, or an error", &[]),
    ("mem::transmute", "a safe conversion", &[]),
];

// --- the repository as text -------------------------------------------------------------------

struct Source {
    path: String,
    text: String,
    /// The text with comments, strings and characters blanked out, line by line as before.
    code: String,
}

impl Source {
    fn read(path: &Path) -> Source {
        let text = fs::read_to_string(path).expect("a source is readable text");
        let relative = path.strip_prefix(root()).expect("below the root");
        Source { path: relative.display().to_string(), code: code_of(&text), text }
    }

    fn is_test(&self) -> bool {
        let is_under = |folder: &str| self.path.split('/').any(|part| part == folder);
        is_under("tests") || self.path.ends_with("/tests.rs")
    }

    /// The code in front of the unit tests at the bottom.
    fn shipped(&self) -> &str {
        // Attributes of the module may stand between.
        let is_last = |at: &usize| {
            self.code[*at..].find("mod tests {").is_some_and(|distance| distance < 200)
        };
        let mut marks = self.code.match_indices("#[cfg(test)]").map(|(at, _)| at);
        marks.find(is_last).map_or(&self.code[..], |at| &self.code[..at])
    }

    fn room(&self) -> Option<&str> {
        let tail = self.path.strip_prefix("src/")?;
        tail.split_once('/').map(|(room, _)| room)
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(folder)];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("an entry of a folder").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let paths = folders.iter().flat_map(|folder| files(folder, "rs"));
    let found: Vec<Source> = paths.map(|path| Source::read(&path)).collect();
    assert!(!found.is_empty(), "no sources below {folders:?}");
    found
}

/// Blanks comments and literals, so that braces and words that are left are code.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_or_comment_end(bytes, at);
        if end > at {
            let blank = |byte: &u8| if *byte == b'\n' { b'\n' } else { b' ' };
            out.extend(bytes[at..end].iter().map(blank));
            at = end;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    // Whole literals were blanked, so what is left was cut at character boundaries.
    String::from_utf8(out).expect("text stays text")
}

/// Where the comment or literal that starts at `at` ends; `at` if none does.
fn literal_or_comment_end(bytes: &[u8], at: usize) -> usize {
    let find = |needle: &[u8], from: usize| {
        let mut windows = bytes[from..].windows(needle.len());
        windows.position(|window| window == needle).map_or(bytes.len(), |found| from + found)
    };
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return find(b"\n", at);
    }
    if rest.starts_with(b"/*") {
        return (find(b"*/", at) + 2).min(bytes.len());
    }
    let is_word = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
    let follows_word = at > 0 && is_word(bytes[at - 1]);
    if !follows_word && (rest.starts_with(b"r\"") || rest.starts_with(b"r#")) {
        let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
        if rest.get(1 + hashes) == Some(&b'"') {
            let mut close = vec![b'"'];
            close.resize(1 + hashes, b'#');
            return (find(&close, at + 2 + hashes) + close.len()).min(bytes.len());
        }
        return at;
    }
    match rest.first() {
        Some(b'"') => quoted_end(bytes, at, b'"'),
        // A character, not a lifetime: escaped, or closed right behind one character.
        Some(b'\'') if rest.get(1) == Some(&b'\\') => quoted_end(bytes, at, b'\''),
        Some(b'\'') => {
            let tail = std::str::from_utf8(&rest[1..rest.len().min(6)]);
            let head = tail.map_or_else(|error| error.valid_up_to(), str::len);
            let text = std::str::from_utf8(&rest[1..1 + head]).unwrap_or("");
            let width = text.chars().next().map_or(1, char::len_utf8);
            if rest.get(1 + width) == Some(&b'\'') { at + width + 2 } else { at }
        }
        _ => at,
    }
}

fn quoted_end(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// Lines on which a word stands, not as the tail or head of a longer one.
fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let is_word = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let opens = word.starts_with(is_word);
    let closes = word.ends_with(is_word);
    let stands = |(at, _): &(usize, &str)| {
        let before = code[..*at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !(opens && before.is_some_and(is_word) || closes && after.is_some_and(is_word))
    };
    let found = code.match_indices(word).filter(stands);
    found.map(|(at, _)| code[..at].matches('\n').count() + 1).collect()
}

#[track_caller]
fn fail_if_any(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

// --- the rules --------------------------------------------------------------------------------

fn rank(room: &str) -> Option<usize> {
    RANKS.iter().position(|rooms| rooms.contains(&room))
}

#[test]
fn imports_go_one_way() {
    let mut found = Vec::new();
    for source in sources(&["src"]) {
        let Some(room) = source.room() else { continue };
        let Some(own) = rank(room) else {
            found.push(format!("{}: {room} is not a room of this house", source.path));
            continue;
        };
        let shipped = if source.is_test() { "" } else { source.shipped() };
        for (at, _) in source.code.match_indices("crate::") {
            let tail = &source.code[at + "crate::".len()..];
            let end = tail.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
            let name = &tail[..end.unwrap_or(tail.len())];
            // The macro lives in the runtime, whose log it writes.
            let imported = if name == "log" { "runtime" } else { name };
            let in_test = at >= shipped.len();
            let is_allowed = imported == room
                || rank(imported).is_some_and(|theirs| theirs < own)
                // Models are what the rooms' own tests are judged by.
                || (in_test && imported == "sim")
                || IMPORTS_ALLOWED.iter().any(|(p, i, _)| *p == source.path && *i == imported);
            if !is_allowed {
                let line = source.code[..at].matches('\n').count() + 1;
                found.push(format!("{}:{line}: {room} imports {imported}", source.path));
            }
        }
    }
    fail_if_any("imports against the direction", &found);
}

#[test]
fn some_words_have_a_home() {
    let mut found = Vec::new();
    for source in sources(&["src"]) {
        if source.is_test() {
            continue;
        }
        for Reserved { word, home, except } in &RESERVED {
            let is_home = source.path.starts_with(home);
            if is_home || except.iter().any(|(path, _)| *path == source.path) {
                continue;
            }
            for line in lines_with(source.shipped(), word) {
                found.push(format!("{}:{line}: {word} belongs to {home}", source.path));
            }
        }
    }
    fail_if_any("words away from home", &found);
}

#[test]
fn banned_words_are_absent() {
    let mut found = Vec::new();
    for source in sources(&["src"]) {
        if source.is_test() {
            continue;
        }
        for (word, instead, except) in &BANNED {
            if except.iter().any(|(path, _)| *path == source.path) {
                continue;
            }
            for line in lines_with(source.shipped(), word) {
                found.push(format!("{}:{line}: {word} is banned, use {instead}", source.path));
            }
        }
    }
    for source in sources(&["src", "tests", "benches"]) {
        if source.path == "tests/tidy.rs" {
            continue;
        }
        for word in ["FIXME", "XXX", "dbg!("] {
            for line in lines_with(&source.text, word) {
                found.push(format!("{}:{line}: {word} is not for the main branch", source.path));
            }
        }
    }
    fail_if_any("banned words", &found);
}

#[test]
fn every_unsafe_block_is_argued() {
    let mut found = Vec::new();
    let mut blocks = 0;
    for source in sources(&["src"]) {
        let lines: Vec<&str> = source.text.lines().collect();
        for line in lines_with(&source.code, "unsafe") {
            blocks += 1;
            let from = line.saturating_sub(12);
            if !lines[from..line].iter().any(|text| text.contains("SAFETY:")) {
                found.push(format!("{}:{line}: no SAFETY comment above it", source.path));
            }
        }
    }
    fail_if_any("unsafe code without its argument", &found);
    assert!(blocks <= 60, "{blocks} unsafe blocks; the bar is 60");
}

#[test]
fn every_room_has_its_card() {
    let mut found = Vec::new();
    for source in sources(&["src"]) {
        if source.is_test() || !source.path.ends_with("/mod.rs") {
            continue;
        }
        let card: Vec<&str> =
            source.text.lines().map_while(|line| line.strip_prefix("//!")).collect();
        let name = source.path.trim_start_matches("src/").trim_end_matches("/mod.rs");
        let name = name.replace('/', "::");
        let last = name.rsplit("::").next().unwrap_or_default();
        let head = card.first().copied().unwrap_or_default().trim();
        let starts = [name.as_str(), last].iter().any(|n| head.starts_with(&format!("{n} — ")));
        if !starts {
            found.push(format!("{}: the card starts with \"{name} — \"", source.path));
        }
        let text = card.join("\n");
        let parts = ["In:", "Out:", "Owns:", "Invariants:", "Limits:", "Must not:", "Tests:"];
        for part in parts.iter().filter(|part| !text.contains(**part)) {
            found.push(format!("{}: the card lacks \"{part}\"", source.path));
        }
        if card.len() < 7 {
            found.push(format!("{}: the card has {} lines, not 7", source.path, card.len()));
        }
    }
    fail_if_any("cards", &found);
}

#[test]
fn files_and_lines_are_short() {
    let mut found = Vec::new();
    let mut warned = String::new();
    for source in sources(&["src", "tests", "benches"]) {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX && !source.is_test() {
            found.push(format!("{}: {lines} lines; the bar is {FILE_LINES_MAX}", source.path));
        } else if lines > FILE_LINES_WARN {
            let _ = writeln!(warned, "warning: {} has {lines} lines", source.path);
        }
        for (at, line) in source.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > LINE_COLUMNS_MAX {
                found.push(format!("{}:{}: {columns} columns", source.path, at + 1));
            }
            if line.ends_with([' ', '\t']) {
                found.push(format!("{}:{}: blanks at the end", source.path, at + 1));
            }
        }
    }
    eprint!("{warned}");
    fail_if_any("too long", &found);
}

#[test]
fn functions_are_short() {
    let mut found = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        for (name, line, lines) in functions(&source.code) {
            let allowed = LONG_FUNCTIONS.iter().any(|(p, n, _)| *p == source.path && *n == name);
            if lines > FUNCTION_LINES_MAX && !allowed {
                found.push(format!("{}:{line}: fn {name} has {lines} lines", source.path));
            }
        }
    }
    fail_if_any("functions above 70 lines", &found);
}

/// Name, line and length of every function with a body.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c == '_' || c.is_ascii_alphanumeric()) {
            continue;
        }
        let tail = &code[at + 3..];
        let name_end = tail.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(0);
        // A body opens before the declaration ends; a trait's method or a type has none.
        let Some(open) = body_start(tail) else { continue };
        let mut depth = 0_i32;
        let mut end = tail.len();
        for (offset, c) in tail[open..].char_indices() {
            depth += i32::from(c == '{') - i32::from(c == '}');
            if depth == 0 {
                end = open + offset;
                break;
            }
        }
        let line = code[..at].matches('\n').count() + 1;
        let lines = tail[..end].matches('\n').count() + 1;
        if name_end > 0 {
            found.push((tail[..name_end].to_owned(), line, lines));
        }
    }
    found
}

fn body_start(tail: &str) -> Option<usize> {
    let mut nesting = 0_i32;
    for (offset, c) in tail.char_indices() {
        match c {
            '(' | '[' => nesting += 1,
            ')' | ']' => nesting -= 1,
            '{' if nesting == 0 => return Some(offset),
            ';' | '=' | ',' if nesting <= 0 => return None,
            _ if nesting < 0 => return None,
            _ => {}
        }
    }
    None
}

#[test]
fn every_dependency_says_why() {
    let text = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let mut found = Vec::new();
    let mut is_dependencies = false;
    let mut before = "";
    let mut count = 0;
    for line in text.lines() {
        if line.starts_with('[') {
            is_dependencies = line.ends_with("dependencies]");
        } else if is_dependencies && !line.is_empty() && !line.starts_with('#') {
            count += 1;
            if !before.starts_with('#') {
                found.push(format!("{line}: no line above says why it is there"));
            }
            if line.contains("git =") || line.contains("path =") {
                found.push(format!("{line}: only crates.io"));
            }
        }
        before = line;
    }
    assert!(count > 10, "the dependencies were not found");
    fail_if_any("dependencies", &found);
}

#[test]
fn packages_do_not_multiply() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    let packages = lock.lines().filter(|line| *line == "[[package]]").count();
    assert!(packages > 50, "Cargo.lock was not understood");
    assert!(packages <= PACKAGES_MAX, "{packages} packages; the bar is {PACKAGES_MAX}");
    let sources: BTreeSet<&str> =
        lock.lines().filter_map(|line| line.strip_prefix("source = ")).collect();
    let expect = BTreeSet::from(["\"registry+https://github.com/rust-lang/crates.io-index\""]);
    assert_eq!(sources, expect, "packages come from crates.io alone");
}

#[test]
fn every_proto_is_built_and_known_to_the_build() {
    let build = fs::read_to_string(root().join("build.rs")).expect("build.rs");
    let listed: BTreeSet<String> = build
        .split('"')
        .filter(|part| {
            let path = Path::new(part);
            part.starts_with("proto/") && path.extension().is_some_and(|e| e == "proto")
        })
        .map(str::to_owned)
        .collect();
    let relative =
        |path: PathBuf| path.strip_prefix(root()).expect("below the root").display().to_string();
    let there: BTreeSet<String> = files("proto", "proto").into_iter().map(relative).collect();
    assert!(!there.is_empty(), "no .proto files");
    assert_eq!(listed, there, "what build.rs lists and what proto/ holds");
}

#[test]
fn modules_are_all_reached() {
    let all = sources(&["src"]);
    let mut found = Vec::new();
    for source in &all {
        let path = Path::new(&source.path);
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        let folder = path.parent().expect("a folder");
        let (name, folder) = match stem {
            "main" | "lib" => continue,
            "mod" => {
                let name = folder.file_name().and_then(|name| name.to_str()).expect("a name");
                (name, folder.parent().expect("a folder"))
            }
            _ => (stem, folder),
        };
        let declared = format!("mod {name};");
        let owners = all.iter().filter(|owner| {
            let owner = Path::new(&owner.path);
            let own_folder = owner.parent() == Some(folder);
            let is_head = owner.ends_with("mod.rs") || owner.ends_with("lib.rs");
            (own_folder && is_head) || owner.with_extension("") == folder
        });
        if !owners.into_iter().any(|owner| owner.code.contains(&declared)) {
            found.push(format!("{}: nobody declares it", source.path));
        }
    }
    fail_if_any("files that are not compiled", &found);
}

#[test]
fn shipped_code_is_mostly_free_of_the_machine() {
    // A program of its own, on neither side: a load generator that knows no socket and no clock.
    let is_aside = |source: &Source| source.path.starts_with("src/cli/bench/");
    let lines = |rooms: &[&str]| -> usize {
        let is_in = |source: &&Source| {
            !is_aside(source) && source.room().is_some_and(|room| rooms.contains(&room))
        };
        let all = sources(&["src"]);
        all.iter().filter(is_in).map(|source| source.shipped().lines().count()).sum()
    };
    let shell = lines(&["runtime", "cli"]);
    let pure = lines(RANKS[0]) + lines(RANKS[1]) + lines(RANKS[2]) + lines(RANKS[3]);
    assert!(pure >= 3 * shell, "{pure} lines of rooms, {shell} around them: the bar is 3 to 1");
}

// --- the rules judge themselves ---------------------------------------------------------------

#[test]
fn comments_and_literals_are_not_code() {
    let cases = [
        ("a // b {\nc", "a       \nc"),
        ("a /* { */ b", "a         b"),
        ("f(\"x{\\\"\") {", "f(      ) {"),
        ("r#\"a\"{\"# }", "         }"),
        ("'{' 'a", "    'a"),
        ("fn f<'a>(x: &'a u8)", "fn f<'a>(x: &'a u8)"),
        ("'\\'' {", "     {"),
    ];
    for (text, expect) in cases {
        assert_eq!(code_of(text), expect, "{text}");
    }
}

#[test]
fn functions_are_measured() {
    let code = "impl A {\n    fn a(x: [u8; 4]) -> B {\n        b\n    }\n    fn c();\n}\n\
                type F = fn(u8) -> u8;\nfn d() {}\n";
    let expect = vec![("a".to_owned(), 2, 3), ("d".to_owned(), 8, 1)];
    assert_eq!(functions(code), expect);
}

#[test]
fn words_are_whole() {
    assert_eq!(lines_with("craft::x\n raft::y", "raft::"), vec![2]);
    assert_eq!(lines_with("unsafe_code unsafe {", "unsafe"), vec![1]);
    assert_eq!(lines_with("a.unwrap_or(1) b.unwrap()", ".unwrap()"), vec![1]);
}
