//! Values to write: made once from a seed, so that an operation only copies and stamps one.
//!
//! An object of Kubernetes that is written again is the same object: it differs from what it was in
//! its stamp alone, and from others in all that real ones differ in. Random bytes are never alike.
//!
//! A stamp says when the write was due and which run it belongs to. Whoever sees the value later,
//! in a watch event for one, knows how long it took from then.

use xxhash_rust::xxh3::xxh3_128;

use crate::base::Tick;
use crate::base::prng::Prng;

/// Bytes of memory that the made values may take together.
const POOL_BYTES: usize = 16 << 20;
const POOL_VALUES_MAX: usize = 256;
const POOL_VALUES_MIN: usize = 4;
/// A stamp in an object of Kubernetes is written as the text of a UID.
const UID_BYTES: usize = 36;
/// A stamp in other values: run and time.
const PLAIN_STAMP_BYTES: usize = 16;

/// What values look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Bytes at random.
    Random,
    /// An object as Kubernetes stores it, of this kind.
    Object(&'static str),
}

/// Sizes from `min` to `max`, all alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The smallest.
    pub min: usize,
    /// The largest.
    pub max: usize,
}

impl Sizes {
    /// One size.
    #[must_use]
    pub fn fixed(bytes: usize) -> Sizes {
        Sizes { min: bytes, max: bytes }
    }

    fn pick(self, prng: &mut Prng) -> usize {
        self.min + prng.below((self.max - self.min + 1) as u64) as usize
    }
}

/// Values of one shape.
#[derive(Debug)]
pub struct Values {
    made: Vec<Made>,
    next: usize,
    shape: Shape,
    run: u64,
}

/// A value, and where an object's name and UID stand in it.
#[derive(Debug, PartialEq, Eq)]
struct Made {
    bytes: Vec<u8>,
    name_at: usize,
    uid_at: usize,
}

impl Values {
    /// Makes values of these sizes. `run` tells the stamps of this run from others.
    #[must_use]
    pub fn new(shape: Shape, sizes: Sizes, seed: u64, run: u64) -> Values {
        let mut prng = Prng::new(seed ^ 0x7661_6c75_6573);
        let count = (POOL_BYTES / sizes.max.max(1)).clamp(POOL_VALUES_MIN, POOL_VALUES_MAX);
        let made = (0..count).map(|_| make(shape, sizes.pick(&mut prng), &mut prng)).collect();
        Values { made, next: 0, shape, run }
    }

    /// A value of a key, for a write that is due at `intended`.
    pub fn of(&mut self, key: &[u8], intended: Tick) -> &[u8] {
        match self.shape {
            Shape::Object(_) => {
                let identity = xxh3_128(key);
                let pick = identity % self.made.len() as u128;
                let Made { bytes, name_at, uid_at } = &mut self.made[pick as usize];
                let digits = format!("{:06}", identity % 1_000_000);
                bytes[*name_at..*name_at + digits.len()].copy_from_slice(digits.as_bytes());
                let own = uid((identity >> 64) as u64, identity as u64);
                bytes[*uid_at..*uid_at + UID_BYTES].copy_from_slice(&own);
                if let Some(stamp) = bytes.last_chunk_mut() {
                    *stamp = uid(intended.0, self.run);
                }
                bytes
            }
            Shape::Random => {
                self.next = if self.next + 1 < self.made.len() { self.next + 1 } else { 0 };
                let bytes = &mut self.made[self.next].bytes;
                if let Some(stamp) = bytes.last_chunk_mut::<PLAIN_STAMP_BYTES>() {
                    stamp[..8].copy_from_slice(&self.run.to_le_bytes());
                    stamp[8..].copy_from_slice(&intended.0.to_le_bytes());
                }
                bytes
            }
        }
    }
}

/// When a value's write was due, if it is one of this run.
#[must_use]
pub fn stamp(value: &[u8], run: u64) -> Option<Tick> {
    if value.starts_with(MAGIC) {
        let text = value.last_chunk::<UID_BYTES>()?;
        let (due, found) = read_uid(text)?;
        return (found == run).then_some(Tick(due));
    }
    let bytes = value.last_chunk::<PLAIN_STAMP_BYTES>()?;
    let (found, due) = (bytes.first_chunk()?, bytes.last_chunk()?);
    (u64::from_le_bytes(*found) == run).then(|| Tick(u64::from_le_bytes(*due)))
}

/// Two numbers as the text of a UID.
fn uid(first: u64, second: u64) -> [u8; UID_BYTES] {
    let digits = u128::from(first) << 64 | u128::from(second);
    let mut text = [b'-'; UID_BYTES];
    let mut shift = 128;
    for (at, byte) in text.iter_mut().enumerate() {
        if ![8, 13, 18, 23].contains(&at) {
            shift -= 4;
            *byte = b"0123456789abcdef"[(digits >> shift & 15) as usize];
        }
    }
    text
}

