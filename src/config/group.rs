//! Who the members are when a data directory is made, and the IDs that follow from it.

use sha1::{Digest, Sha1};

use super::url::{Url, join};

/// The group as the flags describe it. It counts once, when the data directory is made; from
/// then on the directory says who this member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// This member's name.
    pub name: String,
    /// Members by name, in the order given; a name may stand several times.
    pub members: Vec<(String, Url)>,
    /// Goes into every ID.
    pub token: String,
    /// This member's peer URLs, sorted.
    pub advertise_peer: Vec<Url>,
    /// Whether the group exists already and this member joins it.
    pub existing: bool,
}

impl Group {
    /// Reads `name=URL,name=URL`.
    pub(super) fn parse_members(text: &str) -> Result<Vec<(String, Url)>, String> {
        let mut members = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, url) = part.split_once('=').unwrap_or((part, ""));
            if url.is_empty() {
                return Err(format!("empty URL given for \"{name}\""));
            }
            members.push((name.trim().to_owned(), Url::parse(url)?));
        }
        Ok(members)
    }

    /// This member's ID and the cluster's, for a data directory about to be made.
    ///
    /// # Errors
    /// A sentence, when the flags do not describe a group of this member alone.
    pub fn ids(&self) -> Result<(u64, u64), String> {
        if self.existing {
            return Err("--initial-cluster-state=existing needs a data directory of this member, \
                        and there is none: joining a group is not built yet"
                .to_owned());
        }
        if self.members.is_empty() {
            return Err("initial cluster unset and no discovery endpoints found".to_owned());
        }
        let own: Vec<&Url> = self.urls_of(&self.name);
        if own.is_empty() {
            return Err(format!(
                "couldn't find local name \"{}\" in the initial cluster configuration",
                self.name
            ));
        }
        self.check_advertised(&own)?;
        let mut texts: Vec<&str> = self.members.iter().map(|(_, url)| url.as_str()).collect();
        texts.sort_unstable();
        if texts.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(format!("initial cluster {} has duplicate url", self.text()));
        }
        if self.members.iter().any(|(name, _)| *name != self.name) {
            return Err(format!(
                "--initial-cluster={} names several members: groups of more than one are not \
                 built yet",
                self.text()
            ));
        }
        let member = member_id(&own, &self.token);
        Ok((member, cluster_id(&[member])))
    }

    fn urls_of(&self, name: &str) -> Vec<&Url> {
        self.members.iter().filter(|(member, _)| member == name).map(|(_, url)| url).collect()
    }

    /// The peer URLs must be those that the group knows this member by.
    fn check_advertised(&self, own: &[&Url]) -> Result<(), String> {
        let advertised = join(&self.advertise_peer);
        let missing: Vec<String> = own
            .iter()
            .filter(|url| !self.advertise_peer.contains(url))
            .map(|url| format!("{}={}", self.name, url.as_str()))
            .collect();
        if !missing.is_empty() {
            return Err(format!(
                "--initial-cluster has {} but missing from \
                 --initial-advertise-peer-urls={advertised}",
                missing.join(",")
            ));
        }
        let unknown: Vec<&str> =
            self.advertise_peer.iter().filter(|url| !own.contains(url)).map(Url::as_str).collect();
        if !unknown.is_empty() {
            return Err(format!(
                "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
                unknown.join(","),
                self.text()
            ));
        }
        Ok(())
    }

    /// The members as `--initial-cluster` would give them.
    pub(super) fn text(&self) -> String {
        let parts = self.members.iter().map(|(name, url)| format!("{name}={}", url.as_str()));
        let mut parts: Vec<String> = parts.collect();
        parts.sort_unstable();
        parts.join(",")
    }
}

/// The first eight bytes of SHA-1 over the sorted peer URLs and the token.
fn member_id(urls: &[&Url], token: &str) -> u64 {
    let mut texts: Vec<&str> = urls.iter().map(|url| url.as_str()).collect();
    texts.sort_unstable();
    let mut hash = Sha1::new();
    for text in texts {
        hash.update(text);
    }
    hash.update(token);
    first_eight(hash)
}

/// The first eight bytes of SHA-1 over the sorted member IDs.
fn cluster_id(members: &[u64]) -> u64 {
    let mut sorted = members.to_vec();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for id in sorted {
        hash.update(id.to_be_bytes());
    }
    first_eight(hash)
}

fn first_eight(hash: Sha1) -> u64 {
    let sum = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&sum[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, members: &str, advertise: &str) -> Group {
        Group {
            name: name.to_owned(),
            members: Group::parse_members(members).expect("members"),
            token: "etcd-cluster".to_owned(),
            advertise_peer: Url::parse_list(advertise).expect("URLs"),
            existing: false,
        }
    }

    #[test]
    fn ids_are_those_that_etcd_gives() {
        let url = "http://localhost:2380";
        let ids = group("default", "default=http://localhost:2380", url).ids();
        assert_eq!(ids, Ok((0x8e9e_05c5_2164_694d, 0xcdf8_1819_4e3a_8c32)));
    }

    #[test]
    fn groups_that_do_not_fit_are_refused_in_etcds_words() {
        let a = "http://127.0.0.1:1";
        let b = "http://127.0.0.1:2";
        let cases = [
            ("x", format!("a={a}"), a, "couldn't find local name \"x\" in the initial cluster"),
            ("a", format!("a={a}"), b, "--initial-cluster has a=http://127.0.0.1:1 but missing"),
            ("a", format!("a={a},b={a}"), a, "has duplicate url"),
            ("a", format!("a={a},b={b}"), a, "names several members"),
            ("a", String::new(), a, "initial cluster unset"),
        ];
        for (name, members, advertise, expect) in cases {
            let why = group(name, &members, advertise).ids().expect_err(expect);
            assert!(why.contains(expect), "{why}");
        }
        let two = format!("{a},{b}");
        let why = group("a", &format!("a={a}"), &two).ids().expect_err("one URL too many");
        assert!(why.starts_with("--initial-advertise-peer-urls has http://127.0.0.1:2"), "{why}");
        let joining = Group { existing: true, ..group("a", &format!("a={a}"), a) };
        assert!(joining.ids().expect_err("joining").contains("not built"));
    }

    #[test]
    fn members_need_urls() {
        assert_eq!(Group::parse_members("foo"), Err("empty URL given for \"foo\"".to_owned()));
    }
}
