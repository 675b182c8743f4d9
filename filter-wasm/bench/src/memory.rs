//! Does the instance's memory stay flat? Linear memory never shrinks, so its size is its own high-water mark.
//!
//! The records are made to use everything that the filter remembers: tags that appear and go, pods with metadata, tracebacks that are
//! held and interrupted, redrawn bars, lines cut into parts of which some never end, long lines, ranks, workers, ticks.

use std::fmt::Write;

use anyhow::{Result, ensure};

use crate::engine::{Engine, Wasmtime};

/// Tags that write at one time, and records after which the oldest of them gives way to a new one.
const LIVE_TAGS: u64 = 64;
const RECORDS_PER_TAG: u64 = 500;

/// Records between two ticks; each is a millisecond of the records' time.
const TICK_EVERY: u64 = 1_000;

/// Calls with this tag are ticks.
const TICK_TAG: &[u8] = b"rankline.tick";

/// Prints the size at intervals over so many records.
pub fn run(module: &[u8], records: u64) -> Result<()> {
    let mut engine = Wasmtime::new(module)?;
    let (mut tag, mut record) = (String::new(), String::new());
    let (mut out, mut out_bytes, mut in_bytes) = (0u64, 0u64, 0u64);
    println!(
        "| records in | tags so far | MB in | records out | MB out | linear memory, bytes |\n|---|---|---|---|---|---|"
    );
    for i in 0..records {
        let sec = u32::try_from(1_764_000_000 + i / 1000)?;
        make(i, &mut tag, &mut record);
        in_bytes += record.len() as u64;
        let answer = engine.call(tag.as_bytes(), sec, record.as_bytes())?;
        (out, out_bytes) = (
            out + u64::from(!answer.is_empty()),
            out_bytes + answer.len() as u64,
        );
        if i % TICK_EVERY == 0 {
            // A tick carries out one record: the shipped configuration has several a second.
            for _ in 0..8 {
                let answer = engine.call(TICK_TAG, sec, b"{}")?;
                (out, out_bytes) = (
                    out + u64::from(!answer.is_empty()),
                    out_bytes + answer.len() as u64,
                );
            }
        }
        if shown(i + 1, records) {
            let tags = (i + 1) / RECORDS_PER_TAG + LIVE_TAGS;
            let memory = engine.memory_bytes();
            println!(
                "| {} | {tags} | {} | {out} | {} | {memory} |",
                i + 1,
                in_bytes / 1_000_000,
                out_bytes / 1_000_000
            );
        }
    }
    ensure!(out > records / 4, "the filter gave back only {out} records");
    Ok(())
}

/// 1, 2, 5, 10, 20, 50 … thousand, every tenth of the whole, and the last.
fn shown(count: u64, records: u64) -> bool {
    let mut scale = 1_000;
    while scale <= count {
        if [1, 2, 5].iter().any(|&step| count == step * scale) {
            return true;
        }
        scale *= 10;
    }
    count == records || count.is_multiple_of(records.div_ceil(10).max(1))
}

/// The record number `i` and its tag.
fn make(i: u64, tag: &mut String, record: &mut String) {
    let number = i / RECORDS_PER_TAG + i * 7 % LIVE_TAGS;
    tag.clear();
    // Writing into a string cannot fail.
    let _ = write!(
        tag,
        "kube.var.log.containers.pod-{number}_ns_trainer-{:064x}.log",
        number * 0x9e37_79b9
    );
    record.clear();
    let stream = if i % 3 == 0 { "stderr" } else { "stdout" };
    let flag = if i % 53 == 7 { "P" } else { "F" };
    let _ = write!(record, r#"{{"stream":"{stream}","logtag":"{flag}","log":""#);
    line(i, number, record);
    record.push('"');
    if number % 4 != 0 {
        let _ = write!(
            record,
            r#","kubernetes":{{"pod_name":"pod-{number}","container_name":"trainer","labels":{{"training.kubeflow.org/job-name":"job-{}","training.kubeflow.org/replica-type":"worker","training.kubeflow.org/replica-index":"{}"}}}}"#,
            number / 16,
            number % 16
        );
    }
    record.push('}');
}

/// The escaped line of the record number `i`.
fn line(i: u64, number: u64, out: &mut String) {
    let rank = i * 5 % 8;
    let _ = match i * 11 % 97 {
        0..40 => write!(
            out,
            r#":::MLLOG {{\"key\": \"tracked_stats\", \"value\": {i}, \"metadata\": {{\"lineno\": 180}}}}"#
        ),
        40..50 => write!(
            out,
            "{rank:2}: Epoch: [3]  [{i}/4571]  eta: 0:02:08    max mem: 21022"
        ),
        50..55 => write!(out, "[rank{rank}]: Traceback (most recent call last):"),
        55..70 => write!(
            out,
            r#"[rank{rank}]:   File \"/workspace/llm/layer_{i}.py\", line {i}, in forward"#
        ),
        70..75 => write!(out, "[rank{rank}]: RuntimeError: shape mismatch {i}"),
        75..80 => write!(out, "2026-11-23 18:55:54,865 - trainer - WARNING - slow step {i}"),
        80..85 => write!(
            out,
            r"Epoch 3:   6%|x   | 89/1398\rEpoch 3:  {}%|xx  | {i}/139800",
            i % 100
        ),
        85..88 => write!(
            out,
            r"(RayTrainWorker pid={i}, ip=10.0.0.{rank}) Setting up process group for: env:// [rank={rank}, world_size=8]"
        ),
        88..90 => write!(
            out,
            r"\u001b[31m/workspace/a.py:{i}: UserWarning: node {number}\u001b[0m"
        ),
        90 if i % 100 == 0 => write!(out, "{}", "long ".repeat(20_000)),
        90..93 => Ok(()),
        _ => write!(out, "terminate called after throwing an instance of 'c10::Error'"),
    };
}
