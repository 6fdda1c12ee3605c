//! The whole way from arguments, environment and file to a configuration or a refusal.

use std::collections::BTreeSet;
use std::io;

use super::*;

fn load_with(
    args: &[&str],
    env: &[(&str, &str)],
    file: Option<&str>,
) -> Result<(Config, Vec<Warning>), Exit> {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let read =
        |_: &str| file.map(|text| text.as_bytes().to_vec()).ok_or(io::ErrorKind::NotFound.into());
    load(&args, env, &read)
}

fn config(args: &[&str]) -> Config {
    load_with(args, &[], None).unwrap_or_else(|exit| panic!("{args:?}: {exit:?}")).0
}

fn refusal(args: &[&str]) -> String {
    match load_with(args, &[], None) {
        Err(Exit::Refuse { message, .. }) => message,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn printed(args: &[&str]) -> (i32, Stream, String) {
    match load_with(args, &[], None) {
        Err(Exit::Print { code, stream, text }) => (code, stream, text),
        other => panic!("{args:?}: {other:?}"),
    }
}

#[test]
fn the_table_holds_each_name_once_and_defaults_that_read() {
    let mut names = BTreeSet::new();
    for (_, flags) in table::GROUPS {
        for flag in flags {
            assert!(names.insert(flag.name), "--{} stands twice", flag.name);
            flag.default_value();
        }
    }
    for (_, gate) in table::EXPERIMENTAL_GATES {
        assert!(GATES.iter().any(|(known, _)| *known == gate), "{gate}");
    }
}

#[test]
fn nothing_said_gives_etcds_defaults() {
    let (config, warnings) = load_with(&[], &[], None).expect("defaults");
    assert_eq!(config.name, "default");
    assert_eq!(config.data_dir, PathBuf::from("default.etcd"));
    assert_eq!((config.heartbeat_ms, config.election_ms), (100, 1000));
    assert_eq!(config.quota_bytes, Some(2 << 30));
    assert_eq!((config.max_txn_ops, config.max_request_bytes), (128, 1_572_864));
    assert_eq!(config.keepalive_min_time_ms, 5_000);
    assert_eq!(config.watch_progress_interval_ms, 600_000);
    assert_eq!(config.cors, None);
    assert_eq!(config.log, LogConfig::default());
    assert_eq!(config.listen_client[0].as_str(), "http://localhost:2379");
    assert_eq!(config.group.ids(), Ok((0x8e9e_05c5_2164_694d, 0xcdf8_1819_4e3a_8c32)));
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn flags_come_in_all_of_gos_shapes_and_the_last_one_counts() {
    let cases: [(&[&str], &str); 6] = [
        (&["--name=a"], "a"),
        (&["--name", "b"], "b"),
        (&["-name", "c"], "c"),
        (&["-name=d=e"], "d=e"),
        (&["--name", "x", "--name", "f"], "f"),
        (&["--name", "--pre-vote"], "--pre-vote"),
    ];
    for (args, expect) in cases {
        assert_eq!(config(args).name, expect, "{args:?}");
    }
    let cases: [(&[&str], bool); 4] = [
        (&["--pre-vote"], true),
        (&["--pre-vote=false"], false),
        (&["-pre-vote=F"], false),
        (&["--pre-vote=false", "--pre-vote=true"], true),
    ];
    for (args, expect) in cases {
        assert_eq!(config(args).pre_vote, expect, "{args:?}");
    }
    assert_eq!(config(&["--snapshot", "-v", "--config=x", "--name", "g"]).name, "g");
}

#[test]
fn mistakes_on_the_command_line_end_with_two_and_etcds_line() {
    let cases: [(&[&str], &str); 11] = [
        (&["--nosuch"], "flag provided but not defined: -nosuch"),
        (&["--experimental-nosuch=1"], "flag provided but not defined: -experimental-nosuch"),
        (&["--discovery=x"], "flag provided but not defined: -discovery"),
        (&["--name"], "flag needs an argument: -name"),
        (&["---x"], "bad flag syntax: ---x"),
        (&["-="], "bad flag syntax: -="),
        (
            &["--heartbeat-interval=abc"],
            "invalid value \"abc\" for flag -heartbeat-interval: parse error",
        ),
        (&["--pre-vote=x"], "invalid boolean value \"x\" for -pre-vote: parse error"),
        (
            &["--initial-cluster-state=foo"],
            "invalid value \"foo\" for flag -initial-cluster-state: invalid value",
        ),
        (
            &["--v2-deprecation=not-yet"],
            "invalid value \"not-yet\" for flag -v2-deprecation: invalid value \"not-yet\"",
        ),
        (
            &["--listen-client-urls=foo"],
            "invalid value \"foo\" for flag -listen-client-urls: URL scheme must be http, https, \
             unix, or unixs: foo",
        ),
    ];
    for (args, expect) in cases {
        let (code, stream, text) = printed(args);
        assert_eq!((code, stream, text.lines().next()), (2, Stream::Err, Some(expect)));
        assert!(text.contains("Usage:"));
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    let (code, stream, text) = printed(&["--help"]);
    assert_eq!((code, stream), (0, Stream::Out));
    assert!(text.contains("--listen-client-urls 'http://localhost:2379'"));
    assert!(text.contains("--cert-file '' (not built yet)"));
    assert!(!text.contains("wal-segment-bytes"));
    let (code, stream, text) = printed(&["--version"]);
    assert_eq!((code, stream), (0, Stream::Out));
    assert!(text.starts_with("etcd Version: 3.7.3\nRingbolt Version: "));
}

#[test]
fn what_does_not_fit_is_refused_in_etcds_words() {
    let cases: [(&[&str], &str); 22] = [
        (&["foo"], "\"foo\" is not a valid flag"),
        (&["--name", "a", "--", "--b"], "\"--b\" is not a valid flag"),
        (&["--pre-vote", "false"], "\"false\" is not a valid flag"),
        (
            &["--listen-client-urls=http://foo:2379"],
            "expected IP in URL for binding (http://foo:2379)",
        ),
        (
            &["--listen-client-urls=http://127.0.0.1:1"],
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            &["--initial-advertise-peer-urls=http://:1"],
            "--initial-advertise-peer-urls \"http://:1\" must be \"host:port\" (unexpected empty \
             host (http://:1))",
        ),
        (&["--heartbeat-interval=0"], "--heartbeat-interval must be >0 (set to 0ms)"),
        (
            &["--election-timeout=300"],
            "--election-timeout[300ms] should be at least as 5 times as \
             --heartbeat-interval[100ms]",
        ),
        (
            &["--election-timeout=60000"],
            "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
        ),
        (&["--auto-compaction-mode=foo"], "unknown auto-compaction-mode \"foo\""),
        (&["--compact-hash-check-time=0s"], "--compact-hash-check-time must be >0 (set to 0s)"),
        (
            &["--feature-gates=LeaseCheckpointPersist=true"],
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate \
             LeaseCheckpoint",
        ),
        (&["--logger=capnslog"], "--logger=capnslog is removed in v3.5"),
        (&["--log-level=foo"], "unrecognized level: \"foo\""),
        (&["--log-format=foo"], "unknown log format: foo, supported values json, console"),
        (&["--log-outputs=default,stdout"], "multi logoutput for \"default\" is not supported yet"),
        (
            &["--discovery-fallback=proxy"],
            "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
        ),
        (&["--initial-cluster=foo"], "empty URL given for \"foo\""),
        (&["--wal-depth=0"], "--wal-depth must be 1 to 16"),
        (&["--shards=17"], "--shards must be 0 to 16"),
        (
            &["--max-request-bytes=10485760"],
            "--max-request-bytes=10485760 is more than one entry of the log can hold; the most is \
             3145728",
        ),
        (
            &["--wal-segment-bytes=100"],
            "--wal-segment-bytes must be a multiple of 4096 between 8388608 and 1073741824",
        ),
    ];
    for (args, expect) in cases {
        assert_eq!(refusal(args), expect, "{args:?}");
    }
}

#[test]
fn what_would_change_security_or_durability_is_never_accepted_in_silence() {
    let cases: [&[&str]; 16] = [
        &["--cert-file=a"],
        &["--key-file=a"],
        &["--client-cert-auth"],
        &["--trusted-ca-file=a"],
        &["--auto-tls"],
        &["--tls-min-version=TLS1.3"],
        &["--auth-token=jwt,pub-key=x"],
        &["--discovery-endpoints=http://a:1"],
        &["--discovery-srv=example.org"],
        &["--force-new-cluster"],
        &["--unsafe-no-fsync"],
        &["--listen-client-http-urls=http://127.0.0.1:1"],
        &["--listen-client-urls=unix://localhost:1", "--advertise-client-urls=http://a:1"],
        &["--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=http://a:1"],
        &["--listen-metrics-urls=https://127.0.0.1:1"],
        &["--log-outputs=systemd/journal"],
    ];
    for args in cases {
        let why = refusal(args);
        assert!(why.contains("not built") || why.contains("not acknowledge"), "{args:?}: {why}");
    }
    // A default that is spelled out asks for nothing.
    config(&["--auto-tls=false", "--client-cert-auth=false", "--auto-compaction-retention=0"]);
}

#[test]
fn harmless_flags_are_accepted_with_a_warning() {
    let args = [
        "--name=a",
        "--data-dir=d",
        "--snapshot-count=5",
        "--backend-batch-interval=1s",
        "--peer-auto-tls",
        "--peer-cert-file=x",
        "--experimental-watch-progress-notify-interval=5s",
        "--experimental-initial-corrupt-check",
    ];
    let (config, warnings) = load_with(&args, &[], None).expect("harmless flags");
    assert_eq!(config.watch_progress_interval_ms, 5_000);
    assert!(config.gates.is_on("InitialCorruptCheck"));
    let texts: Vec<String> = warnings.iter().map(|w| format!("{w:?}")).collect();
    let expect = [
        "experimental-watch-progress-notify-interval",
        "experimental-initial-corrupt-check",
        "--backend-batch-interval",
        "--snapshot-count",
        "--peer-auto-tls --peer-cert-file",
    ];
    assert_eq!(texts.len(), expect.len(), "{texts:?}");
    for (text, expect) in texts.iter().zip(expect) {
        assert!(text.contains(expect), "{text} {expect}");
    }
}

#[test]
fn the_environment_fills_in_what_flags_left_open() {
    let env = [
        ("ETCD_NAME", "e"),
        ("ETCD_PRE_VOTE", "false"),
        ("ETCD_UNSUPPORTED_ARCH", "arm"),
        ("ETCD_ENABLE_V2", "false"),
        ("ETCD_EXPERIMENTAL_MAX_LEARNERS", "2"),
        ("HOME", "/"),
    ];
    let (config, warnings) = load_with(&["--data-dir=d"], &env, None).expect("environment");
    assert_eq!((config.name.as_str(), config.pre_vote), ("e", false));
    let texts: Vec<String> = warnings.iter().map(|w| format!("{w:?}")).collect();
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert!(texts[0].contains("ETCD_ENABLE_V2") && texts[1].contains("MAX_LEARNERS"));
    assert!(texts[2].contains("--max-learners"));

    let exit = load_with(&[], &[("ETCD_HEARTBEAT_INTERVAL", "x")], None).expect_err("bad value");
    let expect = "invalid value \"x\" for ETCD_HEARTBEAT_INTERVAL: parse error";
    assert_eq!(exit, Exit::refuse(expect));
}

#[test]
fn a_flag_and_its_variable_together_are_fatal() {
    for value in ["e", ""] {
        let exit = load_with(&["--name=a"], &[("ETCD_NAME", value)], None).expect_err("conflict");
        let Exit::Refuse { message, fields } = exit else { panic!("{exit:?}") };
        assert!(message.starts_with("conflicting environment variable is shadowed by"));
        assert_eq!(fields, [("environment-variable", "ETCD_NAME".to_owned())]);
    }
}

#[test]
fn a_file_counts_alone() {
    let file = "
name: f
data-dir: /d
listen-client-urls: http://127.0.0.1:1,http://127.0.0.1:0
grpc-keepalive-min-time: 7000000000
watch-progress-notify-interval: 5000000000
max-txn-ops: 9
pre-vote: false
log-outputs: [stdout]
member-name-prefix: unknown keys are passed over
experimental-initial-corrupt-check: true
socket-options: {reuse-port: true}
client-transport-security: {cert-file: '', client-cert-auth: false}
peer-transport-security: {auto-tls: true}
";
    let args = ["--config-file=c.yml", "--name=a", "--max-txn-ops=7"];
    let env = [("ETCD_NAME", "e"), ("ETCD_X", "1")];
    let (config, warnings) = load_with(&args, &env, Some(file)).expect("file");
    assert_eq!((config.name.as_str(), config.max_txn_ops), ("f", 9));
    assert_eq!(config.listen_client.len(), 2);
    assert_eq!(config.advertise_client[0].as_str(), "http://localhost:2379");
    assert_eq!((config.keepalive_min_time_ms, config.watch_progress_interval_ms), (7_000, 5_000));
    assert_eq!(config.log.outputs, [LogOutput::Stdout]);
    assert!(!config.pre_vote && config.socket_reuse_port);
    assert!(config.gates.is_on("InitialCorruptCheck"));
    assert_eq!(warnings.len(), 2, "{warnings:?}");

    let by_env = load_with(&[], &[("ETCD_CONFIG_FILE", "c.yml")], Some("name: v")).expect("file");
    assert_eq!(by_env.0.name, "v");
}

#[test]
fn bad_files_are_refused() {
    let cases = [
        (None, "open c.yml: "),
        (Some("a: [1"), "the configuration file is no YAML"),
        (Some("just text"), "the configuration file holds no keys"),
        (Some("heartbeat-interval: soon"), "cannot take the value of \"heartbeat-interval\""),
        (Some("grpc-keepalive-min-time: 5s"), "files hold integer nanoseconds"),
        (Some("listen-peer-urls: foo"), "unexpected error setting up listen-peer-urls: URL scheme"),
        (Some("peer-transport-security: 1"), "invalid peer-transport-security"),
        (Some("client-transport-security: {cert-file: x}"), "--cert-file: TLS"),
        (Some("client-transport-security: {allowed-cn: [x]}"), "TLS"),
        (Some("discovery-config: {client: {endpoints: ['http://a:1']}}"), "discovery is not built"),
        (Some("name: \"\u{0}"), "the configuration file is no YAML"),
    ];
    for (file, expect) in cases {
        match load_with(&["--config-file=c.yml"], &[], file) {
            Err(Exit::Refuse { message, .. }) => assert!(message.contains(expect), "{message}"),
            other => panic!("{file:?}: {other:?}"),
        }
    }
}

#[test]
fn shards_follow_the_cores() {
    let cases = [(1, 1), (2, 1), (4, 1), (7, 1), (8, 2), (16, 4), (64, 16), (256, 16)];
    for (cores, expect) in cases {
        assert_eq!(shards_by_rule(cores), expect);
    }
}

#[test]
fn quotas_and_retentions_read_as_in_etcd() {
    let quota = |text: &str| config(&[&format!("--quota-backend-bytes={text}")]).quota_bytes;
    assert_eq!((quota("0"), quota("-1"), quota("7")), (Some(2 << 30), None, Some(7)));
    let cases = [
        ("periodic", "0", AutoCompaction::Off),
        ("periodic", "2", AutoCompaction::PeriodMs(7_200_000)),
        ("periodic", "30m", AutoCompaction::PeriodMs(1_800_000)),
        ("periodic", "-1h", AutoCompaction::Off),
        ("revision", "1000", AutoCompaction::Revisions(1_000)),
        ("revision", "0", AutoCompaction::Off),
    ];
    for (mode, retention, expect) in cases {
        let mode = format!("--auto-compaction-mode={mode}");
        let retention = format!("--auto-compaction-retention={retention}");
        assert_eq!(config(&[&mode, &retention]).auto_compaction, expect, "{mode} {retention}");
    }
    let why = refusal(&["--auto-compaction-retention=soon"]);
    assert!(why.starts_with("error parsing CompactionRetention: "), "{why}");
}
