//! Feature gates: which there are, and what the operator said of them.

use std::collections::BTreeMap;

use super::go;

/// How mature a gate's feature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Off unless asked for.
    Alpha,
    /// On unless declined.
    Beta,
}

/// The gates of etcd 3.7 with their stages; a gate's default follows from its stage.
pub const GATES: [(&str, Stage); 9] = [
    ("CompactHashCheck", Stage::Alpha),
    ("FastLeaseKeepAlive", Stage::Beta),
    ("InitialCorruptCheck", Stage::Alpha),
    ("LeaseCheckpoint", Stage::Alpha),
    ("LeaseCheckpointPersist", Stage::Alpha),
    ("PriorityRequest", Stage::Alpha),
    ("SetMemberLocalAddr", Stage::Alpha),
    ("StopGRPCServiceOnDefrag", Stage::Alpha),
    ("TxnModeWriteWithSharedBuffer", Stage::Beta),
];

/// The state of every gate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    given: BTreeMap<&'static str, bool>,
    all_alpha: bool,
    all_beta: Option<bool>,
}

impl Gates {
    /// Reads `Name=bool,...`.
    pub(super) fn parse(text: &str) -> Result<Gates, String> {
        let mut gates = Gates::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part
                .split_once('=')
                .map_or((part, None), |(name, value)| (name.trim(), Some(value.trim())));
            let Some(value) = value else {
                return Err(format!("missing bool value for {name}"));
            };
            let on = go::parse_bool(value).ok_or_else(|| {
                format!(
                    "invalid value of {name}={value}, err: strconv.ParseBool: \
                     parsing \"{value}\": invalid syntax"
                )
            })?;
            gates.set(name, on)?;
        }
        Ok(gates)
    }

    /// Sets one gate by its name.
    pub(super) fn set(&mut self, name: &str, on: bool) -> Result<(), String> {
        match name {
            "AllAlpha" => self.all_alpha = on,
            "AllBeta" => self.all_beta = Some(on),
            _ => {
                let known = GATES.iter().find(|(known, _)| *known == name);
                let (known, _) =
                    known.ok_or_else(|| format!("unrecognized feature gate: {name}"))?;
                self.given.insert(known, on);
            }
        }
        Ok(())
    }

    /// Whether a gate is on. A gate given by name wins over `AllAlpha` and `AllBeta`.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        if let Some(on) = self.given.get(name) {
            return *on;
        }
        let stage = GATES.iter().find(|(known, _)| *known == name).map(|(_, stage)| *stage);
        match stage {
            Some(Stage::Alpha) => self.all_alpha,
            Some(Stage::Beta) => self.all_beta.unwrap_or(true),
            None => false,
        }
    }

    /// Every gate with its stage, as metrics name it, and whether it is on.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
        GATES.iter().map(|(name, stage)| {
            let stage = match stage {
                Stage::Alpha => "ALPHA",
                Stage::Beta => "BETA",
            };
            (*name, stage, self.is_on(name))
        })
    }

    /// What etcd checks between gates.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.is_on("LeaseCheckpointPersist") && !self.is_on("LeaseCheckpoint") {
            return Err("enabling feature gate LeaseCheckpointPersist requires enabling feature \
                        gate LeaseCheckpoint"
                .to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_default_by_stage_and_follow_what_is_given() {
        let cases = [
            ("", "FastLeaseKeepAlive", true),
            ("", "InitialCorruptCheck", false),
            ("InitialCorruptCheck=true", "InitialCorruptCheck", true),
            ("AllAlpha=true", "PriorityRequest", true),
            ("PriorityRequest=false,AllAlpha=true", "PriorityRequest", false),
            ("AllBeta=false", "FastLeaseKeepAlive", false),
        ];
        for (text, gate, expect) in cases {
            assert_eq!(Gates::parse(text).expect(text).is_on(gate), expect, "{text} {gate}");
        }
    }

    #[test]
    fn bad_gates_are_refused_in_etcds_words() {
        let cases = [
            ("Foo=true", "unrecognized feature gate: Foo"),
            ("AllAlpha", "missing bool value for AllAlpha"),
            (
                "AllAlpha=zz",
                "invalid value of AllAlpha=zz, err: strconv.ParseBool: parsing \"zz\": \
                 invalid syntax",
            ),
        ];
        for (text, expect) in cases {
            assert_eq!(Gates::parse(text), Err(expect.to_owned()));
        }
        assert!(Gates::parse("LeaseCheckpointPersist=true").expect("gates").check().is_err());
    }
}
