//! The module and the native filter give the same bytes, record by record.
//!
//! Needs `dist/rank_filter.wasm` (`make wasm`); without it the tests say so and pass. They run over the samples beside this file,
//! and over the shared collections where those are at hand.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::{Path, PathBuf};

use rank_filter::{Config, Filter, Output};
use rankline_filter_host::Host;
use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn module() -> Option<Vec<u8>> {
    let path = repository().join("dist/rank_filter.wasm");
    let module = std::fs::read(&path).ok();
    if module.is_none() {
        eprintln!("skipped: no dist/rank_filter.wasm; build it with `make wasm`");
    }
    module
}

/// Both at once, call by call.
struct Pair {
    native: Filter,
    wasm: Host,
    calls: usize,
}

impl Pair {
    fn new(module: &[u8], config: Option<&str>) -> Self {
        let (parsed, problems) = Config::parse(config.unwrap_or_default());
        let mut native = Filter::new(parsed);
        native.report(&problems);
        let files = config.map(|text| ("rank_filter.toml".to_owned(), text.as_bytes().to_vec()));
        Pair {
            native,
            wasm: Host::new(module, files.into_iter().collect()).unwrap(),
            calls: 0,
        }
    }

    /// One call; whether anything came out.
    fn call(&mut self, tag: &str, sec: u32, nsec: u32, record: &str) -> bool {
        self.calls += 1;
        let native = match self.native.record(tag.as_bytes(), sec, nsec, record.as_bytes()) {
            Output::Unchanged => Some(record.as_bytes()),
            Output::Record(record) => Some(record),
            Output::Nothing => None,
        };
        let wasm = self
            .wasm
            .call(tag.as_bytes(), sec, nsec, record.as_bytes())
            .unwrap();
        let shown = |out: Option<&[u8]>| out.map(|out| String::from_utf8_lossy(out).into_owned());
        assert_eq!(shown(wasm), shown(native), "call {} with {record}", self.calls);
        native.is_some()
    }

    fn run(&mut self, file: &Path) {
        let mut last = 0;
        for line in std::fs::read_to_string(file).unwrap().lines() {
            let input: Value = serde_json::from_str(line).unwrap();
            let number = |name: &str| u32::try_from(input[name].as_u64().unwrap()).unwrap();
            last = last.max(number("sec"));
            self.call(
                input["tag"].as_str().unwrap(),
                number("sec"),
                number("nsec"),
                &input["record"].to_string(),
            );
        }
        self.call("rankline.tick", last, 0, "{}");
        while self.call("rankline.tick", last + 60, 0, "{}") {}
        let drops = self.wasm.drops();
        assert_eq!((drops.trap, drops.null, drops.not_object), (0, 0, 0));
    }
}

fn inputs(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            inputs(&path, found);
        } else if path.extension().is_some_and(|end| end == "jsonl") {
            found.push(path);
        }
    }
}

#[test]
fn samples_and_shared_cases_give_equal_bytes() {
    let Some(module) = module() else { return };
    let mut files = Vec::new();
    inputs(&repository().join("filter-wasm/host/tests/samples"), &mut files);
    assert!(!files.is_empty());
    let shared = repository().join("../shared/filter-cases");
    if shared.is_dir() {
        inputs(&shared, &mut files);
    } else {
        eprintln!("skipped: no shared cases beside the repository");
    }
    files.sort();
    // The long ones take an unoptimised interpreter a minute; they bring no other shapes.
    let all = std::env::var_os("RANKLINE_ALL_CASES").is_some();
    files.retain(|file| all || std::fs::metadata(file).unwrap().len() < 200 << 10);
    for file in files {
        Pair::new(&module, None).run(&file);
    }
}

#[test]
fn the_configuration_is_read_from_the_accessible_folder() {
    let Some(module) = module() else { return };
    let sample = repository().join("filter-wasm/host/tests/samples/torchrun-two-ranks.jsonl");
    let config = "strip_prefix = true\njob = \"from-file\"\nnonsense = 1\n";
    let mut pair = Pair::new(&module, Some(config));
    pair.run(&sample);
    let out = pair.wasm.call(b"t", 1, 0, br#"{"log":"x"}"#).unwrap().unwrap();
    assert_eq!(out, br#"{"log":"x","job":"from-file"}"#);
}

#[test]
fn long_records_pass() {
    let Some(module) = module() else { return };
    let mut pair = Pair::new(&module, None);
    for length in [100, 8 << 10, 100_000, 1 << 20] {
        assert!(pair.call(
            "t",
            1,
            0,
            &format!(r#"{{"log":"[rank1]: {}"}}"#, "x".repeat(length))
        ));
    }
    let before = pair.wasm.memory_bytes();
    for _ in 0..5 {
        pair.call(
            "t",
            1,
            0,
            &format!(r#"{{"log":"[rank1]: {}"}}"#, "y".repeat(1 << 20)),
        );
    }
    assert_eq!(pair.wasm.memory_bytes(), before, "memory grew");
}
