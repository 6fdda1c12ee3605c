//! Listen and advertise URLs. The text is kept as given: clients compare it byte for byte.

use std::net::IpAddr;

/// How a URL's address is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// TCP in the clear.
    Http,
    /// TCP with TLS.
    Https,
    /// A Unix socket in the clear.
    Unix,
    /// A Unix socket with TLS.
    Unixs,
}

/// A URL as etcd's flags take it: a scheme and an address, no path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    text: String,
    scheme: Scheme,
    host: String,
    port: u16,
}

impl Url {
    /// Reads one URL.
    ///
    /// # Errors
    /// What is wrong with it, in etcd's words.
    pub fn parse(text: &str) -> Result<Url, String> {
        let text = text.trim();
        let bad_scheme = || format!("URL scheme must be http, https, unix, or unixs: {text}");
        if text.chars().any(|c| c.is_control()) {
            return Err("net/url: invalid control character in URL".to_owned());
        }
        let (scheme, rest) = text.split_once(':').ok_or_else(bad_scheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(bad_scheme()),
        };
        if matches!(scheme, Scheme::Unix | Scheme::Unixs) {
            let host = rest.trim_start_matches("//").to_owned();
            return Ok(Url { text: text.to_owned(), scheme, host, port: 0 });
        }
        let no_port = || format!("URL address does not have the form \"host:port\": {text}");
        let authority = rest.strip_prefix("//").ok_or_else(no_port)?;
        let end = authority.find(['/', '?', '#']).unwrap_or(authority.len());
        let (address, path) = authority.split_at(end);
        let (host, port) = address.rsplit_once(':').ok_or_else(no_port)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(no_port)?,
            None if host.contains([':', '@']) => return Err(no_port()),
            None => host,
        };
        if !path.is_empty() {
            return Err(format!("URL must not contain a path: {text}"));
        }
        let port = port
            .parse()
            .map_err(|_| format!("parse \"{text}\": invalid port \":{port}\" after host"))?;
        Ok(Url { text: text.to_owned(), scheme, host: host.to_owned(), port })
    }

    /// Reads a comma-separated list: sorted by text, each URL once.
    ///
    /// # Errors
    /// As [`Url::parse`], for the first that is wrong.
    pub fn parse_list(text: &str) -> Result<Vec<Url>, String> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let mut urls = text.split(',').map(Url::parse).collect::<Result<Vec<_>, _>>()?;
        urls.sort_by(|a, b| a.text.cmp(&b.text));
        urls.dedup();
        Ok(urls)
    }

    /// The URL as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How its address is reached.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether it names a Unix socket.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        matches!(self.scheme, Scheme::Unix | Scheme::Unixs)
    }

    /// Host name or IP address without brackets; the rest of the URL for a Unix socket.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port; 0 asks the kernel for one, and stands for none in a Unix socket's URL.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether a socket can be bound to it: an IP address or `localhost`, never a name.
    pub(super) fn check_bind(&self) -> Result<(), String> {
        let bindable =
            self.is_unix() || self.host == "localhost" || self.host.parse::<IpAddr>().is_ok();
        if bindable {
            return Ok(());
        }
        Err(format!("expected IP in URL for binding ({})", self.text))
    }

    /// Whether another machine could call it: it names a host.
    pub(super) fn check_host(&self) -> Result<(), String> {
        if self.is_unix() || !self.host.is_empty() {
            return Ok(());
        }
        Err(format!("unexpected empty host ({})", self.text))
    }
}

/// The URLs, joined by commas.
pub(super) fn join(urls: &[Url]) -> String {
    urls.iter().map(Url::as_str).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let cases = [
            ("http://127.0.0.1:2379", Scheme::Http, "127.0.0.1", 2379),
            ("https://[::1]:0", Scheme::Https, "::1", 0),
            (" http://localhost:2379 ", Scheme::Http, "localhost", 2379),
            ("http://:2380", Scheme::Http, "", 2380),
            ("unix://localhost:17", Scheme::Unix, "localhost:17", 0),
            ("unix:///run/x", Scheme::Unix, "/run/x", 0),
        ];
        for (text, scheme, host, port) in cases {
            let url = Url::parse(text).expect(text);
            assert_eq!((url.scheme(), url.host(), url.port()), (scheme, host, port));
            assert_eq!(url.as_str(), text.trim());
        }
    }

    #[test]
    fn what_is_no_address_is_refused_in_etcds_words() {
        let cases = [
            ("foo", "URL scheme must be http, https, unix, or unixs: foo"),
            ("ftp://a:1", "URL scheme must be http, https, unix, or unixs: ftp://a:1"),
            ("http://a", "URL address does not have the form \"host:port\": http://a"),
            ("http://a:1/x", "URL must not contain a path: http://a:1/x"),
            ("http://::1:2", "URL address does not have the form \"host:port\": http://::1:2"),
            ("http://a:x", "parse \"http://a:x\": invalid port \":x\" after host"),
            ("http://a:70000", "parse \"http://a:70000\": invalid port \":70000\" after host"),
        ];
        for (text, expect) in cases {
            assert_eq!(Url::parse(text), Err(expect.to_owned()));
        }
    }

    #[test]
    fn lists_are_sorted_and_hold_each_url_once() {
        let list = Url::parse_list("http://b:1,http://a:1,http://b:1").expect("a list");
        assert_eq!(join(&list), "http://a:1,http://b:1");
    }

    #[test]
    fn names_cannot_be_bound_and_nothing_cannot_be_called() {
        let check = |text: &str| Url::parse(text).expect(text).check_bind().is_ok();
        assert!(check("http://0.0.0.0:1") && check("http://[::]:1"));
        assert!(check("http://localhost:1") && !check("http://etcd-0:1") && !check("http://:1"));
        assert!(Url::parse("http://:1").expect("a URL").check_host().is_err());
    }
}
