//! Reads the columns of a block that a query needs and picks its rows by stream and time.
//!
//! Reading is async and never computes; decoding runs on the workers.

use super::hot::{BlockKey, HotBlock};
use super::select::BlockTask;
use super::{Engine, QueryError, QueryStats};
use bytes::Bytes;
use rankline_logql::MetadataNeeds;
use rankline_segment::{
    BlockText, ColumnKind, ColumnMeta, Hits, Lines, MetadataColumn, SegmentError, StreamRun, TemplateLines,
};
use std::borrow::Cow;
use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// The columns beyond streams and timestamps that a scan looks at.
#[derive(Clone)]
pub(super) struct Needs {
    /// The lines' text.
    pub(super) lines: bool,
    /// What rules out that lines hold a text, where they are stored as templates; part of their text.
    pub(super) templates: bool,
    /// The lines' lengths.
    pub(super) lengths: bool,
    pub(super) metadata: MetadataNeeds,
}

impl Needs {
    pub(super) const ALL: Self = Self {
        lines: true,
        templates: true,
        lengths: true,
        metadata: MetadataNeeds::All,
    };

    /// Nothing beyond streams and timestamps.
    pub(super) const HEAD: Self = Self {
        lines: false,
        templates: false,
        lengths: false,
        metadata: MetadataNeeds::Names(Vec::new()),
    };

    /// What a first look at a block with templates needs.
    pub(super) const TEMPLATES: Self = Self {
        lines: false,
        templates: true,
        lengths: false,
        metadata: MetadataNeeds::Names(Vec::new()),
    };

    fn wants(&self, kind: &ColumnKind) -> bool {
        match kind {
            ColumnKind::Streams | ColumnKind::Timestamps => false,
            ColumnKind::LineLengths => self.lines || self.lengths,
            ColumnKind::Templates | ColumnKind::OtherText => self.lines || self.templates,
            kind if kind.is_text() => self.lines,
            ColumnKind::Metadata(name) => match &self.metadata {
                MetadataNeeds::All => true,
                MetadataNeeds::Names(names) => names.iter().any(|wanted| **wanted == **name),
            },
            _ => false,
        }
    }
}

/// A block as far as it is decoded, and the encoded columns that it lacks.
pub(super) struct Encoded {
    pub(super) hot: Arc<HotBlock>,
    columns: Vec<(ColumnMeta, Bytes)>,
}

impl Encoded {
    fn get(&self, kind: &ColumnKind) -> Option<&Bytes> {
        self.columns
            .iter()
            .find(|(column, _)| column.kind == *kind)
            .map(|(_, bytes)| bytes)
    }

    /// Bytes of a column; none when it wasn't read.
    pub(super) fn column(&self, kind: &ColumnKind) -> &[u8] {
        self.get(kind).map(Bytes::as_ref).unwrap_or_default()
    }

    pub(super) fn columns(&self) -> &[(ColumnMeta, Bytes)] {
        &self.columns
    }

    pub(super) fn bytes(&self) -> u64 {
        self.columns.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }
}

/// Neighbouring rows of one stream inside the query's time range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) stream: u32,
    pub(super) rows: Range<u32>,
    /// Another segment may hold these entries too.
    pub(super) shared: bool,
}

/// Timestamps of a block, and the rows a query looks at.
pub(super) struct Rows {
    pub(super) ts: Arc<Vec<i64>>,
    /// Ascending, apart, none empty.
    pub(super) spans: Vec<Span>,
}

impl Rows {
    /// The span that holds `row`, which must be one of the chosen rows.
    pub(super) fn span_of(&self, row: u32) -> &Span {
        let after = self.spans.partition_point(|span| span.rows.start <= row);
        &self.spans[after.saturating_sub(1)]
    }

    pub(super) fn count(&self) -> u64 {
        self.spans
            .iter()
            .map(|span| u64::from(span.rows.end - span.rows.start))
            .sum()
    }

    /// Timestamps of some of the rows.
    pub(super) fn ts_of(&self, rows: &Range<u32>) -> &[i64] {
        &self.ts[rows.start as usize..rows.end as usize]
    }
}

