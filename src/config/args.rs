//! The command line and the environment, read as etcd's server reads them.

use std::collections::BTreeMap;

use super::flag::{Flag, Kind, Support, Value};
use super::gates::Gates;
use super::{Exit, Stream, Warning, help, table};

/// What a person or a file has said; what was not said has its default.
#[derive(Debug, Default)]
pub(super) struct Settings {
    given: BTreeMap<&'static str, Value>,
}

impl Settings {
    /// Whether the flag was given at all.
    pub(super) fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The value in force.
    pub(super) fn value(&self, name: &str) -> Value {
        match self.given.get(name) {
            Some(value) => value.clone(),
            None => table::find(name).map_or_else(
                || unreachable!("--{name} is read and stands in no table"),
                Flag::default_value,
            ),
        }
    }

    /// The flags given with another value than their default, in the order of their names.
    pub(super) fn changed(&self) -> impl Iterator<Item = (&'static Flag, &Value)> {
        self.given.iter().filter_map(|(name, value)| {
            let flag = table::find(name)?;
            (*value != flag.default_value()).then_some((flag, value))
        })
    }

    /// Sets a value; a later one replaces it.
    pub(super) fn set(&mut self, flag: &'static Flag, value: Value) {
        self.given.insert(flag.name, value);
    }

    /// Turns a feature gate on or off, leaving the others as they are.
    pub(super) fn set_gate(&mut self, gate: &str, on: bool) -> Result<(), String> {
        let Some(flag) = table::find("feature-gates") else { return Ok(()) };
        let mut gates = match self.given.remove(flag.name) {
            Some(Value::Gates(gates)) => gates,
            _ => Gates::default(),
        };
        let outcome = gates.set(gate, on);
        self.given.insert(flag.name, Value::Gates(gates));
        outcome
    }
}

/// What a name on the command line, in the environment or in a file stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// A flag of the table.
    Flag(&'static Flag),
    /// A feature gate under the name of the switch that it once was.
    Gate(&'static str),
}

impl Target {
    /// Finds a name. The second field: it is an old `experimental-` name.
    pub(super) fn find(name: &str) -> Option<(Target, bool)> {
        if let Some(flag) = table::find(name) {
            return Some((Target::Flag(flag), false));
        }
        let rest = name.strip_prefix("experimental-")?;
        let gate = table::EXPERIMENTAL_GATES.iter().find(|(old, _)| *old == rest);
        if let Some((_, gate)) = gate {
            return Some((Target::Gate(gate), true));
        }
        table::find(rest).map(|flag| (Target::Flag(flag), true))
    }

    fn is_switch(self) -> bool {
        match self {
            Target::Flag(flag) => flag.kind.is_switch(),
            Target::Gate(_) => true,
        }
    }

    /// Reads `text` and sets the value.
    pub(super) fn set(self, text: &str, settings: &mut Settings) -> Result<(), String> {
        match self {
            Target::Flag(flag) => {
                let value = flag.kind.parse(text)?;
                // Gates add up over several mentions; everything else is replaced.
                if flag.kind != Kind::Dropped {
                    settings.set(flag, value);
                }
                Ok(())
            }
            Target::Gate(gate) => match Kind::Bool.parse(text)? {
                Value::Bool(on) => settings.set_gate(gate, on),
                other => unreachable!("a switch was read as {other:?}"),
            },
        }
    }
}

/// The warning for an `experimental-` name.
pub(super) fn experimental(name: &str, target: Target) -> Warning {
    let now = match target {
        Target::Flag(flag) => format!("--{}", flag.name),
        Target::Gate(gate) => format!("--feature-gates={gate}=..."),
    };
    Warning::new("an experimental name was taken for the flag that replaced it")
        .field("given", name)
        .field("flag", &now)
}

/// A command line that cannot be read: one line, the usage, exit 2.
fn unreadable(line: &str) -> Exit {
    let text = format!("{line}\n{}", help::usage());
    Exit::Print { code: 2, stream: Stream::Err, text }
}

/// Reads the arguments behind the program's name.
pub(super) fn read(
    args: &[String],
    settings: &mut Settings,
    warnings: &mut Vec<Warning>,
) -> Result<(), Exit> {
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let Some(body) = arg.strip_prefix('-').filter(|body| !body.is_empty()) else {
            return Err(positional(arg));
        };
        let body = body.strip_prefix('-').unwrap_or(body);
        if body.is_empty() {
            // "--" ends the flags; what follows would be positional.
            return rest.next().map_or(Ok(()), |next| Err(positional(next)));
        }
        if body.starts_with(['-', '=']) {
            return Err(unreadable(&format!("bad flag syntax: {arg}")));
        }
        let (name, inline) =
            body.split_once('=').map_or((body, None), |(name, value)| (name, Some(value)));
        let Some((target, old)) = Target::find(name) else {
            if matches!(name, "h" | "help") {
                return Err(Exit::Print { code: 0, stream: Stream::Out, text: help::full() });
            }
            return Err(unreadable(&format!("flag provided but not defined: -{name}")));
        };
        if old {
            warnings.push(experimental(name, target));
        }
        let text = match inline {
            Some(text) => text,
            None if target.is_switch() => "true",
            None => match rest.next() {
                Some(next) => next,
                None => return Err(unreadable(&format!("flag needs an argument: -{name}"))),
            },
        };
        target.set(text, settings).map_err(|why| {
            unreadable(&if target.is_switch() {
                format!("invalid boolean value \"{text}\" for -{name}: {why}")
            } else {
                format!("invalid value \"{text}\" for flag -{name}: {why}")
            })
        })?;
    }
    Ok(())
}

