//! `rankline filter`: JSON lines through the filter, natively or in its `.wasm`.
//!
//! Both ways take the same calls in the same order as Fluent Bit would make them, so that their output is equal byte for byte:
//! one call a record, then ticks until nothing is left.

use std::io::{BufRead as _, BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context as _;
use rank_filter::{Config, Filter, Output};
use rankline_filter_host::Host;
use serde_json::value::RawValue;

/// Arguments of `rankline filter`.
#[derive(Debug, clap::Args)]
pub struct FilterArgs {
    /// Run this module in a WASM interpreter, the way Fluent Bit does, instead of the built-in filter.
    #[arg(long, value_name = "FILE")]
    pub wasm: Option<PathBuf>,
    /// The filter's configuration (rank_filter.toml).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// One input line.
#[derive(serde::Deserialize)]
struct Input<'a> {
    #[serde(borrow)]
    tag: std::borrow::Cow<'a, str>,
    sec: u32,
    #[serde(default)]
    nsec: u32,
    #[serde(borrow)]
    record: &'a RawValue,
}

/// What takes the calls.
enum Engine {
    Native(Box<Filter>),
    Wasm(Box<Host>),
}

impl Engine {
    fn open(args: &FilterArgs, config: Config, config_text: &str) -> anyhow::Result<Self> {
        let Some(path) = &args.wasm else {
            let mut filter = Filter::new(config);
            filter.report(&Config::parse(config_text).1);
            return Ok(Engine::Native(Box::new(filter)));
        };
        let module =
            std::fs::read(path).with_context(|| format!("cannot read the module {}", path.display()))?;
        let files = args
            .config
            .iter()
            .map(|_| ("rank_filter.toml".to_owned(), config_text.as_bytes().to_vec()))
            .collect();
        let host = Host::new(&module, files).with_context(|| format!("cannot use {}", path.display()))?;
        Ok(Engine::Wasm(Box::new(host)))
    }

    /// Records that the module lost are an error: it must never trap, nor answer with anything but a record or nothing.
    fn complain(&self) -> anyhow::Result<()> {
        let Engine::Wasm(host) = self else { return Ok(()) };
        let drops = host.drops();
        anyhow::ensure!(
            drops.trap + drops.null + drops.not_object == 0,
            "the module dropped records: {} traps, {} null pointers, {} answers that are no JSON object",
            drops.trap,
            drops.null,
            drops.not_object
        );
        Ok(())
    }

    /// One call; the record that goes on, if any.
    fn call(
        &mut self,
        tag: &str,
        sec: u32,
        nsec: u32,
        record: &str,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<bool> {
        match self {
            Engine::Native(filter) => {
                match filter.record(tag.as_bytes(), sec, nsec, record.as_bytes()) {
                    Output::Unchanged => out.extend_from_slice(record.as_bytes()),
                    Output::Record(record) => out.extend_from_slice(record),
                    Output::Nothing => return Ok(false),
                }
                Ok(true)
            }
            Engine::Wasm(host) => match host.call(tag.as_bytes(), sec, nsec, record.as_bytes())? {
                Some(record) => {
                    out.extend_from_slice(record);
                    Ok(true)
                }
                None => Ok(false),
            },
        }
    }
}

/// Reads `{"tag","sec","nsec","record"}` lines from stdin, prints the output records as JSON lines.
///
/// # Errors
/// When a file can't be read, the module can't be used, or an input line was not usable.
#[allow(clippy::print_stderr)] // a command tells its user what is wrong with the input
pub fn run(args: FilterArgs) -> anyhow::Result<()> {
    let config_text = match &args.config {
        Some(path) => {
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
        }
        None => String::new(),
    };
    let config = Config::parse(&config_text).0;
    let (tick_tag, flush_ms) = (config.tick_tag.clone(), config.flush_ms);
    let mut engine = Engine::open(&args, config, &config_text)?;
    let mut printer = Printer {
        to: BufWriter::new(std::io::stdout().lock()),
        record: Vec::new(),
    };
    let (mut bad, mut last) = (0u64, (0u32, 0u32));
    // In order of first appearance; the set only answers quickly.
    let (mut tags, mut known) = (Vec::new(), std::collections::HashSet::new());
    let mut input = std::io::stdin().lock();
    let mut text = Vec::new();
    for number in 1u64.. {
        text.clear();
        if input.read_until(b'\n', &mut text).context("cannot read stdin")? == 0 {
            break;
        }
        if text.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice::<Input<'_>>(&text) {
            Ok(line) if line.record.get().starts_with('{') => {
                last = last.max((line.sec, line.nsec));
                if !known.contains(line.tag.as_ref()) {
                    known.insert(line.tag.clone().into_owned());
                    tags.push(line.tag.clone().into_owned());
                }
                printer.call(
                    &mut engine,
                    (&line.tag, &line.tag),
                    line.sec,
                    line.nsec,
                    line.record.get(),
                )?;
            }
            Ok(_) => {
                eprintln!("rankline filter: line {number}: record: expected an object");
                bad += 1;
            }
            Err(error) => {
                eprintln!(
                    "rankline filter: line {number}: {error}; expected {{\"tag\",\"sec\",\"nsec\",\"record\"}}"
                );
                bad += 1;
            }
        }
    }
    let ticks = Ticks {
        tag: &tick_tag,
        sec: last.0,
        nsec: last.1,
        wait: flush_ms / 1000 + 1,
    };
    for tag in &tags {
        ticks.drain(&mut engine, &mut printer, Some(tag))?;
    }
    ticks.drain(&mut engine, &mut printer, None)?;
    printer.to.flush().context("cannot write to stdout")?;
    engine.complain()?;
    anyhow::ensure!(bad == 0, "{bad} input lines were not usable");
    Ok(())
}

/// The ticks at the end of the input.
struct Ticks<'a> {
    tag: &'a str,
    sec: u32,
    nsec: u32,
    /// Seconds until what is held is due.
    wait: u64,
}

