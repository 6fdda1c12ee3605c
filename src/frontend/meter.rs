//! Counts frames of one connection below the HTTP/2 library, which shows neither PINGs nor
//! SETTINGS: looks at frame headers only, and judges floods as grpc-go does.

use super::sniff::PREFACE;
use crate::base::Tick;
use crate::base::limits::{PING_STRIKES_MAX, SETTINGS_PER_WINDOW_MAX};

const FRAME_HEADER_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
/// SETTINGS are counted per this long.
const SETTINGS_WINDOW_MS: u64 = 10_000;
/// Without streams a client may ping this often.
const IDLE_PING_INTERVAL_MS: u64 = 2 * 60 * 60 * 1_000;

/// What a client does too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// Pings beyond what the keepalive policy allows.
    Pings,
    /// Changes of settings.
    Settings,
}

impl Flood {
    /// What GOAWAY says about it; Go clients look for the first of these.
    #[must_use]
    pub fn debug_data(self) -> &'static [u8] {
        match self {
            Flood::Pings => b"too_many_pings",
            Flood::Settings => b"too_many_settings",
        }
    }
}

/// Finds frame headers in a byte stream, wherever it is cut.
#[derive(Debug)]
struct Headers {
    head: [u8; FRAME_HEADER_BYTES],
    head_len: usize,
    /// Bytes to pass over before the next header.
    skip: usize,
}

impl Headers {
    fn new(skip: usize) -> Headers {
        Headers { head: [0; FRAME_HEADER_BYTES], head_len: 0, skip }
    }

    /// Type and flags of the next frame whose header ends within `bytes`.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<(u8, u8)> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        *bytes = &bytes[skipped..];
        let take = (FRAME_HEADER_BYTES - self.head_len).min(bytes.len());
        let end = self.head_len + take;
        self.head[self.head_len..end].copy_from_slice(&bytes[..take]);
        *bytes = &bytes[take..];
        self.head_len = end;
        if end < FRAME_HEADER_BYTES {
            return None;
        }
        let [a, b, c, kind, flags, ..] = self.head;
        self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.head_len = 0;
        Some((kind, flags))
    }

    fn is_between_frames(&self) -> bool {
        self.skip == 0 && self.head_len == 0
    }
}

/// The frames of one connection, both ways.
#[derive(Debug)]
pub struct Meter {
    received: Headers,
    sent: Headers,
    ping_interval_ms: u64,
    last_ping: Option<Tick>,
    strikes: u32,
    /// The server has sent HEADERS or DATA since the last ping.
    answered: bool,
    settings: u32,
    settings_since: Tick,
    has_settings: bool,
    flood: Option<Flood>,
}

impl Meter {
    /// A meter for a connection on which the preface is still to come.
    #[must_use]
    pub fn new(ping_interval_ms: u64) -> Meter {
        Meter {
            received: Headers::new(PREFACE.len()),
            sent: Headers::new(0),
            ping_interval_ms,
            last_ping: None,
            strikes: 0,
            answered: false,
            settings: 0,
            settings_since: Tick(0),
            has_settings: false,
            flood: None,
        }
    }

    /// The client sent `bytes`.
    pub fn received(&mut self, mut bytes: &[u8], now: Tick, has_streams: bool) {
        while let Some((kind, flags)) = self.received.next(&mut bytes) {
            match kind {
                PING if flags & ACK == 0 => self.ping(now, has_streams),
                SETTINGS if flags & ACK == 0 => self.setting(now),
                _ => {}
            }
        }
    }

    /// The server sends `bytes`.
    pub fn sent(&mut self, mut bytes: &[u8]) {
        while let Some((kind, _)) = self.sent.next(&mut bytes) {
            self.answered |= kind == DATA || kind == HEADERS;
        }
    }

    /// What the client did too much of.
    #[must_use]
    pub fn flood(&self) -> Option<Flood> {
        self.flood
    }

    /// Whether the client's first SETTINGS have come.
    #[must_use]
    pub fn has_settings(&self) -> bool {
        self.has_settings
    }

    /// Whether a frame of our own could be put in here.
    #[must_use]
    pub fn is_between_sent_frames(&self) -> bool {
        self.sent.is_between_frames()
    }

