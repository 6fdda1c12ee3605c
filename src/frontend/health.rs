//! grpc.health.v1: the service with the empty name serves from the first moment on.

use bytes::Bytes;

use super::kv::decode;
use super::machine::{Actions, Machine, Sub};
use super::message::generated;
use super::status::{Code, Status};
use crate::wire::call::Reply;
use crate::wire::health as pb;
use pb::health_check_response::ServingStatus;

/// A Check or a Watch.
#[derive(Debug)]
pub struct Health {
    is_watch: bool,
}

impl Health {
    /// One question, one answer.
    #[must_use]
    pub fn check() -> Health {
        Health { is_watch: false }
    }

    /// A stream that says when the answer changes, which it never does.
    #[must_use]
    pub fn watch() -> Health {
        Health { is_watch: true }
    }
}

impl Machine for Health {
    fn on_message(&mut self, message: Bytes, out: &mut Actions<'_>) {
        let request: pb::HealthCheckRequest = match decode(message) {
            Ok(request) => request,
            Err(status) => return out.end(status),
        };
        let status = match (request.service.is_empty(), self.is_watch) {
            (true, _) => ServingStatus::Serving,
            (false, true) => ServingStatus::ServiceUnknown,
            (false, false) => return out.end(Status::fixed(Code::NotFound, "unknown service")),
        };
        let response = generated(&pb::HealthCheckResponse { status: status.into() });
        if self.is_watch { out.respond(response) } else { out.finish(response) }
    }

    fn on_reply(&mut self, _sub: Sub, _reply: Reply, _out: &mut Actions<'_>) {
        unreachable!("health asks the node nothing");
    }
}
