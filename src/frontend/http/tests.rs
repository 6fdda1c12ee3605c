//! Routes and probes, step by step, without a connection.

use http::Response;

use super::metrics::Sample;
use super::*;
use crate::base::effect::AlarmKind;
use crate::base::reject::Reject;
use crate::wire::call::StatusAnswer;
use crate::wire::call::{Answer, RangeAnswer, Reply as NodeReply, Request as NodeRequest};

struct Still;

impl MetricsSource for Still {
    fn sample(&self) -> Sample {
        Sample { member_id: 0xab, command_line: vec!["a\"b".to_owned()], ..Sample::default() }
    }
}

/// A node in some state.
#[derive(Clone)]
struct Node {
    alarms: Vec<(u64, AlarmKind)>,
    leader: u64,
    serializable: Result<(), Reject>,
    linearizable: Result<(), Reject>,
}

const FINE: Node =
    Node { alarms: Vec::new(), leader: 1, serializable: Ok(()), linearizable: Ok(()) };

impl Node {
    fn answer(&self, request: &NodeRequest) -> NodeReply {
        match request {
            NodeRequest::Status => Ok(Answer::Status(StatusAnswer {
                alarms: self.alarms.clone(),
                leader: self.leader,
                ..StatusAnswer::default()
            })),
            NodeRequest::Range(range) => {
                assert!(range.keys_only && range.limit == 1 && !range.key.is_empty());
                let outcome =
                    if range.serializable { self.serializable } else { self.linearizable };
                outcome.map(|()| Answer::Range(RangeAnswer::default()))
            }
            other => panic!("a probe asked {other:?}"),
        }
    }
}

fn client_scope() -> Scope {
    Scope::Client { cors: None, host_whitelist: None, is_secure: false }
}

fn ask(site: &Site, node: &Node, request: http::request::Builder) -> Response<Bytes> {
    let mut step = site.begin(request.body(Bytes::new()).expect("a request"));
    loop {
        match step {
            HttpStep::Done(response) => return response,
            HttpStep::Ask(request, next) => step = next.resume(node.answer(&request)),
        }
    }
}

fn site(scope: Scope) -> Site {
    Site::new(scope, Rc::new(Still), Arc::default())
}

fn get(path: &str, node: &Node) -> (u16, String) {
    let response = ask(&site(client_scope()), node, Request::builder().uri(path));
    let body = String::from_utf8(response.body().to_vec()).expect("text");
    (response.status().as_u16(), body)
}

#[test]
fn probes_answer_as_etcd_does() {
    let no_space = Node { alarms: vec![(7, AlarmKind::NoSpace)], ..FINE };
    let corrupt = Node { alarms: vec![(7, AlarmKind::Corrupt)], ..FINE };
    let leaderless = Node { leader: 0, linearizable: Err(Reject::NoLeader), ..FINE };
    let slow = Node { linearizable: Err(Reject::Timeout), ..FINE };
    let stopped = Node { serializable: Err(Reject::Stopped), ..FINE };
    let fine = "{\"health\":\"true\",\"reason\":\"\"}";
    let bad = |reason: &str| format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n");
    let all = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n\
               [+]non_learner ok\nok\n";
    let late = "[+]data_corruption ok\n[+]serializable_read ok\n\
                [-]linearizable_read failed: etcdserver: request timed out\n\
                [+]non_learner ok\n\n";
    let cases: [(&str, &Node, u16, String); 24] = [
        ("/health", &FINE, 200, fine.to_owned()),
        ("/health", &no_space, 503, bad("ALARM NOSPACE")),
        ("/health?exclude=NOSPACE", &no_space, 200, fine.to_owned()),
        ("/health?exclude=NOSPACE", &corrupt, 503, bad("ALARM CORRUPT")),
        ("/health?exclude=NOSPACE&exclude=CORRUPT", &corrupt, 200, fine.to_owned()),
        ("/health", &leaderless, 503, bad("RAFT NO LEADER")),
        ("/health?serializable=true", &leaderless, 200, fine.to_owned()),
        ("/health?serializable=1", &leaderless, 503, bad("RAFT NO LEADER")),
        ("/health", &slow, 503, bad("RANGE ERROR:etcdserver: request timed out")),
        ("/livez", &leaderless, 200, "ok\n".to_owned()),
        ("/livez", &no_space, 200, "ok\n".to_owned()),
        (
            "/livez",
            &stopped,
            503,
            "[-]serializable_read failed: etcdserver: server stopped\n\n".to_owned(),
        ),
        ("/livez?exclude=serializable_read", &stopped, 200, "ok\n".to_owned()),
        ("/livez?verbose", &FINE, 200, "[+]serializable_read ok\nok\n".to_owned()),
        ("/livez/serializable_read", &FINE, 200, "ok\n".to_owned()),
        ("/readyz", &FINE, 200, "ok\n".to_owned()),
        ("/readyz", &no_space, 200, "ok\n".to_owned()),
        ("/readyz?verbose", &FINE, 200, all.to_owned()),
        ("/readyz", &slow, 503, late.to_owned()),
        ("/readyz?exclude=linearizable_read&exclude=unknown", &slow, 200, "ok\n".to_owned()),
        ("/readyz/linearizable_read?exclude=linearizable_read", &FINE, 200, "ok\n".to_owned()),
        (
            "/readyz/data_corruption",
            &corrupt,
            503,
            "[-]data_corruption failed: alarm activated: CORRUPT\n\n".to_owned(),
        ),
        ("/readyz/non_learner?verbose", &FINE, 200, "[+]non_learner ok\nok\n".to_owned()),
        ("/readyz/unknown", &FINE, 404, "404 page not found\n".to_owned()),
    ];
    for (path, node, status, body) in cases {
        assert_eq!(get(path, node), (status, body), "{path}");
    }
}

