//! Latencies as a histogram: nanoseconds with three digits, from 1 ns to days. A value above all
//! bounds makes the histogram grow, so nothing is clamped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use serde::de::Error as _;
use serde::{Deserialize, Serialize};

/// Significant decimal digits of a latency.
const DIGITS: u8 = 3;
/// What a histogram holds without growing: two days.
const HIGHEST_NS: u64 = 48 * 3_600 * 1_000_000_000;
/// Bytes in front of the counts in the V2 encoding.
const V2_HEADER_BYTES: usize = 40;

/// Latencies in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Latencies {
        let mut histogram = Histogram::new_with_bounds(1, HIGHEST_NS, DIGITS)
            .expect("constant bounds that the crate accepts");
        histogram.auto(true);
        Latencies(histogram)
    }
}

impl Latencies {
    /// Records one. Allocates only above two days.
    pub fn record(&mut self, ns: u64) {
        self.0.record(ns).expect("a histogram that grows takes every value");
    }

    /// Adds those of `other`.
    pub fn merge(&mut self, other: &Latencies) {
        if !other.is_empty() {
            self.0.add(&other.0).expect("a histogram that grows takes every value");
        }
    }

    /// Forgets all, and keeps the memory.
    pub fn clear(&mut self) {
        if !self.is_empty() {
            self.0.reset();
        }
    }

    /// How many were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Whether none was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The latency that the share `quantile` (0 to 1) of all does not exceed; 0 if there is none.
    #[must_use]
    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    /// The longest.
    #[must_use]
    pub fn max_ns(&self) -> u64 {
        self.0.max()
    }

    /// The shortest.
    #[must_use]
    pub fn min_ns(&self) -> u64 {
        self.0.min()
    }

    /// The mean.
    #[must_use]
    pub fn mean_ns(&self) -> f64 {
        self.0.mean()
    }

    /// Each latency that occurred with how many did not exceed it, in ascending order.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter_recorded().scan(0, |sum, at| {
            *sum += at.count_since_last_iteration();
            Some((at.value_iterated_to(), *sum))
        })
    }

    /// The histogram itself, for writers of its formats.
    #[must_use]
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }

    /// The same in few bytes.
    #[must_use]
    pub fn pack(&self) -> Packed {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&self.0, &mut bytes).expect("memory takes every byte");
        Packed(bytes)
    }
}

/// Latencies in HdrHistogram's V2 encoding, not compressed: a few bytes for each that occurred.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed(Vec<u8>);

impl Packed {
    /// Unpacks.
    ///
    /// # Errors
    /// A sentence, if these bytes are no histogram of the kind that is packed here.
    pub fn unpack(&self) -> Result<Latencies, String> {
        let bytes = &self.0;
        let number = |at: usize| -> Option<u32> {
            let field: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_be_bytes(field))
        };
        // The crate makes room for as many counts as the header says: it is held to its word.
        let payload = bytes.len().saturating_sub(V2_HEADER_BYTES);
        let says = number(4).and_then(|length| usize::try_from(length).ok());
        if says != Some(payload) || number(12) != Some(u32::from(DIGITS)) {
            return Err("a histogram is not in the V2 encoding with 3 digits".to_owned());
        }
        let read = Deserializer::new().deserialize(&mut bytes.as_slice());
        let mut histogram =
            read.map_err(|error| format!("a histogram cannot be decoded: {error}"))?;
        histogram.auto(true);
        Ok(Latencies(histogram))
    }
}

impl Serialize for Packed {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Packed, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
        let packed = Packed(bytes);
        packed.unpack().map_err(D::Error::custom)?;
        Ok(packed)
    }
}

/// How latencies look in JSON: figures for readers, the histogram for programs.
#[derive(Serialize, Deserialize)]
struct Document {
    #[serde(skip_deserializing)]
    count: u64,
    #[serde(skip_deserializing)]
    mean_ns: f64,
    #[serde(skip_deserializing)]
    min_ns: u64,
    #[serde(skip_deserializing)]
    p50_ns: u64,
    #[serde(skip_deserializing)]
    p90_ns: u64,
    #[serde(skip_deserializing)]
    p99_ns: u64,
    #[serde(skip_deserializing)]
    p99_9_ns: u64,
    #[serde(skip_deserializing)]
    p99_99_ns: u64,
    #[serde(skip_deserializing)]
    max_ns: u64,
    histogram: Packed,
}

impl Serialize for Latencies {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let document = Document {
            count: self.count(),
            mean_ns: self.mean_ns(),
            min_ns: self.min_ns(),
            p50_ns: self.quantile_ns(0.5),
            p90_ns: self.quantile_ns(0.9),
            p99_ns: self.quantile_ns(0.99),
            p99_9_ns: self.quantile_ns(0.999),
            p99_99_ns: self.quantile_ns(0.9999),
            max_ns: self.max_ns(),
            histogram: self.pack(),
        };
        document.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Latencies {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Latencies, D::Error> {
        let document = Document::deserialize(from)?;
        document.histogram.unpack().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_latency_is_clamped() {
        let mut latencies = Latencies::default();
        let days = 100 * 24 * 3_600 * 1_000_000_000;
        for ns in [0, 1, 999, 1_000_000, days] {
            latencies.record(ns);
        }
        assert_eq!((latencies.count(), latencies.min_ns()), (5, 0));
        let max = latencies.max_ns();
        assert!(max >= days && max < days + days / 1000, "{max} has three digits of {days}");
        assert_eq!(latencies.quantile_ns(0.6), 999);
        let mut other = Latencies::default();
        other.merge(&latencies);
        assert_eq!(other.max_ns(), max, "a merge grows too");
        other.clear();
        assert_eq!((other.count(), other.max_ns()), (0, 0));
    }

    #[test]
    fn cumulative_counts_end_at_all() {
        let mut latencies = Latencies::default();
        for ns in [10, 10, 20, 500] {
            latencies.record(ns);
        }
        let found: Vec<(u64, u64)> = latencies.cumulative().collect();
        assert_eq!(found, [(10, 2), (20, 3), (500, 4)]);
    }

    #[test]
    fn packed_is_the_same_and_hostile_bytes_are_refused() {
        let mut latencies = Latencies::default();
        for ns in (1..2_000_000).step_by(7_777) {
            latencies.record(ns);
        }
        let packed = latencies.pack();
        let again = packed.unpack().expect("own bytes");
        assert_eq!(again, latencies);
        let mut long = packed.0.clone();
        long[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        let mut digits = packed.0.clone();
        digits[15] = 5;
        let cases = [Vec::new(), vec![0; 39], packed.0[..60].to_vec(), long, digits];
        for bytes in cases {
            assert!(Packed(bytes.clone()).unpack().is_err(), "{bytes:?}");
        }
        for at in 0..packed.0.len() {
            let mut bytes = packed.0.clone();
            bytes[at] ^= 0x80;
            // Whatever it says: no panic, and no more memory than a histogram takes.
            let _ = Packed(bytes).unpack();
        }
    }

    #[test]
    fn json_carries_figures_and_the_histogram() {
        let mut latencies = Latencies::default();
        for ns in 1..=1000 {
            latencies.record(ns);
        }
        let text = serde_json::to_string(&latencies).expect("text");
        assert!(text.contains("\"count\":1000") && text.contains("\"p99_ns\":990"), "{text}");
        let again: Latencies = serde_json::from_str(&text).expect("own text");
        assert_eq!(again, latencies);
        assert!(serde_json::from_str::<Latencies>("{\"histogram\":\"AAAA\"}").is_err());
    }
}
