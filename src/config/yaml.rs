//! The configuration file: YAML whose keys are flag names, some of them nested.

use yaml_rust2::{Yaml, YamlLoader};

use super::args::{self, Settings, Target};
use super::flag::Kind;
use super::{Exit, Warning};

/// Keys of the two transport sections, and what they are called as flags.
const TRANSPORT: [(&str, &str, &str); 10] = [
    ("cert-file", "cert-file", "peer-cert-file"),
    ("key-file", "key-file", "peer-key-file"),
    ("client-cert-file", "client-cert-file", "peer-client-cert-file"),
    ("client-key-file", "client-key-file", "peer-client-key-file"),
    ("client-cert-auth", "client-cert-auth", "peer-client-cert-auth"),
    ("trusted-ca-file", "trusted-ca-file", "peer-trusted-ca-file"),
    ("auto-tls", "auto-tls", "peer-auto-tls"),
    // A client's common name has no flag; it is refused with the flag next to it.
    ("allowed-cn", "client-cert-allowed-hostname", "peer-cert-allowed-cn"),
    ("allowed-hostname", "client-cert-allowed-hostname", "peer-cert-allowed-hostname"),
    ("skip-client-san-verification", "", "peer-skip-client-san-verification"),
];

/// Flags that a file cannot set: they have no key in etcd.
const FLAG_ONLY: [&str; 13] = [
    "cert-file",
    "key-file",
    "client-cert-auth",
    "client-cert-file",
    "client-key-file",
    "client-crl-file",
    "trusted-ca-file",
    "auto-tls",
    "raft-read-timeout",
    "raft-write-timeout",
    "discovery-fallback",
    "config-file",
    "version",
];

/// Reads a file's text into settings. Keys that nobody knows are passed over, as in etcd.
pub(super) fn read(
    path: &str,
    text: &str,
    settings: &mut Settings,
    warnings: &mut Vec<Warning>,
) -> Result<(), Exit> {
    let refuse =
        |why: String| Exit::Refuse { message: why, fields: vec![("config-file", path.to_owned())] };
    let documents = YamlLoader::load_from_str(text)
        .map_err(|why| refuse(format!("the configuration file is no YAML: {why}")))?;
    let entries = match documents.into_iter().next() {
        None | Some(Yaml::Null | Yaml::BadValue) => return Ok(()),
        Some(Yaml::Hash(entries)) => entries,
        Some(_) => {
            return Err(refuse("the configuration file holds no keys with values".to_owned()));
        }
    };
    for (key, value) in &entries {
        let Yaml::String(key) = key else { continue };
        entry(key, value, settings, warnings).map_err(refuse)?;
    }
    Ok(())
}

fn entry(
    key: &str,
    value: &Yaml,
    settings: &mut Settings,
    warnings: &mut Vec<Warning>,
) -> Result<(), String> {
    match key {
        "client-transport-security" => {
            return section(key, value, settings, |name| transport(name, false));
        }
        "peer-transport-security" => {
            return section(key, value, settings, |name| transport(name, true));
        }
        "socket-options" => {
            return section(key, value, settings, |name| match name {
                "reuse-port" => Some("socket-reuse-port"),
                "reuse-address" => Some("socket-reuse-address"),
                _ => None,
            });
        }
        "discovery-config" => return discovery(value, settings),
        _ => {}
    }
    if FLAG_ONLY.contains(&key) || key.starts_with("peer-") || key.starts_with("discovery-cert") {
        return Ok(());
    }
    let Some((target, old)) = Target::find(key) else { return Ok(()) };
    if old {
        warnings.push(args::experimental(key, target));
    }
    match (target, value) {
        (Target::Flag(flag), value) => {
            if flag.kind != Kind::Dropped
                && let Some(value) = flag.kind.read_yaml(key, value)?
            {
                settings.set(flag, value);
            }
            Ok(())
        }
        (Target::Gate(gate), Yaml::Boolean(on)) => settings.set_gate(gate, *on),
        (Target::Gate(_), _) => Err(format!("cannot take the value of \"{key}\" as a boolean")),
    }
}

fn transport(name: &str, peer: bool) -> Option<&'static str> {
    let row = TRANSPORT.iter().find(|(key, _, _)| *key == name)?;
    Some(if peer { row.2 } else { row.1 })
}

/// Reads a nested section whose keys `flag_of` translates.
fn section(
    key: &str,
    value: &Yaml,
    settings: &mut Settings,
    flag_of: impl Fn(&str) -> Option<&'static str>,
) -> Result<(), String> {
    let entries = match value {
        Yaml::Null => return Ok(()),
        Yaml::Hash(entries) => entries,
        _ => return Err(format!("invalid {key}")),
    };
    for (name, value) in entries {
        let Yaml::String(name) = name else { continue };
        let Some(Target::Flag(flag)) =
            flag_of(name).and_then(Target::find).map(|(target, _)| target)
        else {
            continue;
        };
        if let Some(value) = flag.kind.read_yaml(&format!("{key}.{name}"), value)? {
            settings.set(flag, value);
        }
    }
    Ok(())
}

/// `discovery-config`: what matters is whether discovery is asked for.
fn discovery(value: &Yaml, settings: &mut Settings) -> Result<(), String> {
    let name = "discovery-config";
    section(name, value, settings, |name| (name == "token").then_some("discovery-token"))?;
    let Yaml::Hash(entries) = value else { return Ok(()) };
    let client = entries.get(&Yaml::String("client".to_owned())).unwrap_or(&Yaml::Null);
    section(name, client, settings, |name| (name == "endpoints").then_some("discovery-endpoints"))
}