fn read_uid(text: &[u8; UID_BYTES]) -> Option<(u64, u64)> {
    let mut digits = 0_u128;
    for byte in text.iter().filter(|byte| **byte != b'-') {
        digits = digits << 4 | u128::from(char::from(*byte).to_digit(16)?);
    }
    Some(((digits >> 64) as u64, digits as u64))
}

// --- objects ----------------------------------------------------------------------------------

const MAGIC: &[u8] = b"k8s\0";

fn make(shape: Shape, bytes: usize, prng: &mut Prng) -> Made {
    match shape {
        Shape::Random => {
            let bytes = (0..bytes).map(|_| prng.next_u64() as u8).collect();
            Made { bytes, name_at: 0, uid_at: 0 }
        }
        Shape::Object(kind) => object(kind, bytes, prng),
    }
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

/// An object in protobuf behind Kubernetes' magic, with as much of managed fields and of
/// specification as its size asks for. What differs between real objects is drawn at random.
fn object(kind: &str, bytes: usize, prng: &mut Prng) -> Made {
    let version = if kind == "Lease" { "coordination.k8s.io/v1" } else { "v1" };
    let mut type_meta = Vec::new();
    field(&mut type_meta, 1, version.as_bytes());
    field(&mut type_meta, 2, kind.as_bytes());
    let mut metadata = Vec::new();
    field(&mut metadata, 1, b"node-000000");
    let name_in_metadata = metadata.len() - 6;
    field(&mut metadata, 3, b"kube-node-lease");
    field(&mut metadata, 5, &[b'-'; UID_BYTES]);
    let uid_in_metadata = metadata.len() - UID_BYTES;
    let mut managed = Vec::new();
    field(&mut managed, 1, b"kubelet");
    field(&mut managed, 2, b"Update");
    field(&mut managed, 3, version.as_bytes());
    field(&mut managed, 6, b"FieldsV1");
    let wrapping = MAGIC.len() + type_meta.len() + metadata.len() + managed.len() + UID_BYTES + 24;
    let fields = filler(bytes.saturating_sub(wrapping), prng);
    field(&mut managed, 7, &fields);
    field(&mut metadata, 17, &managed);
    let mut raw = Vec::new();
    field(&mut raw, 1, &metadata);
    let mut out = MAGIC.to_vec();
    field(&mut out, 1, &type_meta);
    field(&mut out, 2, &raw);
    let metadata_at = out.len() - metadata.len();
    // The stamp's place: the last field, so that it is found from the end.
    field(&mut out, 4, &[b'-'; UID_BYTES]);
    let (name_at, uid_at) = (metadata_at + name_in_metadata, metadata_at + uid_in_metadata);
    Made { bytes: out, name_at, uid_at }
}

/// Text as in `managedFields`, container specifications and conditions: field names that come
/// again and again, and between them names, hashes and times that do not.
fn filler(bytes: usize, prng: &mut Prng) -> Vec<u8> {
    const FIELDS: [&str; 24] = [
        "{\"f:metadata\":{\"f:labels\":{\".\":{},\"f:app\":{},",
        "\"f:ownerReferences\":{\".\":{},\"k:{\\\"uid\\\":\\\"",
        "\"f:spec\":{\"f:holderIdentity\":{},\"f:leaseDurationSeconds\":{},\"f:renewTime\":{}}",
        "\"f:status\":{\"f:conditions\":{\"k:{\\\"type\\\":\\\"Ready\\\"}\":{\".\":{},",
        "\"f:lastProbeTime\":{},\"f:lastTransitionTime\":{},\"f:status\":{},\"f:type\":{}},",
        "\"f:containers\":{\"k:{\\\"name\\\":\\\"",
        "\"f:resources\":{\".\":{},\"f:limits\":{\".\":{},\"f:cpu\":{},\"f:memory\":{}},",
        "\"f:terminationMessagePath\":{},\"f:terminationMessagePolicy\":{},",
        "\"f:env\":{\".\":{},\"k:{\\\"name\\\":\\\"POD_NAMESPACE\\\"}\":{\".\":{},\"f:name\":{},",
        "\"f:volumeMounts\":{\".\":{},\"k:{\\\"mountPath\\\":\\\"/var/run/secrets/",
        "kubernetes.io/serviceaccount\\\"}\":{\".\":{},\"f:mountPath\":{},\"f:readOnly\":{}}",
        "\"f:securityContext\":{\".\":{},\"f:allowPrivilegeEscalation\":{},\"f:runAsUser\":{}},",
        "\"f:livenessProbe\":{\".\":{},\"f:failureThreshold\":{},\"f:httpGet\":{\".\":{},",
        "\"f:periodSeconds\":{},\"f:successThreshold\":{},\"f:timeoutSeconds\":{}},",
        "\"f:imagePullPolicy\":{},\"f:image\":{},\"f:name\":{},\"f:ports\":{\".\":{},",
        "\"f:dnsPolicy\":{},\"f:enableServiceLinks\":{},\"f:restartPolicy\":{},",
        "\"f:schedulerName\":{},\"f:serviceAccount\":{},\"f:serviceAccountName\":{},",
        "\"f:tolerations\":{},\"f:nodeSelector\":{},\"f:affinity\":{\".\":{},",
        "\"f:hostIP\":{},\"f:podIP\":{},\"f:podIPs\":{\".\":{},\"k:{\\\"ip\\\":\\\"10.",
        "\"f:phase\":{},\"f:startTime\":{},\"f:qosClass\":{},\"f:containerStatuses\":{}",
        "registry.example.com/platform/service@sha256:",
        "\"f:annotations\":{\".\":{},\"f:kubernetes.io/config.seen\":{},",
        "node.kubernetes.io/not-ready NoExecute Exists 300 node.kubernetes.io/unreachable ",
        "PodScheduled True Initialized True ContainersReady True Ready True ",
    ];
    let mut out = Vec::with_capacity(bytes + 128);
    while out.len() < bytes {
        out.extend_from_slice(FIELDS[prng.below(FIELDS.len() as u64) as usize].as_bytes());
        match prng.below(10) {
            0 => out.extend_from_slice(&uid(prng.next_u64(), prng.next_u64())),
            1 | 2 => out.extend_from_slice(format!("{:010x}", prng.next_u64() >> 24).as_bytes()),
            3 => {
                let second = prng.below(86_400);
                let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
                let time = format!("2026-01-02T{hour:02}:{minute:02}:{second:02}Z");
                out.extend_from_slice(time.as_bytes());
            }
            _ => {}
        }
    }
    out.truncate(bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_read_back_and_those_of_other_runs_are_not() {
        for shape in [Shape::Random, Shape::Object("Pod")] {
            let mut values = Values::new(shape, Sizes::fixed(400), 1, 77);
            for due in [0, 1, 123_456_789_012] {
                let value = values.of(b"key", Tick(due)).to_vec();
                assert_eq!(stamp(&value, 77), Some(Tick(due)));
                assert_eq!(stamp(&value, 78), None);
            }
        }
        let mut short = Values::new(Shape::Random, Sizes::fixed(8), 1, 1);
        assert_eq!(short.of(b"key", Tick(1)).len(), 8);
        assert_eq!(stamp(b"short", 1), None);
        assert_eq!(stamp(&[b'z'; 100], 1), None);
    }

    #[test]
    fn objects_have_the_sizes_asked_for() {
        for kind in ["Lease", "Pod", "Event"] {
            for bytes in [450, 650, 3_000, 12_000, 256 << 10] {
                let mut values = Values::new(Shape::Object(kind), Sizes::fixed(bytes), 1, 1);
                let value = values.of(b"key", Tick(1));
                assert!(value.starts_with(MAGIC));
                assert!(value.len().abs_diff(bytes) <= 16, "{kind} {bytes}: {}", value.len());
            }
        }
        let mut values = Values::new(Shape::Random, Sizes { min: 10, max: 20 }, 1, 1);
        let sizes: Vec<usize> = (0..200).map(|_| values.of(b"key", Tick(1)).len()).collect();
        assert_eq!((sizes.iter().min(), sizes.iter().max()), (Some(&10), Some(&20)));
    }

    #[test]
    fn an_object_stays_itself_and_is_no_other() {
        let mut values = Values::new(Shape::Object("Pod"), Sizes::fixed(3_000), 1, 1);
        let mut of = |key: &[u8], due| values.of(key, Tick(due)).to_vec();
        let (first, again) = (of(b"one", 1), of(b"one", 2));
        let differing = first.iter().zip(&again).filter(|(one, other)| one != other).count();
        assert!((1..=UID_BYTES).contains(&differing), "{differing} B");
        let others = (0..2_000_u32).map(|number| of(&number.to_le_bytes(), 1));
        let others: std::collections::BTreeSet<Vec<u8>> = others.collect();
        assert_eq!(others.len(), 2_000);
    }

    #[test]
    fn the_seed_decides() {
        let value = |seed| Values::new(Shape::Object("Pod"), Sizes::fixed(600), seed, 1).made;
        assert!(value(1) == value(1) && value(1) != value(2));
    }
}
