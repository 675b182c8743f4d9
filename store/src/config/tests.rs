#![allow(clippy::unwrap_used)]
use super::*;
use std::time::Duration;

fn load(file: &str, env: &[(&str, &str)], flags: ConfigFlags) -> Result<Config, ConfigError> {
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Config::load(flags, env, Some(("rankline.toml", file)))
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let file =
        "flush_interval = '1s'\nbatch_bytes = 1048576\ncompaction = false\n[max]\nline_bytes = '1MiB'\n";
    let env = [
        ("RANKLINE_FLUSH_INTERVAL", "2s"),
        ("RANKLINE_TENANTS_REQUIRED", "true"),
        ("HOME", "/"),
    ];
    let flags = ConfigFlags {
        flush_interval: Some("3s".into()),
        ..ConfigFlags::default()
    };
    let config = load(file, &env, flags).unwrap();
    assert_eq!(config.flush_interval, Duration::from_secs(3));
    assert_eq!(
        (config.batch_bytes.0, config.max_line_bytes.0),
        (1 << 20, 1 << 20)
    );
    assert!(config.tenants_required && !config.compaction);
    let printed = config.print();
    assert!(
        printed.contains("flush_interval = \"3s\"  # flag --flush-interval"),
        "{printed}"
    );
    assert!(printed.contains("tenants_required = \"true\"  # environment RANKLINE_TENANTS_REQUIRED"));
    assert!(printed.contains("batch_bytes = \"1MiB\"  # file rankline.toml"));
    assert!(printed.contains("# s3_endpoint is not set"));
}

#[test]
fn what_is_printed_can_be_loaded_again() {
    let first = load("", &[], ConfigFlags::default()).unwrap().print();
    let second = load(&first, &[], ConfigFlags::default()).unwrap();
    let values = |text: &str| {
        text.lines()
            .map(|l| l.split("  #").next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let kept = |text: &str| {
        values(text)
            .into_iter()
            .filter(|l| !l.starts_with('#'))
            .collect::<Vec<_>>()
    };
    assert_eq!(kept(&first), kept(&second.print()));
}

#[test]
fn the_options_stay_few_and_the_defaults_hold() {
    assert!(options::NAMES.len() < 45, "{}", options::NAMES.len());
    assert!(load("", &[], ConfigFlags::default()).is_ok());
}

#[test]
fn secrets_are_not_printed() {
    let file = "store = 's3://b'\ns3_access_key_id = 'id'\ns3_secret_access_key = 'hunter2'";
    let config = load(file, &[], ConfigFlags::default()).unwrap();
    assert!(!config.print().contains("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
}

/// Every fixture: a file that is refused, and words its message must have.
#[test]
fn bad_files_are_refused_by_name() {
    let cases: &[(&str, &[&str])] = &[
        (
            "flush_intervall = '1s'",
            &["flush_intervall", "did you mean flush_interval?", "rankline.toml"],
        ),
        (
            "[s3]\nendpont = 'x'",
            &["s3.endpont", "did you mean s3_endpoint?"],
        ),
        ("something_else = 1", &["something_else"]),
        (
            "batch_bytes = '4XB'",
            &["batch_bytes", "4XB", "file rankline.toml"],
        ),
        ("listen = 'localhost'", &["listen", "localhost", "127.0.0.1:3100"]),
        ("compaction = 'maybe'", &["compaction", "maybe"]),
        ("batch_bytes = [1]", &["batch_bytes", "array"]),
        (
            "s3_endpoint = 'https://x'",
            &["s3_endpoint", "store", "no bucket"],
        ),
        (
            "store = 's3://b'\ns3_endpoint = 'http://x'",
            &["s3_allow_http", "http://x"],
        ),
        (
            "store = 's3://b'\ns3_access_key_id = 'x'",
            &["s3_access_key_id", "s3_secret_access_key"],
        ),
        ("store = 'ftp://b'", &["ftp://b", "s3://bucket/prefix"]),
        (
            "ingest_memory_bytes = '1MiB'",
            &["push_max_bytes (100MiB)", "ingest_memory_bytes (1MiB)"],
        ),
        ("max_line_bytes = '1GiB'", &["max_line_bytes (1GiB)", "32MiB"]),
        ("path_prefix = 'logs'", &["path_prefix (logs)"]),
        ("batch_bytes = 1\n[batch]\nbytes = 2", &["set twice"]),
        ("listen = ", &["not valid TOML"]),
    ];
    for (file, words) in cases {
        let error = load(file, &[], ConfigFlags::default()).unwrap_err().to_string();
        for word in *words {
            assert!(error.contains(word), "{file:?}: {error:?} lacks {word:?}");
        }
    }
}

#[test]
fn a_misspelt_variable_is_refused_and_others_are_left_alone() {
    let error = load("", &[("RANKLINE_FLUSH_INTERVALL", "1s")], ConfigFlags::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("did you mean RANKLINE_FLUSH_INTERVAL?"), "{error}");
    assert!(load("", &[("RANKLINE_URL", "http://x")], ConfigFlags::default()).is_ok());
}