/// Decoded columns that [`Needs`] asked for.
pub(super) struct Body {
    hot: Arc<HotBlock>,
    lines: bool,
    lengths: bool,
    /// The lines that can pass the head filters, when that is known without a look at them.
    pub(super) candidates: Option<Hits>,
    /// Lines that were put together.
    pub(super) built: Cell<u64>,
    metadata: Vec<(Box<str>, Arc<MetadataColumn>)>,
}

/// The lines of some rows, in their order.
pub(super) enum PickedLines<'b> {
    /// Lines were not asked for.
    None,
    /// Of the whole block.
    Whole(&'b Lines),
    /// Put together for this.
    Own(Lines),
}

impl PickedLines<'_> {
    /// The line of `row`, which was the `place`-th to be picked.
    pub(super) fn get(&self, place: usize, row: u32) -> &str {
        match self {
            Self::None => "",
            Self::Whole(lines) => lines.get(row as usize),
            Self::Own(lines) => lines.get(place),
        }
    }
}

impl Body {
    /// The lines' text, if it was asked for.
    pub(super) fn text(&self) -> Option<&BlockText> {
        self.hot.text().filter(|_| self.lines)
    }

    /// The templates of the lines, if the block has some and they were asked for.
    pub(super) fn templates(&self) -> Option<&TemplateLines> {
        match self.hot.text() {
            Some(BlockText::Templates(text)) => Some(text),
            _ => None,
        }
    }

    /// The lines' lengths, if they were asked for without the text.
    pub(super) fn lengths(&self) -> Option<&[u32]> {
        self.hot.lengths().filter(|_| self.lengths)
    }

    /// The lines of `rows`.
    pub(super) fn pick(&self, rows: &[u32]) -> Result<PickedLines<'_>, SegmentError> {
        Ok(match self.text() {
            None => PickedLines::None,
            Some(BlockText::Plain(lines)) => PickedLines::Whole(lines),
            Some(BlockText::Templates(text)) => {
                self.built(rows.len());
                PickedLines::Own(text.lines(rows)?)
            }
        })
    }

    /// A column of structured metadata, if it was asked for and there is one.
    pub(super) fn metadata_column(&self, name: &str) -> Option<&Arc<MetadataColumn>> {
        let column = self.metadata.iter().find(|(known, _)| **known == *name);
        column.map(|(_, column)| column)
    }

    /// The columns of structured metadata that were asked for.
    pub(super) fn metadata_columns(&self) -> impl Iterator<Item = &Arc<MetadataColumn>> {
        self.metadata.iter().map(|(_, column)| column)
    }

    /// Counts lines that are put together.
    pub(super) fn built(&self, lines: usize) {
        self.built.set(self.built.get() + lines as u64);
    }

    /// Fills `out` with the row's structured metadata, ascending by name.
    pub(super) fn metadata<'a>(&'a self, row: u32, out: &mut Vec<(&'a str, &'a str)>) {
        out.clear();
        let values = self
            .metadata
            .iter()
            .map(|(name, column)| (&**name, column.get(row as usize)));
        out.extend(values.filter_map(|(name, value)| Some((name, value?))));
    }

    /// Bytes of each line of `rows`, from their text.
    pub(super) fn lengths_of(&self, rows: &Range<u32>) -> Result<Cow<'_, [u32]>, SegmentError> {
        let (start, end) = (rows.start as usize, rows.end as usize);
        Ok(match self.text() {
            Some(BlockText::Plain(lines)) => {
                let ends = lines.offsets()[start..=end].windows(2);
                ends.map(|pair| pair[1] - pair[0]).collect()
            }
            Some(BlockText::Templates(text)) => Cow::Borrowed(&text.lengths()?[start..end]),
            None => Cow::Borrowed(self.lengths().map_or(&[][..], |lengths| &lengths[start..end])),
        })
    }

    /// Bytes of the lines of `rows`.
    pub(super) fn line_bytes(&self, rows: &Range<u32>) -> Result<u64, SegmentError> {
        let (start, end) = (rows.start as usize, rows.end as usize);
        let sum = |lengths: &[u32]| lengths[start..end].iter().map(|length| u64::from(*length)).sum();
        Ok(match (self.text(), self.lengths()) {
            (Some(BlockText::Plain(lines)), _) => u64::from(lines.offsets()[end] - lines.offsets()[start]),
            (Some(BlockText::Templates(text)), _) => sum(text.lengths()?),
            (None, Some(lengths)) => sum(lengths),
            (None, None) => 0,
        })
    }
}

