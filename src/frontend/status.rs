//! THE table: what a call can be refused with -> gRPC code and the exact text of etcd. Clients
//! match the text, so no other file spells one of these out.

use std::borrow::Cow;
use std::fmt::Write as _;

use http::HeaderValue;

use crate::base::reject::Reject;

/// A gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names of the gRPC specification")]
pub enum Code {
    Ok = 0,
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// Names of the codes by number, as Go and therefore every dashboard spells them.
pub const CODE_NAMES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The code.
    pub code: Code,
    /// What is said about it; empty if all went well.
    pub message: Cow<'static, str>,
}

impl Status {
    /// All went well.
    pub const OK: Status = Status::fixed(Code::Ok, "");
    /// The client went away. Nobody hears it; the metrics count it.
    pub const CANCELED: Status = Status::fixed(Code::Canceled, "context canceled");
    /// The client's own deadline has passed.
    pub const DEADLINE_EXCEEDED: Status =
        Status::fixed(Code::DeadlineExceeded, "context deadline exceeded");
    /// A `client-api-version` that is no text.
    pub const INVALID_CLIENT_API_VERSION: Status =
        Status::fixed(Code::InvalidArgument, "etcdserver: invalid client api version");

    /// A status with a text known beforehand.
    #[must_use]
    pub const fn fixed(code: Code, message: &'static str) -> Status {
        Status { code, message: Cow::Borrowed(message) }
    }

    /// A status with a text of its own.
    #[must_use]
    pub fn new(code: Code, message: String) -> Status {
        Status { code, message: Cow::Owned(message) }
    }

    /// A message above what the server takes, in the words of grpc-go.
    #[must_use]
    pub fn message_too_large(bytes: usize, bytes_max: usize) -> Status {
        let text = format!("grpc: received message larger than max ({bytes} vs. {bytes_max})");
        Status::new(Code::ResourceExhausted, text)
    }

    /// An answer above what a message can hold, in the words of grpc-go.
    #[must_use]
    pub fn answer_too_large(bytes: usize) -> Status {
        let bytes_max = i32::MAX;
        let text = format!("trying to send message larger than max ({bytes} vs. {bytes_max})");
        Status::new(Code::ResourceExhausted, text)
    }

    /// A request that is not the message it should be.
    #[must_use]
    pub fn undecodable(error: &prost::DecodeError) -> Status {
        Status::new(Code::Internal, format!("grpc: error unmarshalling request: {error}"))
    }

