//! Responses as Go's HTTP server gives them: types, lengths, and the origin that may read them.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// Who besides the asking program may read an answer.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// Nothing is said of it.
    Unsaid,
    /// Every page.
    Any,
    /// Pages of this origin.
    One(HeaderValue),
}

/// A response under way.
#[derive(Debug)]
pub(super) struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Reply {
    fn new(status: StatusCode, content_type: HeaderValue, body: String) -> Reply {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type);
        Reply { status, headers, body: body.into() }
    }

    /// An answer without a body.
    pub(super) fn empty() -> Reply {
        Reply { status: StatusCode::OK, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A text.
    pub(super) fn text(body: String) -> Reply {
        Reply::new(StatusCode::OK, PLAIN, body)
    }

    /// A text whose type a browser must not guess.
    pub(super) fn sure_text(body: String) -> Reply {
        let mut reply = Reply::text(body);
        reply.headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        reply
    }

    /// JSON under the type that etcd gives it.
    pub(super) fn json(content_type: &'static str, body: String) -> Reply {
        Reply::new(StatusCode::OK, HeaderValue::from_static(content_type), body)
    }

    /// The exposition of metrics.
    pub(super) fn metrics(body: String) -> Reply {
        Reply::new(StatusCode::OK, HeaderValue::from_static(METRICS), body)
    }

    /// An error: its text and a newline.
    pub(super) fn error(status: StatusCode, text: &str) -> Reply {
        Reply { status, ..Reply::sure_text(format!("{text}\n")) }
    }

    /// There is nothing under this path.
    pub(super) fn not_found() -> Reply {
        Reply::error(StatusCode::NOT_FOUND, "404 page not found")
    }

    /// The path takes GET alone.
    pub(super) fn method_not_allowed() -> Reply {
        let mut reply = Reply::error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        reply.headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
        reply
    }

    /// The response, with its length and what pages may do with it.
    pub(super) fn with_origin(self, origin: &Origin) -> Response<Bytes> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        let length = HeaderValue::from(response.body().len());
        let headers = response.headers_mut();
        *headers = self.headers;
        headers.insert(header::CONTENT_LENGTH, length);
        let origin = match origin {
            Origin::Unsaid => return response,
            Origin::Any => HeaderValue::from_static("*"),
            Origin::One(origin) => origin.clone(),
        };
        let allowed: [(HeaderName, HeaderValue); 3] = [
            (
                header::ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"),
            ),
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static("accept, content-type, authorization"),
            ),
        ];
        for (name, value) in allowed {
            headers.insert(name, value);
        }
        response
    }
}

/// A request in the clear for a host that is not on the list: a page of another site may have
/// made the name point here.
pub(super) fn misdirected(host: &str) -> Reply {
    let text = format!(
        "\nRingbolt received this request for the host {host:?}, which it does not know.\n\n\
         Either serve clients over TLS, or add the host to --host-whitelist.\n\n\
         This keeps pages of other sites from reaching it by DNS rebinding (CVE-2018-5702).\n"
    );
    Reply::error(StatusCode::MISDIRECTED_REQUEST, &text)
}