impl BlockTask {
    pub(super) fn wrong(&self, source: SegmentError) -> QueryError {
        QueryError::Segment {
            path: self.part.segment.path.to_string(),
            source,
        }
    }

    /// Decodes streams and timestamps and picks the rows of the selected streams in `start..end` (ns).
    pub(super) fn rows(&self, encoded: &Encoded, start: i64, end: i64) -> Result<Rows, QueryError> {
        let meta = self.meta();
        let head = encoded.hot.head(meta, encoded).map_err(|why| self.wrong(why))?;
        let (runs, ts) = (&head.runs, Arc::clone(&head.ts));
        let inside = meta.min_ts >= start && meta.max_ts < end;
        let mut spans = Vec::new();
        let mut selected = self.streams().iter().copied().peekable();
        for run in runs {
            while selected.next_if(|stream| *stream < run.stream).is_some() {}
            if selected.peek() != Some(&run.stream) {
                continue;
            }
            let rows = if inside {
                whole(run)
            } else {
                between(run, &ts, start, end)
            };
            if !rows.is_empty() {
                self.push_spans(run.stream, rows, &ts, &mut spans);
            }
        }
        Ok(Rows { ts, spans })
    }

    /// Cuts rows of a stream where they may also be in another segment.
    fn push_spans(&self, stream: u32, rows: Range<u32>, ts: &[i64], spans: &mut Vec<Span>) {
        let mut at = rows.start;
        let mut push = |rows: Range<u32>, shared| {
            if !rows.is_empty() {
                spans.push(Span { stream, rows, shared });
            }
        };
        for (from, to) in self.part.shared_times(stream) {
            let rest = &ts[at as usize..rows.end as usize];
            let first = at + rest.partition_point(|ts| ts < from) as u32;
            let after = at + rest.partition_point(|ts| ts <= to) as u32;
            push(at..first, false);
            push(first..after, true);
            at = after;
        }
        push(at..rows.end, false);
    }

    /// Decodes what else was fetched.
    pub(super) fn body(&self, encoded: &Encoded, needs: &Needs) -> Result<Body, QueryError> {
        let (meta, hot) = (self.meta(), &encoded.hot);
        hot.load(meta, encoded, needs).map_err(|why| self.wrong(why))?;
        let wanted = meta
            .metadata_columns()
            .filter(|(_, column)| needs.wants(&column.kind));
        let metadata = wanted.filter_map(|(name, _)| Some((name.into(), hot.metadata(name)?)));
        Ok(Body {
            hot: Arc::clone(hot),
            lines: needs.lines,
            lengths: needs.lengths && !needs.lines,
            candidates: None,
            built: Cell::default(),
            metadata: metadata.collect(),
        })
    }

    /// Names the block.
    pub(super) fn key(&self) -> BlockKey {
        (self.part.segment.key.id, self.block)
    }

    /// The lines of neighbouring rows.
    pub(super) fn lines<'b>(&self, body: &'b Body, rows: &Range<u32>) -> Result<PickedLines<'b>, QueryError> {
        let rows: Vec<u32> = rows.clone().collect();
        body.pick(&rows).map_err(|why| self.wrong(why))
    }

    /// Whether the block has any of the structured metadata of `needs`.
    pub(super) fn has_metadata(&self, needs: &Needs) -> bool {
        let columns = &self.meta().columns;
        columns
            .iter()
            .any(|column| matches!(column.kind, ColumnKind::Metadata(_)) && needs.wants(&column.kind))
    }

    /// Heap bytes that the block takes while it is scanned, about.
    pub(super) fn memory(&self, needs: &Needs) -> u64 {
        let meta = self.meta();
        let rows = u64::from(meta.rows);
        let lines = if needs.lines { meta.line_bytes } else { 0 };
        let columns = meta.columns.iter().filter(|column| needs.wants(&column.kind));
        lines
            + rows * 16
            + columns
                .map(|column| u64::from(column.len) + rows * 4)
                .sum::<u64>()
    }
}

