//! Every method of the etcd release whose contract is kept, whether this build has it or not:
//! what its path is, how its stream flows, and who serves it.

use bytes::Bytes;

use super::port::Settings;
use super::status::{Code, Status};
use super::{
    cluster, health, kv, lease, machine::Machine, maintenance, range_stream, recipes, watch,
};
use crate::wire::call::Request;

/// How messages flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// One in, one out.
    Unary,
    /// One in, many out.
    ServerStream,
    /// Many in, many out.
    BidiStream,
}

impl Flow {
    /// The name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Flow::Unary => "unary",
            Flow::ServerStream => "server_stream",
            Flow::BidiStream => "bidi_stream",
        }
    }
}

/// Who serves a method.
#[derive(Clone, Copy, Debug)]
pub enum Serve {
    /// One request to the node, one answer.
    Unary(fn(Bytes, &Settings) -> Result<Request, Status>),
    /// A machine per call.
    Machine(fn() -> Box<dyn Machine>),
    /// Nobody: this build does not have it.
    Absent,
}

/// One method.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Full name of the service.
    pub service: &'static str,
    /// Name within the service.
    pub name: &'static str,
    /// Path of the request.
    pub path: &'static str,
    /// How messages flow.
    pub flow: Flow,
    /// Who serves it.
    pub serve: Serve,
}

macro_rules! method {
    ($service:literal, $name:literal, $flow:ident, $serve:expr) => {
        Method {
            service: $service,
            name: $name,
            path: concat!("/", $service, "/", $name),
            flow: Flow::$flow,
            serve: $serve,
        }
    };
}

/// How many methods there are.
pub const METHODS_COUNT: usize = METHODS.len();

/// Number of `Range`.
pub const RANGE: usize = 0;

/// Number of `Defragment`, whose answer is the only one without a header.
pub const DEFRAGMENT: usize = 16;

/// All methods. What is called most stands first.
pub static METHODS: [Method; 52] = [
    method!("etcdserverpb.KV", "Range", Unary, Serve::Unary(kv::range)),
    method!("etcdserverpb.KV", "Txn", Unary, Serve::Unary(kv::txn)),
    method!("etcdserverpb.KV", "Put", Unary, Serve::Unary(kv::put)),
    method!(
        "etcdserverpb.KV",
        "RangeStream",
        ServerStream,
        Serve::Machine(|| { Box::new(range_stream::RangeStream::new()) })
    ),
    method!("etcdserverpb.KV", "DeleteRange", Unary, Serve::Unary(kv::delete_range)),
    method!("etcdserverpb.KV", "Compact", Unary, Serve::Unary(kv::compact)),
    method!(
        "etcdserverpb.Watch",
        "Watch",
        BidiStream,
        Serve::Machine(|| { Box::new(watch::Watch) })
    ),
    method!("etcdserverpb.Lease", "LeaseGrant", Unary, Serve::Unary(lease::grant)),
    method!("etcdserverpb.Lease", "LeaseRevoke", Unary, Serve::Unary(lease::revoke)),
    method!(
        "etcdserverpb.Lease",
        "LeaseKeepAlive",
        BidiStream,
        Serve::Machine(|| { Box::new(lease::KeepAlive::default()) })
    ),
    method!("etcdserverpb.Lease", "LeaseTimeToLive", Unary, Serve::Unary(lease::time_to_live)),
    method!("etcdserverpb.Lease", "LeaseLeases", Unary, Serve::Unary(lease::leases)),
    method!("etcdserverpb.Cluster", "MemberList", Unary, Serve::Unary(cluster::member_list)),
    method!("etcdserverpb.Maintenance", "Alarm", Unary, Serve::Unary(maintenance::alarm)),
    method!("etcdserverpb.Maintenance", "Status", Unary, Serve::Unary(maintenance::status)),
    method!("etcdserverpb.Maintenance", "Hash", Unary, Serve::Unary(maintenance::hash)),
    method!("etcdserverpb.Maintenance", "Defragment", Unary, Serve::Unary(maintenance::defragment)),
    method!("etcdserverpb.Maintenance", "HashKV", Unary, Serve::Unary(maintenance::hash_kv)),
    method!("etcdserverpb.Maintenance", "Snapshot", ServerStream, Serve::Absent),
    method!("etcdserverpb.Maintenance", "MoveLeader", Unary, Serve::Absent),
    method!("etcdserverpb.Maintenance", "Downgrade", Unary, Serve::Absent),
    method!("etcdserverpb.Cluster", "MemberAdd", Unary, Serve::Absent),
    method!("etcdserverpb.Cluster", "MemberRemove", Unary, Serve::Absent),
    method!("etcdserverpb.Cluster", "MemberUpdate", Unary, Serve::Absent),
    method!("etcdserverpb.Cluster", "MemberPromote", Unary, Serve::Absent),
    method!("etcdserverpb.Auth", "AuthEnable", Unary, Serve::Absent),
    method!("etcdserverpb.Auth", "AuthDisable", Unary, Serve::Absent),
    method!("etcdserverpb.Auth", "AuthStatus", Unary, Serve::Absent),
    method!("etcdserverpb.Auth", "Authenticate", Unary, Serve::Absent),
    method!("etcdserverpb.Auth", "UserAdd", Unary, Serve::Absent),
    method!("etcdserverpb.Auth", "UserGet", Unary, Serve::Absent),
    method!("etcdserverpb.Auth", "UserList", Unary, Serve::Absent),
    method!("etcdserverpb.Auth", "UserDelete", Unary, Serve::Absent),
    method!("etcdserverpb.Auth", "UserChangePassword", Unary, Serve::Absent),
    method!("etcdserverpb.Auth", "UserGrantRole", Unary, Serve::Absent),
    method!("etcdserverpb.Auth", "UserRevokeRole", Unary, Serve::Absent),
    method!("etcdserverpb.Auth", "RoleAdd", Unary, Serve::Absent),
    method!("etcdserverpb.Auth", "RoleGet", Unary, Serve::Absent),
    method!("etcdserverpb.Auth", "RoleList", Unary, Serve::Absent),
    method!("etcdserverpb.Auth", "RoleDelete", Unary, Serve::Absent),
    method!("etcdserverpb.Auth", "RoleGrantPermission", Unary, Serve::Absent),
    method!("etcdserverpb.Auth", "RoleRevokePermission", Unary, Serve::Absent),
    method!("v3electionpb.Election", "Campaign", Unary, Serve::Machine(recipes::campaign)),
    method!("v3electionpb.Election", "Proclaim", Unary, Serve::Machine(recipes::proclaim)),
    method!("v3electionpb.Election", "Leader", Unary, Serve::Machine(recipes::leader)),
    method!("v3electionpb.Election", "Observe", ServerStream, Serve::Machine(recipes::observe)),
    method!("v3electionpb.Election", "Resign", Unary, Serve::Machine(recipes::resign)),
    method!("v3lockpb.Lock", "Lock", Unary, Serve::Machine(recipes::lock)),
    method!("v3lockpb.Lock", "Unlock", Unary, Serve::Machine(recipes::unlock)),
    method!(
        "grpc.health.v1.Health",
        "Check",
        Unary,
        Serve::Machine(|| { Box::new(health::Health::check()) })
    ),
    method!(
        "grpc.health.v1.Health",
        "Watch",
        ServerStream,
        Serve::Machine(|| { Box::new(health::Health::watch()) })
    ),
    method!("grpc.health.v1.Health", "List", Unary, Serve::Absent),
];