    fn ping(&mut self, now: Tick, has_streams: bool) {
        let last = self.last_ping.replace(now);
        if std::mem::take(&mut self.answered) {
            self.strikes = 0;
            return;
        }
        let interval_ms = if has_streams { self.ping_interval_ms } else { IDLE_PING_INTERVAL_MS };
        if last.is_some_and(|last| last.plus_ms(interval_ms) > now) {
            self.strikes += 1;
        }
        if self.strikes > PING_STRIKES_MAX {
            self.flood = Some(Flood::Pings);
        }
    }

    fn setting(&mut self, now: Tick) {
        self.has_settings = true;
        if now > self.settings_since.plus_ms(SETTINGS_WINDOW_MS) {
            self.settings_since = now;
            self.settings = 0;
        }
        self.settings += 1;
        if self.settings > SETTINGS_PER_WINDOW_MAX {
            self.flood = Some(Flood::Settings);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN_MS: u64 = 5_000;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let len = u32::try_from(payload).unwrap().to_be_bytes();
        let mut out = vec![len[1], len[2], len[3], kind, flags, 0, 0, 0, 1];
        out.resize(FRAME_HEADER_BYTES + payload, 0xff);
        out
    }

    fn opened() -> Meter {
        let mut meter = Meter::new(MIN_MS);
        meter.received(PREFACE, Tick(0), false);
        meter
    }

    /// Pings `gaps_ms` apart; the number of the one that was too many.
    fn pings(gaps_ms: &[u64], has_streams: bool, answered: bool) -> Option<usize> {
        let mut meter = opened();
        let mut now = Tick(0);
        for (index, gap_ms) in gaps_ms.iter().enumerate() {
            now = now.plus_ms(*gap_ms);
            meter.received(&frame(PING, 0, 8), now, has_streams);
            if meter.flood().is_some() {
                return Some(index);
            }
            if answered {
                meter.sent(&frame(HEADERS, 4, 10));
            }
        }
        None
    }

    #[test]
    fn pings_are_judged_as_grpc_go_does() {
        let cases = [
            // The first is free, two strikes are forgiven, the third is one too many.
            (&[0, 1_000, 1_000, 1_000][..], true, false, Some(3)),
            (&[0, 5_000, 5_000, 5_000, 5_000, 5_000], true, false, None),
            (&[0, 1_000, 6_000, 1_000, 6_000, 1_000], true, false, Some(5)),
            // Without streams only one in two hours is fine.
            (&[0, 60_000, 60_000, 60_000], false, false, Some(3)),
            (&[0, 7_200_000, 7_200_000, 7_200_000, 7_200_000], false, false, None),
            // What the server sent in between makes good for everything.
            (&[0, 1, 1, 1, 1, 1, 1, 1, 1, 1], true, true, None),
        ];
        for (gaps_ms, has_streams, answered, expected) in cases {
            assert_eq!(pings(gaps_ms, has_streams, answered), expected, "{gaps_ms:?}");
        }
    }

    #[test]
    fn acknowledged_pings_and_settings_do_not_count() {
        let mut meter = opened();
        for _ in 0..1_000 {
            meter.received(&frame(PING, ACK, 8), Tick(0), true);
            meter.received(&frame(SETTINGS, ACK, 0), Tick(0), true);
        }
        assert_eq!(meter.flood(), None);
        assert!(!meter.has_settings());
    }

    #[test]
    fn settings_are_counted_per_window() {
        let mut meter = opened();
        let settings = frame(SETTINGS, 0, 6);
        for second in 0..100 {
            for _ in 0..10 {
                meter.received(&settings, Tick(0).plus_ms(second * 1_100), true);
            }
        }
        assert_eq!(meter.flood(), None, "ten a second are bearable");
        for _ in 0..=SETTINGS_PER_WINDOW_MAX {
            meter.received(&settings, Tick(0).plus_ms(1_000_000), true);
        }
        assert_eq!(meter.flood(), Some(Flood::Settings));
    }

    #[test]
    fn headers_are_found_wherever_the_stream_is_cut() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(SETTINGS, 0, 18));
        for _ in 0..3 {
            bytes.extend(frame(DATA, 0, 300));
            bytes.extend(frame(PING, 0, 8));
        }
        for size in 1..bytes.len() {
            let mut meter = Meter::new(MIN_MS);
            for chunk in bytes.chunks(size) {
                meter.received(chunk, Tick(1), true);
            }
            assert!(meter.has_settings(), "{size}");
            assert_eq!(meter.strikes, 2, "{size}");
            assert!(meter.received.is_between_frames(), "{size}");
        }
    }
}
