//! What one line costs: the filter beside the identity module, in both engines.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::engine::{Engine, Wasmi, Wasmtime};
use crate::lines::{self, Line};

/// The best of so many rounds over a file counts: other work on the machine only ever adds time.
const ROUNDS: u32 = 7;

/// The two modules.
pub struct Modules {
    pub filter: Vec<u8>,
    pub identity: Vec<u8>,
}

/// One kind of lines: microseconds a line, and instructions.
struct Measured {
    /// msgpack → JSON → call → JSON → msgpack.
    whole: f64,
    /// Copy in, call, copy out.
    call: f64,
}

/// Prints the table for every `*.jsonl` of the folder.
pub fn run(modules: &Modules, folder: &Path) -> Result<()> {
    println!(
        "\n| kind | lines | bytes | changed | engine | identity, µs | filter, µs | ratio | call alone, µs | fuel |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for path in inputs(folder)? {
        let kind = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let lines = lines::read(&path)?;
        let (burned, changed) = instructions(&modules.filter, &lines)?;
        let bytes = lines.iter().map(|line| line.json.len()).sum::<usize>() / lines.len().max(1);
        let head = format!("| {kind} | {} | {bytes} | {changed:.0}% |", lines.len());
        row(&head, "wasmi", &burned.to_string(), &lines, modules, |module| {
            Ok(Box::new(Wasmi::new(module, false)?))
        })?;
        row("| | | | |", "wasmtime", "", &lines, modules, |module| {
            Ok(Box::new(Wasmtime::new(module)?))
        })?;
    }
    Ok(())
}

fn inputs(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.retain(|path| path.extension().is_some_and(|end| end == "jsonl"));
    found.sort();
    Ok(found)
}

fn row(
    head: &str,
    name: &str,
    instructions: &str,
    lines: &[Line],
    modules: &Modules,
    start: impl Fn(&[u8]) -> Result<Box<dyn Engine>>,
) -> Result<()> {
    let (mut identity, mut filter) = (start(&modules.identity)?, start(&modules.filter)?);
    // In turns, so that both see the same machine.
    let (mut floor, mut ours) = (Measured::worst(), Measured::worst());
    for _ in 0..ROUNDS {
        floor.take(round(identity.as_mut(), lines)?);
        ours.take(round(filter.as_mut(), lines)?);
    }
    let (whole, call) = (
        ours.whole / floor.whole,
        format!("{:.2} / {:.2}", ours.call, floor.call),
    );
    println!(
        "{head} {name} | {:.2} | {:.2} | {whole:.2} | {call} | {instructions} |",
        floor.whole, ours.whole
    );
    Ok(())
}

impl Measured {
    fn worst() -> Self {
        Measured {
            whole: f64::MAX,
            call: f64::MAX,
        }
    }

    fn take(&mut self, other: Measured) {
        self.whole = self.whole.min(other.whole);
        self.call = self.call.min(other.call);
    }
}

fn round(engine: &mut dyn Engine, lines: &[Line]) -> Result<Measured> {
    let (mut json, mut msgpack) = (Vec::new(), Vec::new());
    let micros = |start: Instant| start.elapsed().as_secs_f64() * 1e6 / lines.len().max(1) as f64;
    let start = Instant::now();
    for line in lines {
        lines::to_json(&line.msgpack, &mut json)?;
        let answer = engine.call(&line.tag, line.sec, &json)?;
        if !answer.is_empty() {
            lines::to_msgpack(answer, &mut msgpack)?;
        }
    }
    let whole = micros(start);
    let start = Instant::now();
    for line in lines {
        engine.call(&line.tag, line.sec, &line.json)?;
    }
    Ok(Measured {
        whole,
        call: micros(start),
    })
}

/// Fuel of a call in wasmi, a weighted count of its instructions, and the share of lines that leave changed, in percent.
///
/// The same on every machine and every run: this is the figure to compare versions by.
fn instructions(module: &[u8], lines: &[Line]) -> Result<(u64, f64)> {
    let mut engine = Wasmi::new(module, true)?;
    for line in lines {
        engine.call(&line.tag, line.sec, &line.json)?;
    }
    let (before, mut changed) = (engine.fuel()?, 0u32);
    for line in lines {
        changed += u32::from(engine.call(&line.tag, line.sec, &line.json)? != line.json);
    }
    let count = lines.len().max(1);
    Ok((
        (engine.fuel()? - before) / count as u64,
        f64::from(changed) * 100.0 / count as f64,
    ))
}

/// Prints size and start-up time.
pub fn start_up(modules: &Modules) -> Result<()> {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        Wasmi::new(&modules.filter, false)?.call(b"tag", 0, b"{\"log\":\"the first line\"}")?;
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    println!(
        "module: {} bytes; from bytes to the first answer in wasmi: {best:.1} ms",
        modules.filter.len()
    );
    Ok(())
}
