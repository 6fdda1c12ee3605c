//! Header blocks (RFC 7541): ours with a small table in the server's decoder, theirs without one.
//!
//! We announce a table of no bytes, so that what a block says follows from the block alone.
//! Whatever a server may still send is read: names of the static table, literals of every kind,
//! Huffman code, changes of the table's size.

use super::huffman;
use super::status::Status;

/// What a server may keep for us. RFC 7541 lets everyone start with it.
const TABLE_BYTES: u32 = 4_096;
/// An entry of the table costs this beside its name and value.
const ENTRY_OVERHEAD_BYTES: usize = 32;
const STATIC_ENTRIES: usize = 61;

// Places of the static table that a request names.
const STATIC_AUTHORITY: usize = 1;
const STATIC_METHOD_POST: u8 = 0x80 | 3;
const STATIC_PATH: usize = 4;
const STATIC_SCHEME_HTTP: u8 = 0x80 | 6;
const STATIC_CONTENT_TYPE: usize = 31;
const STATIC_USER_AGENT: usize = 58;

const LITERAL_INDEXED: (u8, u8) = (0x40, 6);
const LITERAL_PLAIN: (u8, u8) = (0x00, 4);
const TABLE_SIZE: (u8, u8) = (0x20, 5);
const INDEXED: (u8, u8) = (0x80, 7);

// --- what we send -----------------------------------------------------------------------------

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Authority,
    ContentType,
    Te,
    UserAgent,
    Path(&'static str),
}

/// Writes the heads of requests. What repeats is put into the server's table once per connection.
#[derive(Debug)]
pub(super) struct HeadWriter {
    authority: String,
    user_agent: String,
    /// In the order in which they were added; the last one has the lowest index.
    entries: Vec<Entry>,
    entry_bytes: usize,
    table_bytes_max: u32,
    /// The server changed the size: the next block says that we heard.
    is_resized: bool,
}

impl HeadWriter {
    pub(super) fn new(authority: &str, user_agent: &str) -> HeadWriter {
        HeadWriter {
            authority: authority.to_owned(),
            user_agent: user_agent.to_owned(),
            entries: Vec::new(),
            entry_bytes: 0,
            table_bytes_max: TABLE_BYTES,
            is_resized: false,
        }
    }

    /// The server keeps at most so much. We never use more than the default.
    pub(super) fn limit_table(&mut self, bytes_max: u32) {
        let bytes_max = bytes_max.min(TABLE_BYTES);
        if bytes_max != self.table_bytes_max {
            self.table_bytes_max = bytes_max;
            self.is_resized = true;
            self.entries.clear();
            self.entry_bytes = 0;
        }
    }

    /// The block of one request.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, path: &'static str, more: &[(&str, &str)]) {
        if std::mem::take(&mut self.is_resized) {
            // To nothing first: whatever was in it is forgotten on both sides.
            integer(out, TABLE_SIZE, 0);
            integer(out, TABLE_SIZE, self.table_bytes_max as usize);
        }
        out.extend_from_slice(&[STATIC_METHOD_POST, STATIC_SCHEME_HTTP]);
        self.entry(out, &Entry::Path(path));
        self.entry(out, &Entry::Authority);
        self.entry(out, &Entry::ContentType);
        self.entry(out, &Entry::Te);
        self.entry(out, &Entry::UserAgent);
        for (name, value) in more {
            integer(out, LITERAL_PLAIN, 0);
            string(out, name);
            string(out, value);
        }
    }

    fn entry(&mut self, out: &mut Vec<u8>, entry: &Entry) {
        if let Some(at) = self.entries.iter().position(|there| there == entry) {
            integer(out, INDEXED, STATIC_ENTRIES + self.entries.len() - at);
            return;
        }
        let (index, name, value) = match entry {
            Entry::Authority => (STATIC_AUTHORITY, ":authority", self.authority.as_str()),
            Entry::ContentType => (STATIC_CONTENT_TYPE, "content-type", "application/grpc"),
            Entry::Te => (0, "te", "trailers"),
            Entry::UserAgent => (STATIC_USER_AGENT, "user-agent", self.user_agent.as_str()),
            Entry::Path(path) => (STATIC_PATH, ":path", *path),
        };
        let bytes = name.len() + value.len() + ENTRY_OVERHEAD_BYTES;
        // Nothing is ever evicted: what does not fit any more is sent in full each time.
        let fits = self.entry_bytes + bytes <= self.table_bytes_max as usize;
        integer(out, if fits { LITERAL_INDEXED } else { LITERAL_PLAIN }, index);
        if index == 0 {
            string(out, name);
        }
        string(out, value);
        if fits {
            self.entries.push(entry.clone());
            self.entry_bytes += bytes;
        }
    }
}