impl Ticks<'_> {
    /// Ticks until everything is out: the first tick sees what is held, those from `flush_ms` later on find it due. With a tag,
    /// only its records leave, and are printed with it.
    fn drain<W: Write>(
        &self,
        engine: &mut Engine,
        printer: &mut Printer<W>,
        only: Option<&str>,
    ) -> anyhow::Result<()> {
        let record = match only {
            Some(tag) => format!("{{\"tag\":{}}}", serde_json::to_string(tag)?),
            None => "{}".to_owned(),
        };
        let shown = only.unwrap_or(self.tag);
        let later = self
            .sec
            .saturating_add(u32::try_from(self.wait).unwrap_or(u32::MAX));
        printer.call(engine, (self.tag, shown), self.sec, self.nsec, &record)?;
        while printer.call(engine, (self.tag, shown), later, self.nsec, &record)? {}
        Ok(())
    }
}

struct Printer<W> {
    to: W,
    record: Vec<u8>,
}

impl<W: Write> Printer<W> {
    /// Makes a call and prints what it gives, under a tag that may differ; says whether it gave anything.
    fn call(
        &mut self,
        engine: &mut Engine,
        (tag, shown): (&str, &str),
        sec: u32,
        nsec: u32,
        record: &str,
    ) -> anyhow::Result<bool> {
        self.record.clear();
        if !engine.call(tag, sec, nsec, record, &mut self.record)? {
            return Ok(false);
        }
        let record = self.record.trim_ascii();
        let members = record.strip_suffix(b"}").unwrap_or(record);
        let comma = if members.trim_ascii_end().ends_with(b"{") {
            ""
        } else {
            ","
        };
        self.to.write_all(members)?;
        writeln!(
            self.to,
            "{comma}\"tag\":{},\"sec\":{sec},\"nsec\":{nsec}}}",
            serde_json::to_string(shown)?
        )?;
        Ok(true)
    }
}
