//! The flags of a command: `--name value` or `--name=value`.

use std::collections::BTreeMap;

/// Flags that were given, each once, by name.
#[derive(Debug, Default)]
pub(super) struct Flags(BTreeMap<&'static str, String>);

impl Flags {
    /// Reads the words behind a command, whose flags these are.
    pub(super) fn parse(names: &[&'static str], words: &[String]) -> Result<Flags, String> {
        let mut flags = Flags::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Some(bare) = word.strip_prefix("--") else {
                return Err(format!("{word:?} is no flag; flags begin with --"));
            };
            let (name, value) = match bare.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (bare, None),
            };
            let found = names.iter().find(|known| **known == name);
            let name = *found.ok_or_else(|| format!("--{name} is not a flag of this command"))?;
            let value = value.or_else(|| words.next().cloned());
            let value = value.filter(|value| !value.is_empty());
            let value = value.ok_or_else(|| format!("--{name} needs a value"))?;
            if flags.0.insert(name, value).is_some() {
                return Err(format!("--{name} is given twice"));
            }
        }
        Ok(flags)
    }

    /// A flag's value, which has to be there.
    pub(super) fn needed(&self, name: &str) -> Result<&str, String> {
        self.0.get(name).map(String::as_str).ok_or_else(|| format!("--{name} is needed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_a_value_and_come_once() {
        let parse = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Flags::parse(&["data-dir", "shards"], &words)
        };
        let flags = parse(&["--shards", "4", "--data-dir=a=b"]).expect("flags");
        assert_eq!((flags.needed("shards"), flags.needed("data-dir")), (Ok("4"), Ok("a=b")));
        assert_eq!(flags.needed("other"), Err("--other is needed".to_owned()));
        let cases: [(&[&str], &str); 6] = [
            (&["4"], "\"4\" is no flag; flags begin with --"),
            (&["-s", "4"], "\"-s\" is no flag; flags begin with --"),
            (&["--other=4"], "--other is not a flag of this command"),
            (&["--shards"], "--shards needs a value"),
            (&["--shards="], "--shards needs a value"),
            (&["--shards=4", "--shards=4"], "--shards is given twice"),
        ];
        for (words, why) in cases {
            assert_eq!(parse(words).expect_err("refused"), why);
        }
    }
}
