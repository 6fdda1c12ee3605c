//! A range of keys as the API names it.

use bytes::Bytes;

/// Where a range ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RangeEnd {
    /// The range is its start key alone.
    Single,
    /// Every key from the start on.
    Open,
    /// Up to, and not including, this key.
    Before(Bytes),
}

/// Keys from `start` to `end`, in byte order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRange {
    /// First key that may be in the range.
    pub start: Bytes,
    /// What bounds it above.
    pub end: RangeEnd,
}

impl KeyRange {
    /// The range of one key.
    #[must_use]
    pub fn single(key: Bytes) -> KeyRange {
        KeyRange { start: key, end: RangeEnd::Single }
    }

    /// Every key there is.
    #[must_use]
    pub fn all() -> KeyRange {
        KeyRange { start: Bytes::new(), end: RangeEnd::Open }
    }

    /// The range that `key` and `range_end` of a request name: an empty end is the single key,
    /// an end of one zero byte is every key from `key` on.
    #[must_use]
    pub fn from_request(key: Bytes, range_end: Bytes) -> KeyRange {
        let end = match &range_end[..] {
            [] => RangeEnd::Single,
            [0] => RangeEnd::Open,
            _ => RangeEnd::Before(range_end),
        };
        KeyRange { start: key, end }
    }

    /// Whether `key` lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == &self.start[..],
            RangeEnd::Open => key >= &self.start[..],
            RangeEnd::Before(end) => key >= &self.start[..] && key < &end[..],
        }
    }

    /// Whether `key` lies above every key of the range.
    #[must_use]
    pub fn ends_before(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key > &self.start[..],
            RangeEnd::Open => false,
            RangeEnd::Before(end) => key >= &end[..],
        }
    }

    /// Whether no key can lie in the range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, RangeEnd::Before(end) if end <= &self.start)
    }

    /// The key, if the range is a single one.
    #[must_use]
    pub fn as_single(&self) -> Option<&Bytes> {
        matches!(self.end, RangeEnd::Single).then_some(&self.start)
    }

    /// Whether the two ranges share a key.
    #[must_use]
    pub fn overlaps(&self, other: &KeyRange) -> bool {
        !self.is_empty()
            && !other.is_empty()
            && !self.ends_before(&other.start)
            && !other.ends_before(&self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &'static str, end: &'static str) -> KeyRange {
        KeyRange::from_request(Bytes::from(start), Bytes::from(end))
    }

    #[test]
    fn a_request_names_single_open_and_bounded_ranges() {
        assert_eq!(range("a", "").end, RangeEnd::Single);
        assert_eq!(range("a", "\0").end, RangeEnd::Open);
        assert_eq!(range("a", "b").end, RangeEnd::Before(Bytes::from("b")));
        assert!(range("b", "a").is_empty());
        assert!(range("a", "a").is_empty());
        assert!(!range("\0", "\0").is_empty());
    }

    #[test]
    fn overlap_is_symmetric_and_exact_at_the_edges() {
        let cases = [
            (range("a", ""), range("a", ""), true),
            (range("a", ""), range("b", ""), false),
            (range("a", "c"), range("b", ""), true),
            (range("a", "c"), range("c", ""), false),
            (range("a", "c"), range("c", "e"), false),
            (range("a", "c"), range("b", "e"), true),
            (range("c", "\0"), range("a", "b"), false),
            (range("c", "\0"), range("z", ""), true),
            (range("c", "a"), range("a", "z"), false),
        ];
        for (a, b, expected) in cases {
            assert_eq!(a.overlaps(&b), expected, "{a:?} {b:?}");
            assert_eq!(b.overlaps(&a), expected, "{b:?} {a:?}");
        }
    }
}
