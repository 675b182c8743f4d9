//! What answering took, as text for people. Knows the `stats` of Loki's answers and the member that Rankline adds when
//! it is asked to explain; asks nothing.

use indicatif::{HumanBytes, HumanCount};
use serde_json::Value;

/// Lines of text about the `stats` of an answer's pages, summed. Of a service that does not explain, what Loki's own
/// counts tell.
pub fn text(pages: &[Value]) -> Vec<String> {
    let sums = Sums(pages);
    let requests = plural(pages.len() as u64, "request");
    if pages.iter().all(|stats| stats.get("rankline").is_none()) {
        return vec![format!(
            "answered in {:.3} s by {requests}: {} looked at ({}), {} passed the filters, {} returned",
            sums.number("summary/execTime"),
            plural(sums.count("summary/totalLinesProcessed"), "line"),
            sums.bytes("summary/totalBytesProcessed"),
            sums.human("summary/totalPostFilterLines"),
            sums.human("summary/totalEntriesReturned"),
        )];
    }
    vec![
        format!(
            "answered in {} by {requests}",
            time(sums.number("rankline/seconds/total") + sums.number("rankline/seconds/encode"))
        ),
        segments(&sums),
        blocks(&sums),
        lines(&sums),
        store(&sums),
        times(&sums),
    ]
}

fn segments(sums: &Sums<'_>) -> String {
    let considered = sums.count("rankline/segments/considered");
    let without = sums.count("rankline/segments/skippedByStreams");
    match (considered, without) {
        (0, _) => "segments: none in this time".to_owned(),
        (_, 0) => format!("segments: {} in this time", HumanCount(considered)),
        _ => format!(
            "segments: {} in this time, {} without these streams",
            HumanCount(considered),
            HumanCount(without)
        ),
    }
}

fn blocks(sums: &Sums<'_>) -> String {
    let reasons = [
        ("skippedByStreams", "have none of the streams"),
        ("skippedByTime", "are of another time"),
        ("skippedByLimit", "came after the limit was reached"),
        ("skippedByTemplates", "have no such text, as their templates tell"),
        ("skippedByRows", "have no row of the streams in this time"),
    ];
    let skipped = |name: &str| sums.count(&format!("rankline/blocks/{name}"));
    let left_out: u64 = reasons.iter().map(|(name, _)| skipped(name)).sum();
    let mut text = format!(
        "blocks: {} scanned, {} skipped",
        sums.human("rankline/blocks/read"),
        HumanCount(left_out)
    );
    let why: Vec<String> = reasons
        .iter()
        .filter(|(name, _)| skipped(name) > 0)
        .map(|(name, why)| format!("{} {why}", HumanCount(skipped(name))))
        .collect();
    if !why.is_empty() {
        text.push_str(&format!(" ({})", why.join(", ")));
    }
    text
}

fn lines(sums: &Sums<'_>) -> String {
    let duplicates = match sums.count("rankline/lines/duplicates") {
        0 => String::new(),
        some => format!(", {} stored twice", HumanCount(some)),
    };
    format!(
        "lines: {} in these blocks and streams ({}), {} put together from templates, {} passed the filters{duplicates}, {} returned",
        sums.human("rankline/lines/considered"),
        sums.bytes("rankline/lines/bytesConsidered"),
        sums.human("rankline/lines/putTogether"),
        sums.human("rankline/lines/passed"),
        sums.human("rankline/lines/returned"),
    )
}

fn store(sums: &Sums<'_>) -> String {
    format!(
        "store: {}, {} ({}); caches: {} decoded in memory, {} from memory, {} from disk",
        plural(sums.count("rankline/store/lists"), "listing"),
        plural(sums.count("rankline/store/gets"), "read"),
        sums.bytes("rankline/store/bytes"),
        plural(sums.count("rankline/blocks/inMemory"), "block"),
        plural(sums.count("rankline/store/rangesFromMemory"), "range"),
        sums.human("rankline/store/rangesFromDisk"),
    )
}

fn times(sums: &Sums<'_>) -> String {
    let stage = |name: &str| time(sums.number(&format!("rankline/seconds/{name}")));
    format!(
        "time: plan {}, fetch {} (all reads together), scan {} (all threads together), merge {}, encode {}",
        stage("plan"),
        stage("fetch"),
        stage("scan"),
        stage("merge"),
        stage("encode"),
    )
}

/// Sums over pages, by the path of a number in `stats`.
struct Sums<'a>(&'a [Value]);

impl Sums<'_> {
    fn number(&self, path: &str) -> f64 {
        let pointer = format!("/{path}");
        self.0
            .iter()
            .filter_map(|stats| stats.pointer(&pointer)?.as_f64())
            .sum()
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts, for people"
    )]
    fn count(&self, path: &str) -> u64 {
        self.number(path) as u64
    }

    fn human(&self, path: &str) -> HumanCount {
        HumanCount(self.count(path))
    }

    fn bytes(&self, path: &str) -> HumanBytes {
        HumanBytes(self.count(path))
    }
}

fn plural(count: u64, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", HumanCount(count))
}

fn time(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1000.0)
    } else {
        format!("{seconds:.2} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn page(read: u64) -> Value {
        json!({"summary": {}, "rankline": {
            "segments": {"considered": 12, "skippedByStreams": 3},
            "blocks": {
                "read": read, "inMemory": 2, "skippedByTime": 1200, "skippedByStreams": 0, "skippedByLimit": 7,
                "skippedByTemplates": 4, "skippedByRows": 0,
            },
            "lines": {
                "considered": 100_000, "bytesConsidered": 10 << 20, "putTogether": 40, "passed": 12, "duplicates": 0,
                "returned": 10,
            },
            "store": {
                "lists": 1, "gets": 6, "bytes": 2048, "columnBytes": 2000, "rangesFromMemory": 12, "rangesFromDisk": 2,
            },
            "seconds": {
                "total": 0.5, "plan": 0.0012, "fetch": 1.25, "scan": 0.008, "merge": 0.0001, "encode": 0.0002,
            },
        }})
    }

    #[test]
    fn pages_are_summed_and_reasons_that_did_not_come_up_are_left_out() {
        assert_eq!(
            text(&[page(1), page(4)]),
            [
                "answered in 1.00 s by 2 requests",
                "segments: 24 in this time, 6 without these streams",
                "blocks: 5 scanned, 2,422 skipped (2,400 are of another time, 14 came after the limit was reached, \
                 8 have no such text, as their templates tell)",
                "lines: 200,000 in these blocks and streams (20.00 MiB), 80 put together from templates, 24 passed the \
                 filters, 20 returned",
                "store: 2 listings, 12 reads (4.00 KiB); caches: 4 blocks decoded in memory, 24 ranges from memory, \
                 4 from disk",
                "time: plan 2.4 ms, fetch 2.50 s (all reads together), scan 16.0 ms (all threads together), merge 0.2 ms, \
                 encode 0.4 ms",
            ]
        );
    }

    #[test]
    fn a_service_that_does_not_explain_is_summed_up_by_its_own_counts() {
        let stats =
            json!({"summary": {"execTime": 0.25, "totalLinesProcessed": 7, "totalBytesProcessed": 2048}});
        assert_eq!(
            text(&[stats]),
            [
                "answered in 0.250 s by 1 request: 7 lines looked at (2.00 KiB), 0 passed the filters, 0 returned"
            ]
        );
    }
}
