//! What a flag is: its name, the kind of its value, its default, and how far it is built.

use yaml_rust2::Yaml;

use super::gates::Gates;
use super::go;
use super::url::Url;

/// The value that a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A switch: bare, `=true` or `=false`.
    Bool,
    /// Any text.
    Text,
    /// Unsigned, up to `u64::MAX`.
    Uint,
    /// Unsigned, up to `u32::MAX`.
    Uint32,
    /// Signed.
    Int,
    /// Nanoseconds; `1h30m` on the command line, an integer in a file.
    Duration,
    /// Comma-separated URLs.
    Urls,
    /// Comma-separated URLs, or `*`.
    Origins,
    /// Comma-separated texts.
    List,
    /// One of these.
    Choice(&'static [&'static str]),
    /// Several of these, comma-separated.
    Choices(&'static [&'static str]),
    /// Feature gates, `Name=bool`, comma-separated.
    Gates,
    /// Takes anything and does nothing, as in etcd.
    Dropped,
}

/// A value that was read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Of a switch.
    Bool(bool),
    /// Of a text or a choice.
    Text(String),
    /// Of an unsigned number.
    Uint(u64),
    /// Of a signed number.
    Int(i64),
    /// Of a duration, in nanoseconds.
    Duration(i64),
    /// Of a URL list.
    Urls(Vec<Url>),
    /// Of a list of texts.
    List(Vec<String>),
    /// Of feature gates.
    Gates(Gates),
}

/// How far a flag is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Support {
    /// It does what it says.
    Built,
    /// It is accepted and changes nothing; the sentence says why and becomes a warning.
    Ignored(&'static str),
    /// It concerns other members, of which there are none: accepted with one warning for all.
    Peer,
    /// Anything but the default is refused with this sentence.
    NotBuilt(&'static str),
    /// Ringbolt's own.
    Own,
    /// Ringbolt's own, for tests: not in the help.
    Hidden,
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag {
    /// Name, without dashes.
    pub(super) name: &'static str,
    /// The kind of its value.
    pub(super) kind: Kind,
    /// Default, as it would be given.
    pub(super) default: &'static str,
    /// How far it is built.
    pub(super) support: Support,
    /// One or two lines for people.
    pub(super) help: &'static str,
}

impl Flag {
    /// A row of the table.
    pub(super) const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        support: Support,
        help: &'static str,
    ) -> Flag {
        Flag { name, kind, default, support, help }
    }

    /// The value it has when nobody gives one.
    pub(super) fn default_value(&self) -> Value {
        match self.kind.parse(self.default) {
            Ok(value) => value,
            Err(why) => unreachable!("the default of --{} is no value of it: {why}", self.name),
        }
    }
}

impl Kind {
    /// Whether the flag may stand alone, without a value.
    pub(super) fn is_switch(self) -> bool {
        matches!(self, Kind::Bool | Kind::Dropped)
    }

    /// Reads a value from the command line or the environment.
    pub(super) fn parse(self, text: &str) -> Result<Value, String> {
        match self {
            Kind::Bool => {
                let value = go::parse_bool(text).ok_or_else(|| go::PARSE_ERROR.to_owned())?;
                Ok(Value::Bool(value))
            }
            Kind::Text | Kind::Dropped => Ok(Value::Text(text.to_owned())),
            Kind::Uint => Ok(Value::Uint(go::parse_uint(text, u64::MAX)?)),
            Kind::Uint32 => Ok(Value::Uint(go::parse_uint(text, u64::from(u32::MAX))?)),
            Kind::Int => Ok(Value::Int(go::parse_int(text)?)),
            Kind::Duration => {
                let ns = go::parse_duration(text).ok_or_else(|| go::PARSE_ERROR.to_owned())?;
                Ok(Value::Duration(ns))
            }
            Kind::Urls => Ok(Value::Urls(Url::parse_list(text)?)),
            Kind::Origins => {
                if text != "*" {
                    Url::parse_list(text)?;
                }
                Ok(Value::List(split(text)))
            }
            Kind::List => Ok(Value::List(split(text))),
            Kind::Choice(choices) if choices.contains(&text) => Ok(Value::Text(text.to_owned())),
            Kind::Choice(_) => Err("invalid value".to_owned()),
            Kind::Choices(choices) => match text.split(',').find(|part| !choices.contains(part)) {
                Some(part) => Err(format!("invalid value \"{part}\"")),
                None => Ok(Value::Text(text.to_owned())),
            },
            Kind::Gates => Ok(Value::Gates(Gates::parse(text)?)),
        }
    }

    /// Reads a value from a configuration file. `None`: the file leaves it open.
    pub(super) fn read_yaml(self, name: &str, yaml: &Yaml) -> Result<Option<Value>, String> {
        let wrong = |wanted: &str| Err(format!("cannot take the value of \"{name}\" as {wanted}"));
        let value = match (self, yaml) {
            (_, Yaml::Null | Yaml::BadValue) => return Ok(None),
            (Kind::Bool, Yaml::Boolean(value)) => Value::Bool(*value),
            // YAML 1.1, which etcd reads, has more words for a boolean.
            (Kind::Bool, Yaml::String(word)) => match word.to_ascii_lowercase().as_str() {
                "yes" | "on" | "y" => Value::Bool(true),
                "no" | "off" | "n" => Value::Bool(false),
                _ => return wrong("a boolean"),
            },
            (Kind::Bool, _) => return wrong("a boolean"),
            (Kind::Duration, Yaml::Integer(ns)) => Value::Duration(*ns),
            (Kind::Duration, _) => {
                return wrong("a duration: files hold integer nanoseconds, not text like \"5s\"");
            }
            (Kind::Int, Yaml::Integer(value)) => Value::Int(*value),
            (Kind::Uint | Kind::Uint32, Yaml::Integer(value)) => {
                return self
                    .parse(&value.to_string())
                    .map(Some)
                    .or_else(|_| wrong("an unsigned number"));
            }
            (Kind::Int | Kind::Uint | Kind::Uint32, _) => return wrong("a number"),
            (Kind::List, Yaml::Array(items)) => {
                let texts = items.iter().map(scalar).collect::<Option<Vec<_>>>();
                match texts {
                    Some(texts) => Value::List(texts),
                    None => return wrong("a list of texts"),
                }
            }
            (_, other) => match scalar(other) {
                Some(text) => {
                    return self
                        .parse(&text)
                        .map(Some)
                        .map_err(|why| format!("unexpected error setting up {name}: {why}"));
                }
                None => return wrong("a text"),
            },
        };
        Ok(Some(value))
    }
}

/// A YAML scalar as text.
fn scalar(yaml: &Yaml) -> Option<String> {
    match yaml {
        Yaml::String(text) | Yaml::Real(text) => Some(text.clone()),
        Yaml::Integer(value) => Some(value.to_string()),
        Yaml::Boolean(value) => Some(value.to_string()),
        _ => None,
    }
}

fn split(text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    text.split(',').map(str::to_owned).collect()
}