/// The method of a path.
#[must_use]
pub fn find(path: &str) -> Option<usize> {
    METHODS.iter().position(|method| method.path == path)
}

/// What a call to a path is told that nobody serves.
#[must_use]
pub fn unimplemented(path: &str) -> Status {
    if let Some(index) = find(path) {
        let Method { service, name, .. } = METHODS[index];
        let text = format!(
            "unknown method {name} for service {service}: this build of Ringbolt does not have it"
        );
        return Status::new(Code::Unimplemented, text);
    }
    let Some((service, name)) = path.strip_prefix('/').and_then(|rest| rest.rsplit_once('/'))
    else {
        return Status::new(Code::Unimplemented, format!("malformed method name: {path:?}"));
    };
    if METHODS.iter().any(|method| method.service == service) {
        let text = format!("unknown method {name} for service {service}");
        return Status::new(Code::Unimplemented, text);
    }
    Status::new(Code::Unimplemented, format!("unknown service {service}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_found_by_its_path_and_named_once() {
        for (index, method) in METHODS.iter().enumerate() {
            assert_eq!(find(method.path), Some(index), "{}", method.path);
        }
        assert_eq!(find("/etcdserverpb.KV/range"), None);
        assert_eq!(METHODS[DEFRAGMENT].name, "Defragment");
    }

    #[test]
    fn what_is_not_served_is_said_honestly() {
        let cases = [
            (
                "/etcdserverpb.Cluster/MemberAdd",
                "unknown method MemberAdd for service etcdserverpb.Cluster: \
                 this build of Ringbolt does not have it",
            ),
            ("/etcdserverpb.KV/Nothing", "unknown method Nothing for service etcdserverpb.KV"),
            ("/grpc.reflection.v1/Info", "unknown service grpc.reflection.v1"),
            ("nothing", "malformed method name: \"nothing\""),
        ];
        for (path, text) in cases {
            let status = unimplemented(path);
            assert_eq!((status.code, &*status.message), (Code::Unimplemented, text));
        }
    }
}
