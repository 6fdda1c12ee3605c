//! The identity file: a few lines of text, so that a person can read it, and their checksum.
//!
//! ```text
//! ringbolt data directory
//! format 1
//! data-dir-id 0f5c...          32 hex digits, drawn when the directory was made
//! cluster-id cdf818194e3a8c32
//! member-id 8e9e05c52164694d
//! peer-urls http://localhost:2380
//! shards 1
//! key-hash-seed 81f0...        16 hex digits
//! crc32c 5d2e66aa              of everything above
//! ```

use crate::base::limits::SHARDS_MAX;

const TITLE: &str = "ringbolt data directory";
const FORMAT: u32 = 1;

/// Who a member is to be when its directory is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMember {
    /// The group's ID.
    pub cluster_id: u64,
    /// The member's ID.
    pub member_id: u64,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Shards of its keyspace.
    pub shards: u16,
}

/// Who a member is: what stands in its directory and never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Tells this directory from every other, also from a copy of it made anew.
    pub data_dir_id: u128,
    /// The group, the member, its shards.
    pub member: NewMember,
    /// Seed of the hash that gives keys to shards.
    pub key_hash_seed: u64,
}

impl Identity {
    /// A new identity from random bytes.
    pub(super) fn new(member: NewMember, random: [u8; 24]) -> Identity {
        let mut id = [0; 16];
        id.copy_from_slice(&random[..16]);
        let mut seed = [0; 8];
        seed.copy_from_slice(&random[16..]);
        Identity {
            data_dir_id: u128::from_le_bytes(id),
            member,
            key_hash_seed: u64::from_le_bytes(seed),
        }
    }

    /// The file's text.
    pub(super) fn text(&self) -> String {
        let NewMember { cluster_id, member_id, peer_urls, shards } = &self.member;
        let body = format!(
            "{TITLE}\nformat {FORMAT}\ndata-dir-id {:032x}\ncluster-id {cluster_id:016x}\n\
             member-id {member_id:016x}\npeer-urls {}\nshards {shards}\nkey-hash-seed {:016x}\n",
            self.data_dir_id,
            peer_urls.join(","),
            self.key_hash_seed,
        );
        let crc = crc32c::crc32c(body.as_bytes());
        format!("{body}crc32c {crc:08x}\n")
    }

    /// Reads the file's text.
    pub(super) fn read(text: &str) -> Result<Identity, String> {
        let mut lines = text.lines();
        if lines.next() != Some(TITLE) {
            return Err("this is no identity file of Ringbolt".to_owned());
        }
        // The format comes before the checksum: a later one may compute it differently.
        let format: u32 = number(field(&mut lines, "format")?, 10)?;
        if format > FORMAT {
            return Err(format!(
                "the data directory has format {format}, and this version of Ringbolt knows none \
                 above {FORMAT}: start the newer version"
            ));
        }
        let body_end = text.rfind("crc32c ").ok_or_else(damaged)?;
        let (body, last) = text.split_at(body_end);
        let crc: u32 = number(field(&mut last.lines(), "crc32c")?, 16)?;
        if format != FORMAT || crc32c::crc32c(body.as_bytes()) != crc {
            return Err(damaged());
        }
        let data_dir_id = number(field(&mut lines, "data-dir-id")?, 16)?;
        let cluster_id = number(field(&mut lines, "cluster-id")?, 16)?;
        let member_id = number(field(&mut lines, "member-id")?, 16)?;
        let peer_urls = field(&mut lines, "peer-urls")?.split(',').map(str::to_owned).collect();
        let shards: u16 = number(field(&mut lines, "shards")?, 10)?;
        if shards == 0 || shards > SHARDS_MAX {
            return Err(damaged());
        }
        let key_hash_seed = number(field(&mut lines, "key-hash-seed")?, 16)?;
        let member = NewMember { cluster_id, member_id, peer_urls, shards };
        Ok(Identity { data_dir_id, member, key_hash_seed })
    }
}

fn damaged() -> String {
    "the identity file is damaged: restore it from a copy of this data directory".to_owned()
}

/// The value of the next line, which must have this name.
fn field<'a>(lines: &mut std::str::Lines<'a>, name: &str) -> Result<&'a str, String> {
    let line = lines.next().ok_or_else(damaged)?;
    line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' ')).ok_or_else(damaged)
}

fn number<T: TryFrom<u128>>(text: &str, radix: u32) -> Result<T, String> {
    let value = u128::from_str_radix(text, radix).map_err(|_| damaged())?;
    T::try_from(value).map_err(|_| damaged())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let member = NewMember {
            cluster_id: 0xcdf8_1819_4e3a_8c32,
            member_id: 7,
            peer_urls: vec!["http://a:1".to_owned(), "http://b:1".to_owned()],
            shards: 4,
        };
        Identity::new(member, *b"0123456789abcdefghijklmn")
    }

    #[test]
    fn what_was_written_reads_back() {
        assert_eq!(Identity::read(&identity().text()), Ok(identity()));
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_seen() {
        let text = identity().text();
        for len in 0..text.len() - 1 {
            assert!(Identity::read(&text[..len]).is_err(), "cut to {len}");
        }
        for at in 0..text.len() - 1 {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).expect("ASCII");
            // A hex digit of the sum may change its case and not its value.
            assert_ne!(Identity::read(&changed), Ok(identity()), "byte {at}");
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let text = identity().text().replace("format 1", "format 2");
        assert!(Identity::read(&text).expect_err("newer").contains("has format 2"));
        assert!(Identity::read("hello").expect_err("foreign").contains("no identity"));
    }
}