#[test]
fn other_paths_answer_as_etcd_does() {
    let versions = "{\"etcdserver\":\"3.7.3\",\"etcdcluster\":\"3.7.0\",\"storage\":\"3.7.0\"}";
    assert_eq!(get("/version", &FINE), (200, versions.to_owned()));
    let variables = "{\n\"cmdline\": [\"a\\\"b\"],\n\"file_descriptor_limit\": 0\n}\n";
    assert_eq!(get("/debug/vars", &FINE), (200, variables.to_owned()));
    for path in ["/", "/nothing", "/v3/kv/range", "/livez/", "/health/x", "/debug/pprof/"] {
        assert_eq!(get(path, &FINE), (404, "404 page not found\n".to_owned()), "{path}");
    }
    let (status, body) = get("/metrics", &FINE);
    assert!(status == 200 && body.contains("\netcd_server_id{server_id=\"ab\"} 1\n"));
}

#[test]
fn methods_and_headers_are_etcds() {
    let site = site(client_scope());
    let send =
        |method: &str, path: &str| ask(&site, &FINE, Request::builder().method(method).uri(path));
    for path in ["/health", "/livez", "/readyz/non_learner", "/version", "/debug/vars"] {
        for method in ["POST", "PUT", "HEAD"] {
            let response = send(method, path);
            assert_eq!(response.status().as_u16(), 405);
            assert_eq!(response.headers()["allow"], "GET");
            assert_eq!(response.headers()["content-length"], "19");
            assert_eq!(response.body().is_empty(), method == "HEAD");
        }
    }
    let head = send("HEAD", "/metrics");
    assert!(head.body().is_empty());
    let length: usize = head.headers()["content-length"].to_str().unwrap().parse().unwrap();
    assert_eq!(length, send("GET", "/metrics").body().len());
    assert_eq!(
        head.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
    );
    for path in ["/health", "/nothing"] {
        let options = send("OPTIONS", path);
        assert_eq!((options.status().as_u16(), options.body().len()), (200, 0));
        assert_eq!(options.headers()["access-control-allow-origin"], "*");
    }
    assert_eq!(send("GET", "/health").headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(send("GET", "/livez").headers()["x-content-type-options"], "nosniff");
    assert_eq!(send("GET", "/version").headers()["content-type"], "application/json");
}

#[test]
fn only_listed_hosts_and_origins_are_let_in() {
    let list = |name: &str| Some(vec![name.to_owned()]);
    let scope = |is_secure| Scope::Client {
        cors: list("http://page.example"),
        host_whitelist: list("127.0.0.1"),
        is_secure,
    };
    let send = |is_secure: bool, host: &str, origin: &str| {
        let request =
            Request::builder().uri("/version").header("host", host).header("origin", origin);
        let response = ask(&site(scope(is_secure)), &FINE, request);
        let allowed = response.headers().get("access-control-allow-origin");
        let allowed = allowed.map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), allowed)
    };
    let page = "http://page.example";
    assert_eq!(send(false, "127.0.0.1:2379", page), (200, Some(page.to_owned())));
    assert_eq!(send(false, "127.0.0.1:2379", "http://other.example"), (200, None));
    assert_eq!(send(false, "evil.example:2379", page), (421, None));
    assert_eq!(send(true, "evil.example:2379", page), (200, Some(page.to_owned())));
}

#[test]
fn a_listener_for_metrics_serves_nothing_else() {
    let site = site(Scope::Metrics);
    let send = |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).header("host", "x");
        let response = ask(&site, &FINE, request);
        assert!(!response.headers().contains_key("access-control-allow-origin"));
        response.status().as_u16()
    };
    for path in ["/metrics", "/health", "/livez", "/readyz", "/readyz/non_learner"] {
        assert_eq!(send("GET", path), 200, "{path}");
    }
    for path in ["/version", "/debug/vars", "/v3/kv/range"] {
        assert_eq!(send("GET", path), 404, "{path}");
    }
    assert_eq!(send("OPTIONS", "/health"), 405);
}

#[test]
fn probes_are_counted_once_they_were_made() {
    let site = site(client_scope());
    let scrape = |site: &Site| {
        let response = ask(site, &FINE, Request::builder().uri("/metrics"));
        String::from_utf8(response.body().to_vec()).expect("text")
    };
    assert!(!scrape(&site).contains("etcd_server_healthcheck"));
    let slow = Node { linearizable: Err(Reject::Timeout), ..FINE };
    for node in [&FINE, &slow, &slow] {
        ask(&site, node, Request::builder().uri("/health"));
        ask(&site, node, Request::builder().uri("/readyz"));
    }
    let text = scrape(&site);
    for line in [
        "etcd_server_health_success 1",
        "etcd_server_health_failures 2",
        "etcd_server_healthcheck{name=\"linearizable_read\",type=\"readyz\"} 0",
        "etcd_server_healthcheck{name=\"serializable_read\",type=\"readyz\"} 1",
        "etcd_server_healthchecks_total{name=\"linearizable_read\",status=\"success\",\
         type=\"readyz\"} 1",
        "etcd_server_healthchecks_total{name=\"linearizable_read\",status=\"error\",\
         type=\"readyz\"} 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
    assert!(!text.contains("type=\"livez\""));
}