fn integer(out: &mut Vec<u8>, (pattern, bits): (u8, u8), value: usize) {
    let max = (1_usize << bits) - 1;
    if value < max {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | max as u8);
    let mut rest = value - max;
    while rest >= 128 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn string(out: &mut Vec<u8>, text: &str) {
    integer(out, (0, 7), text.len());
    out.extend_from_slice(text.as_bytes());
}

// --- what we receive --------------------------------------------------------------------------

/// What matters of the head or the trailers of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AnswerHead {
    /// `:status`; 0 in trailers.
    pub(super) http_status: u16,
    /// `grpc-status`, with `grpc-message`.
    pub(super) status: Option<Status>,
}

impl AnswerHead {
    /// Reads a whole block. None if it breaks the rules or would exceed `bytes_max`.
    pub(super) fn read(block: &[u8], bytes_max: usize) -> Option<AnswerHead> {
        let mut head = AnswerHead::default();
        let (mut code, mut message) = (None, String::new());
        let valid = fields(block, bytes_max, |name, value| match name {
            b":status" => head.http_status = number(value).unwrap_or(0),
            b"grpc-status" => code = Some(number(value).unwrap_or(Status::UNKNOWN)),
            b"grpc-message" => message = unescaped(value),
            _ => {}
        });
        head.status = code.map(|code| Status { code, message });
        valid.then_some(head)
    }
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The text of a `grpc-message`, whose odd bytes are written `%xx`.
fn unescaped(value: &[u8]) -> String {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((byte, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let escaped = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, escaped) {
            (b'%', Some(escaped)) => {
                out.push(escaped);
                rest = &tail[2..];
            }
            _ => {
                out.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Calls `take` with every field of a block. False if the block breaks the rules.
fn fields(block: &[u8], bytes_max: usize, mut take: impl FnMut(&[u8], &[u8])) -> bool {
    let mut reader = Reader { rest: block };
    let mut total = 0;
    let mut is_first = true;
    while let Some(first) = reader.rest.first().copied() {
        let read = match first {
            0x80.. => reader.integer(INDEXED).and_then(static_field),
            0x40.. => reader.literal(LITERAL_INDEXED, bytes_max),
            0x20.. => {
                // Only at the head, and never above what we announced, which is nothing.
                if !is_first || reader.integer(TABLE_SIZE) != Some(0) {
                    return false;
                }
                continue;
            }
            _ => reader.literal(LITERAL_PLAIN, bytes_max),
        };
        let Some((name, value)) = read else { return false };
        total += name.as_ref().len() + value.as_ref().len() + ENTRY_OVERHEAD_BYTES;
        if total > bytes_max {
            return false;
        }
        take(name.as_ref(), value.as_ref());
        is_first = false;
    }
    true
}

type Text<'b> = std::borrow::Cow<'b, [u8]>;

struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    fn integer(&mut self, (_, bits): (u8, u8)) -> Option<usize> {
        let max = (1_usize << bits) - 1;
        let mut value = usize::from(self.byte()?) & max;
        if value < max {
            return Some(value);
        }
        // Four bytes of seven bits each are more than any block that we accept.
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn string(&mut self, bytes_max: usize) -> Option<Text<'b>> {
        let is_huffman = self.rest.first()? & 0x80 != 0;
        let length = self.integer((0, 7))?;
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        if !is_huffman {
            return Some(Text::Borrowed(text));
        }
        let mut plain = Vec::new();
        huffman::decode(text, &mut plain, bytes_max).then_some(Text::Owned(plain))
    }

    fn literal(&mut self, form: (u8, u8), bytes_max: usize) -> Option<(Text<'b>, Text<'b>)> {
        let name = match self.integer(form)? {
            0 => self.string(bytes_max)?,
            index => static_field(index)?.0,
        };
        Some((name, self.string(bytes_max)?))
    }
}

/// An entry of the static table; there is no other table.
fn static_field<'b>(index: usize) -> Option<(Text<'b>, Text<'b>)> {
    let (name, value) = STATIC.get(index.checked_sub(1)?)?;
    Some((Text::Borrowed(name.as_bytes()), Text::Borrowed(value.as_bytes())))
}

#[rustfmt::skip]
const STATIC: [(&str, &str); STATIC_ENTRIES] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"),
    (":path", "/index.html"), (":scheme", "http"), (":scheme", "https"), (":status", "200"),
    (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""),
    ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""),
    ("authorization", ""), ("cache-control", ""), ("content-disposition", ""),
    ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""),
    ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
    ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""),
    ("via", ""), ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(block: &[u8]) -> Option<Vec<(String, String)>> {
        let mut out = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        fields(block, 1_000, |name, value| out.push((text(name), text(value)))).then_some(out)
    }

    #[test]
    fn blocks_of_the_standard_are_read() {
        // RFC 7541, C.2.1 to C.2.4, then a Huffman literal and a change of size to nothing.
        let custom = b"\x40\x0acustom-key\x0dcustom-header";
        let pair = |name: &str, value: &str| Some(vec![(name.to_owned(), value.to_owned())]);
        assert_eq!(read(custom), pair("custom-key", "custom-header"));
        assert_eq!(read(b"\x04\x0c/sample/path"), pair(":path", "/sample/path"));
        assert_eq!(read(b"\x10\x08password\x06secret"), pair("password", "secret"));
        assert_eq!(read(b"\x82"), pair(":method", "GET"));
        assert_eq!(read(b"\x20\x48\x82\x64\x02"), pair(":status", "302"));
        assert_eq!(read(b""), Some(vec![]));
    }

    #[test]
    fn what_breaks_the_rules_is_refused() {
        let cases: [(&[u8], &str); 9] = [
            (b"\x80", "index 0"),
            (b"\xbe", "an entry of a table that is empty"),
            (b"\x3f\xe1\x1f", "a table of 4096 bytes"),
            (b"\x88\x20", "a size behind a field"),
            (b"\x0f\xff\xff\xff\xff\xff", "a number without end"),
            (b"\x40\x0acustom", "a cut string"),
            (b"\x7f\x00\x01a", "a name beyond the static table"),
            (b"\x00\x01a", "no value"),
            (b"\x48\x81\x00", "bad padding"),
        ];
        for (block, why) in cases {
            assert_eq!(read(block), None, "{why}");
        }
        let many = [0x88; 40];
        assert_eq!(read(&many), None, "more than a thousand bytes of fields");
    }

    #[test]
    fn statuses_are_found_and_unescaped() {
        let mut block = vec![];
        integer(&mut block, LITERAL_PLAIN, 0);
        string(&mut block, "grpc-status");
        string(&mut block, "11");
        integer(&mut block, LITERAL_PLAIN, 0);
        string(&mut block, "grpc-message");
        string(&mut block, "100%25 gone%zz%e2%9c%93%");
        let head = AnswerHead::read(&block, 1_000).expect("well-formed");
        let status = Status::new(11, "100% gone%zz\u{2713}%");
        assert_eq!(head, AnswerHead { http_status: 0, status: Some(status) });
    }

    #[test]
    fn repeated_heads_shrink_to_indexes() {
        let mut writer = HeadWriter::new("127.0.0.1:2379", "test");
        let mut first = Vec::new();
        writer.write(&mut first, "/etcdserverpb.KV/Put", &[]);
        let mut second = Vec::new();
        writer.write(&mut second, "/etcdserverpb.KV/Put", &[]);
        assert!(first.len() > 60);
        assert_eq!(second, [0x83, 0x86, 0xc2, 0xc1, 0xc0, 0xbf, 0xbe]);
        let mut other = Vec::new();
        writer.write(&mut other, "/etcdserverpb.KV/Range", &[("hasleader", "true")]);
        assert_eq!(other[..3], [0x83, 0x86, 0x44]);
        assert!(other.ends_with(b"\x00\x09hasleader\x04true"));
    }

    #[test]
    fn a_smaller_table_is_acknowledged_and_kept_to() {
        let mut writer = HeadWriter::new("a", "test");
        writer.write(&mut Vec::new(), "/a", &[]);
        writer.limit_table(0);
        let mut block = Vec::new();
        writer.write(&mut block, "/a", &[]);
        assert_eq!(block[..2], [0x20, 0x20]);
        let mut again = Vec::new();
        writer.write(&mut again, "/a", &[]);
        assert_eq!(block[2..], again, "nothing is kept");
        writer.limit_table(100_000);
        let mut block = Vec::new();
        writer.write(&mut block, "/a", &[]);
        assert_eq!(block[..4], [0x20, 0x3f, 0xe1, 0x1f], "the default and no more");
    }

    #[test]
    fn integers_come_back() {
        for value in [0, 1, 30, 31, 127, 128, 1337, 1 << 20] {
            for form in [LITERAL_INDEXED, LITERAL_PLAIN, TABLE_SIZE, INDEXED] {
                let mut out = Vec::new();
                integer(&mut out, form, value);
                let mut reader = Reader { rest: &out };
                assert_eq!(reader.integer(form), Some(value));
                assert!(reader.rest.is_empty());
            }
        }
    }
}
