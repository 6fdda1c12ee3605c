//! Requests that are not gRPC and still came over HTTP/2: health, metrics, version. Whoever
//! answers them does so step by step, without waiting: an answer, or a question to the node and
//! how to go on.

use bytes::Bytes;

use crate::wire::call::{Reply, Request};

/// Answers plain HTTP requests, whichever version of HTTP they came by.
pub trait HttpHandler {
    /// Takes a request with its whole body.
    fn begin(&self, request: http::Request<Bytes>) -> HttpStep;
}

/// What comes next for a plain HTTP request.
pub enum HttpStep {
    /// This is the answer.
    Done(http::Response<Bytes>),
    /// Ask the node, then go on.
    Ask(Request, Box<dyn HttpContinuation>),
}

impl std::fmt::Debug for HttpStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HttpStep::Done(response) => f.debug_tuple("Done").field(response).finish(),
            HttpStep::Ask(request, _) => f.debug_tuple("Ask").field(request).finish(),
        }
    }
}

/// A plain HTTP request that waits for the node.
pub trait HttpContinuation {
    /// Goes on with the node's answer.
    fn resume(self: Box<Self>, reply: Reply) -> HttpStep;
}

/// A response of one line.
#[must_use]
pub fn plain(status: http::StatusCode, text: &'static str) -> http::Response<Bytes> {
    let mut response = http::Response::new(Bytes::from_static(text.as_bytes()));
    *response.status_mut() = status;
    let value = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, value);
    response
}
