//! `per_line MODULE INPUT.jsonl [ROUNDS]`: microseconds a line that the module's calls take in this interpreter.
//!
//! The input is what `rankline filter` reads. The host's own copying is part of the figure, as it is in Fluent Bit.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use rankline_filter_host::Host;
use serde_json::Value;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, module, input, rest @ ..] = arguments.as_slice() else {
        return Err("usage: per_line MODULE INPUT.jsonl [ROUNDS]".into());
    };
    let rounds: u32 = rest.first().map_or(Ok(20), |rounds| rounds.parse())?;
    let module = std::fs::read(module)?;
    let mut calls = Vec::new();
    for line in std::fs::read_to_string(input)?.lines() {
        let input: Value = serde_json::from_str(line)?;
        let sec = u32::try_from(input["sec"].as_u64().unwrap_or_default())?;
        calls.push((
            input["tag"].as_str().unwrap_or_default().to_owned(),
            sec,
            input["record"].to_string(),
        ));
    }
    let start = Instant::now();
    let mut host = Host::new(&module, Vec::new())?;
    println!("start: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    for round in 0..=rounds {
        let start = Instant::now();
        for (tag, sec, record) in &calls {
            host.call(tag.as_bytes(), *sec, 0, record.as_bytes())?;
        }
        if round == rounds {
            let each = start.elapsed().as_secs_f64() * 1e6 / calls.len().max(1) as f64;
            println!(
                "{each:.2} us a line over {} lines; memory {} bytes",
                calls.len(),
                host.memory_bytes()
            );
        }
    }
    Ok(())
}