fn is_head(kind: &ColumnKind) -> bool {
    matches!(kind, ColumnKind::Streams | ColumnKind::Timestamps)
}

fn whole(run: &StreamRun) -> Range<u32> {
    run.first_row..run.first_row + run.rows
}

/// Rows of a run (ascending in time) in `start..end` (ns).
fn between(run: &StreamRun, ts: &[i64], start: i64, end: i64) -> Range<u32> {
    let rows = whole(run);
    let times = &ts[rows.start as usize..rows.end as usize];
    let first = times.partition_point(|ts| *ts < start) as u32;
    let after = times.partition_point(|ts| *ts < end) as u32;
    rows.start + first..rows.start + after.max(first)
}

impl Engine {
    /// Reads streams and timestamps of a block.
    pub(super) async fn fetch_head(
        &self,
        task: &BlockTask,
        stats: &mut QueryStats,
    ) -> Result<Encoded, QueryError> {
        self.fetch(task, &Needs::HEAD, stats, is_head).await
    }

    /// Reads the templates of a block, and the lines without one.
    pub(super) async fn fetch_templates(
        &self,
        task: &BlockTask,
        stats: &mut QueryStats,
    ) -> Result<Encoded, QueryError> {
        let needs = &Needs::TEMPLATES;
        self.fetch(task, needs, stats, |kind| needs.wants(kind)).await
    }

    /// Reads what `needs` asks for beyond [`Engine::fetch_head`].
    pub(super) async fn fetch_body(
        &self,
        task: &BlockTask,
        needs: &Needs,
        stats: &mut QueryStats,
    ) -> Result<Encoded, QueryError> {
        self.fetch(task, needs, stats, |kind| needs.wants(kind)).await
    }

    /// Reads all that a scan needs at once.
    pub(super) async fn fetch_all(
        &self,
        task: &BlockTask,
        needs: &Needs,
        stats: &mut QueryStats,
    ) -> Result<Encoded, QueryError> {
        self.fetch(task, needs, stats, |kind| is_head(kind) || needs.wants(kind))
            .await
    }

    /// The block when all that a scan needs of it is in memory.
    pub(super) fn in_memory(&self, task: &BlockTask, needs: &Needs) -> Option<Encoded> {
        let hot = self.blocks.get(&task.key());
        let lacks = |column: &ColumnMeta| {
            (is_head(&column.kind) || needs.wants(&column.kind)) && hot.lacks(&column.kind, needs)
        };
        let is_there = !task.meta().columns.iter().any(lacks);
        is_there.then(|| Encoded {
            hot,
            columns: Vec::new(),
        })
    }

    async fn fetch(
        &self,
        task: &BlockTask,
        needs: &Needs,
        stats: &mut QueryStats,
        wanted: impl Fn(&ColumnKind) -> bool,
    ) -> Result<Encoded, QueryError> {
        let hot = self.blocks.get(&task.key());
        let columns: Vec<ColumnMeta> = task
            .meta()
            .columns
            .iter()
            .filter(|column| wanted(&column.kind) && hot.lacks(&column.kind, needs))
            .cloned()
            .collect();
        if columns.is_empty() {
            return Ok(Encoded {
                hot,
                columns: Vec::new(),
            });
        }
        let ranges: Vec<Range<u64>> = columns.iter().map(ColumnMeta::range).collect();
        let begun = Instant::now();
        let bytes = self.storage.read_ranges(&task.part.segment.path, &ranges).await?;
        stats.times.fetch += begun.elapsed();
        let encoded = Encoded {
            hot,
            columns: columns.into_iter().zip(bytes).collect(),
        };
        stats.compressed_bytes += encoded.bytes();
        Ok(encoded)
    }
}
