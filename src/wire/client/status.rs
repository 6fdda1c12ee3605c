//! How a call ended.

use std::fmt;

use super::frame::code;

/// A gRPC status. Code 0 is success.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Status {
    /// The number on the wire.
    pub code: u32,
    /// The server's words, or ours where there is no server any more.
    pub message: String,
}

const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl Status {
    /// Success.
    pub const OK: Status = Status { code: 0, message: String::new() };
    /// The call was given up.
    pub const CANCELLED: u32 = 1;
    /// The server said something that is no gRPC.
    pub const UNKNOWN: u32 = 2;
    /// No answer in time.
    pub const DEADLINE_EXCEEDED: u32 = 4;
    /// No access.
    pub const PERMISSION_DENIED: u32 = 7;
    /// A limit.
    pub const RESOURCE_EXHAUSTED: u32 = 8;
    /// No such method.
    pub const UNIMPLEMENTED: u32 = 12;
    /// A peer broke the protocol.
    pub const INTERNAL: u32 = 13;
    /// The connection is gone, or never was.
    pub const UNAVAILABLE: u32 = 14;
    /// No valid credentials.
    pub const UNAUTHENTICATED: u32 = 16;

    /// A status with its text.
    pub fn new(code: u32, message: impl Into<String>) -> Status {
        Status { code, message: message.into() }
    }

    /// Whether the call succeeded.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.code == 0
    }

    /// What a stream that the server reset is taken for.
    pub(super) fn of_reset(reason: u32) -> Status {
        let number = match reason {
            code::REFUSED_STREAM => Status::UNAVAILABLE,
            code::CANCEL => Status::CANCELLED,
            code::ENHANCE_YOUR_CALM => Status::RESOURCE_EXHAUSTED,
            code::INADEQUATE_SECURITY => Status::PERMISSION_DENIED,
            _ => Status::INTERNAL,
        };
        Status::new(number, format!("the server reset the stream with HTTP/2 code {reason}"))
    }

    /// What an answer without a gRPC status is taken for.
    pub(super) fn of_http(status: u16) -> Status {
        let number = match status {
            400 => Status::INTERNAL,
            401 => Status::UNAUTHENTICATED,
            403 => Status::PERMISSION_DENIED,
            404 => Status::UNIMPLEMENTED,
            429 | 502..=504 => Status::UNAVAILABLE,
            _ => Status::UNKNOWN,
        };
        Status::new(number, format!("the answer is HTTP status {status} without a gRPC status"))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(self.code as usize) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "code {}", self.code)?,
        }
        if self.message.is_empty() { Ok(()) } else { write!(f, ": {}", self.message) }
    }
}
