//! Keys as Kubernetes names its objects.

use std::io::Write as _;

use super::objects::KeyOf;

/// Namespaces that pods are spread over.
const NAMESPACES: u64 = 100;

/// `/registry/leases/kube-node-lease/node-000042`
pub(super) const LEASES: &str = "/registry/leases/kube-node-lease/";
/// `/registry/minions/node-000042`
pub(super) const NODES: &str = "/registry/minions/";
/// `/registry/pods/namespace-042/workload-000042-00002a`
pub(super) const PODS: &str = "/registry/pods/";
/// `/registry/events/namespace-042/workload-000042.17b2c4e1000002a3`
pub(super) const EVENTS: &str = "/registry/events/";

fn writes(write: impl Fn(u64, &mut Vec<u8>) -> std::io::Result<()> + Send + 'static) -> KeyOf {
    Box::new(move |number, out| {
        // Memory takes every byte.
        let _ = write(number, out);
    })
}

pub(super) fn lease() -> KeyOf {
    writes(|number, out| write!(out, "{LEASES}node-{number:06}"))
}

pub(super) fn node() -> KeyOf {
    writes(|number, out| write!(out, "{NODES}node-{number:06}"))
}

pub(super) fn pod() -> KeyOf {
    writes(|number, out| {
        write!(out, "{PODS}namespace-{:03}/workload-{number:06}-{number:06x}", number % NAMESPACES)
    })
}

/// The event of this number about the pod of that number.
pub(super) fn write_event(pod: u64, event: u64, out: &mut Vec<u8>) {
    let hash = pod.wrapping_mul(16).wrapping_add(event) | 0x17b2_0000_0000_0000;
    // Memory takes every byte.
    let _ = write!(out, "{EVENTS}namespace-{:03}/workload-{pod:06}.{hash:016x}", pod % NAMESPACES);
}

/// Keys of no kind in particular below a prefix.
pub(super) fn plain(prefix: &str) -> KeyOf {
    let prefix = prefix.to_owned();
    writes(move |number, out| write!(out, "{prefix}object-{number:08}"))
}