    /// The message as `grpc-message` carries it: printable ASCII, the rest percent-encoded.
    #[must_use]
    pub fn header_value(&self) -> HeaderValue {
        let printable = |byte: &u8| (0x20..0x7f).contains(byte) && *byte != b'%';
        if let Cow::Borrowed(text) = self.message
            && text.as_bytes().iter().all(printable)
        {
            return HeaderValue::from_static(text);
        }
        let mut out = String::with_capacity(self.message.len() + 16);
        for byte in self.message.bytes() {
            if printable(&byte) {
                out.push(char::from(byte));
            } else {
                // Writing into a String cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
        HeaderValue::from_str(&out).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// The code as `grpc-status` carries it.
    #[must_use]
    pub fn code_value(&self) -> HeaderValue {
        const NUMBERS: [&str; 17] = [
            "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15",
            "16",
        ];
        HeaderValue::from_static(NUMBERS[self.code as usize])
    }
}

impl From<Reject> for Status {
    fn from(reject: Reject) -> Status {
        use Code as C;
        let (code, text) = match reject {
            Reject::Compacted => {
                (C::OutOfRange, "etcdserver: mvcc: required revision has been compacted")
            }
            Reject::Corrupt => (C::DataLoss, "etcdserver: corrupt cluster"),
            Reject::DuplicateKey => {
                (C::InvalidArgument, "etcdserver: duplicate key given in txn request")
            }
            Reject::EmptyKey => (C::InvalidArgument, "etcdserver: key is not provided"),
            Reject::FutureRevision => {
                (C::OutOfRange, "etcdserver: mvcc: required revision is a future revision")
            }
            Reject::InvalidSortOption => (C::InvalidArgument, "etcdserver: invalid sort option"),
            Reject::KeyNotFound => (C::InvalidArgument, "etcdserver: key not found"),
            Reject::LeaseExists => (C::FailedPrecondition, "etcdserver: lease already exists"),
            Reject::LeaseNotFound => (C::NotFound, "etcdserver: requested lease not found"),
            Reject::LeaseProvided => (C::InvalidArgument, "etcdserver: lease is provided"),
            Reject::LeaseTtlTooLarge => (C::OutOfRange, "etcdserver: too large lease TTL"),
            Reject::LeaderChanged => (C::Unavailable, "etcdserver: leader changed"),
            Reject::NoLeader => (C::Unavailable, "etcdserver: no leader"),
            Reject::NoSpace => (C::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
            Reject::RequestTooLarge => (C::InvalidArgument, "etcdserver: request is too large"),
            Reject::Stopped => (C::Unavailable, "etcdserver: server stopped"),
            Reject::Timeout => (C::Unavailable, "etcdserver: request timed out"),
            Reject::TooManyOps => {
                (C::InvalidArgument, "etcdserver: too many operations in txn request")
            }
            // Named ResourceExhausted by etcd's constants, sent as Unknown by its servers.
            Reject::TooManyRequests => (C::Unknown, "etcdserver: too many requests"),
            Reject::ValueProvided => (C::InvalidArgument, "etcdserver: value is provided"),
        };
        Status::fixed(code, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_the_code_and_the_text_that_clients_match() {
        // (refusal, code on the wire, text): the rows of the v3 API that this build can send.
        let rows = [
            (Reject::EmptyKey, 3, "etcdserver: key is not provided"),
            (Reject::KeyNotFound, 3, "etcdserver: key not found"),
            (Reject::ValueProvided, 3, "etcdserver: value is provided"),
            (Reject::LeaseProvided, 3, "etcdserver: lease is provided"),
            (Reject::TooManyOps, 3, "etcdserver: too many operations in txn request"),
            (Reject::DuplicateKey, 3, "etcdserver: duplicate key given in txn request"),
            (Reject::InvalidSortOption, 3, "etcdserver: invalid sort option"),
            (Reject::Compacted, 11, "etcdserver: mvcc: required revision has been compacted"),
            (
                Reject::FutureRevision,
                11,
                "etcdserver: mvcc: required revision is a future revision",
            ),
            (Reject::NoSpace, 8, "etcdserver: mvcc: database space exceeded"),
            (Reject::LeaseNotFound, 5, "etcdserver: requested lease not found"),
            (Reject::LeaseExists, 9, "etcdserver: lease already exists"),
            (Reject::LeaseTtlTooLarge, 11, "etcdserver: too large lease TTL"),
            (Reject::RequestTooLarge, 3, "etcdserver: request is too large"),
            (Reject::TooManyRequests, 2, "etcdserver: too many requests"),
            (Reject::NoLeader, 14, "etcdserver: no leader"),
            (Reject::LeaderChanged, 14, "etcdserver: leader changed"),
            (Reject::Stopped, 14, "etcdserver: server stopped"),
            (Reject::Timeout, 14, "etcdserver: request timed out"),
            (Reject::Corrupt, 15, "etcdserver: corrupt cluster"),
        ];
        for (reject, code, text) in rows {
            let status = Status::from(reject);
            assert_eq!((status.code as u8, &*status.message), (code, text), "{reject:?}");
            assert_eq!(status.header_value().to_str().unwrap(), text, "nothing to encode");
            assert_eq!(status.code_value().to_str().unwrap(), code.to_string());
        }
    }

    #[test]
    fn a_message_is_percent_encoded_byte_by_byte() {
        let status = Status::new(Code::Unknown, "100% \u{e4}\n~".to_owned());
        assert_eq!(status.header_value().to_str().unwrap(), "100%25 %C3%A4%0A~");
    }
}