fn positional(arg: &str) -> Exit {
    Exit::refuse(format!("\"{arg}\" is not a valid flag"))
}

/// Adds what the environment says about flags that the command line left open.
pub(super) fn read_env(
    env: &BTreeMap<String, String>,
    settings: &mut Settings,
    warnings: &mut Vec<Warning>,
) -> Result<(), Exit> {
    let mut from_env = Settings::default();
    for (variable, text) in env {
        let Some(tail) = variable.strip_prefix("ETCD_") else { continue };
        if matches!(tail, "UNSUPPORTED_ARCH" | "VERSION" | "VERIFY") {
            continue;
        }
        // A name in lower case is another variable.
        let is_upper = !tail.contains(|c: char| c.is_ascii_lowercase() || c == '-');
        let name = tail.to_ascii_lowercase().replace('_', "-");
        let found = Target::find(&name).filter(|_| is_upper);
        let Some((target, old)) = found else {
            warnings.push(unrecognized(variable));
            continue;
        };
        if let Target::Flag(flag) = target
            && settings.is_given(flag.name)
        {
            return Err(Exit::Refuse {
                message: "conflicting environment variable is shadowed by corresponding \
                          command-line flag (either unset environment variable or disable flag))"
                    .to_owned(),
                fields: vec![("environment-variable", variable.clone())],
            });
        }
        if text.is_empty() {
            warnings.push(unrecognized(variable));
            continue;
        }
        if old {
            warnings.push(experimental(variable, target));
        }
        target.set(text, &mut from_env).map_err(|why| {
            Exit::refuse(format!("invalid value \"{text}\" for {variable}: {why}"))
        })?;
    }
    for (name, value) in from_env.given {
        settings.given.entry(name).or_insert(value);
    }
    Ok(())
}

fn unrecognized(variable: &str) -> Warning {
    Warning::new("unrecognized environment variable").field("environment-variable", variable)
}

/// One warning for each flag that was given and changes nothing, one for all peer flags; an
/// exit for the first that is not built and was given something else than its default.
pub(super) fn check_support(settings: &Settings, warnings: &mut Vec<Warning>) -> Result<(), Exit> {
    let mut peer = Vec::new();
    for (flag, _) in settings.changed() {
        match flag.support {
            Support::Built | Support::Own | Support::Hidden => {}
            Support::Peer => peer.push(format!("--{}", flag.name)),
            Support::Ignored(why) => warnings.push(
                Warning::new("the flag is accepted and changes nothing")
                    .field("flag", &format!("--{}", flag.name))
                    .field("reason", why),
            ),
            Support::NotBuilt(why) => {
                return Err(Exit::refuse(format!("--{}: {why}", flag.name)));
            }
        }
    }
    if !peer.is_empty() {
        warnings.push(
            Warning::new("peer flags are accepted and change nothing: there is no peer service")
                .field("flags", &peer.join(" ")),
        );
    }
    Ok(())
}
