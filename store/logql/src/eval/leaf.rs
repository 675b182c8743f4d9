//! Leaves: a range aggregation, ready to take entries.

use std::borrow::Cow;
use std::sync::Arc;

use super::window::Windows;
use super::{Accumulator, EvalLimits, EvalSpec};
use crate::Matcher;
use crate::error::ParseError;
use crate::pipeline::scratch::{Hints, NameId, Names};
use crate::pipeline::{Condition, LabelTest, LineFilter, MetadataNeeds, Pipeline, SoleCapture};
use crate::syntax::ast::{
    Conversion, Grouping, LabelFilter, LabelFormatValue, RangeAggregation, RangeOp, Stage, Unwrap,
};
use crate::template::Template;

/// One range aggregation: what to read, and how to fold it.
#[derive(Clone)]
pub struct Leaf(pub(super) Arc<LeafPlan>);

pub(super) struct LeafPlan {
    matchers: Vec<Matcher>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) op: RangeOp,
    pub(super) parameter: f64,
    pub(super) unwrap: Option<UnwrapPlan>,
    pub(super) groups: Groups,
    /// The names of all labels of a stream that can change what becomes of an entry; `None`: any may.
    pub(super) relevant: Option<Vec<String>>,
    pub(super) windows: Windows,
    pub(super) limits: EvalLimits,
    pub(super) fold: Fold,
    /// For absent_over_time: the labels of the sample that says "absent".
    pub(super) absent: crate::Labels,
}

/// The grouping of an enclosing aggregation over vectors, which a leaf may fold by itself.
#[derive(Clone, Copy)]
pub(super) enum Pushed<'a> {
    None,
    /// As Loki does, whose parsers look for nothing else then.
    Seen(&'a Grouping),
    /// What Loki doesn't do: it must not change what parsers make of a line.
    Unseen(&'a Grouping),
}

impl<'a> Pushed<'a> {
    fn seen(self) -> Option<&'a Grouping> {
        match self {
            Pushed::Seen(grouping) => Some(grouping),
            Pushed::None | Pushed::Unseen(_) => None,
        }
    }

    fn any(self) -> Option<&'a Grouping> {
        match self {
            Pushed::Seen(grouping) | Pushed::Unseen(grouping) => Some(grouping),
            Pushed::None => None,
        }
    }
}

/// How a label becomes the value.
pub(super) struct UnwrapPlan {
    pub(super) label: NameId,
    pub(super) conversion: Conversion,
    pub(super) filters: Vec<Condition>,
}

/// Which labels make a series.
#[derive(Clone, Debug)]
pub(super) enum Groups {
    /// All that are left after the pipeline.
    All,
    /// None: one series.
    One,
    /// These, ascending by name.
    By(Vec<NameId>),
    /// All but these.
    Without(Vec<NameId>),
}

/// What is kept of the entries of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    /// How many, for each window.
    Count,
    /// How many, and their bytes, for each window.
    Bytes,
    /// The smallest or largest value, for each window: windows do not overlap.
    Extreme,
    /// Every value.
    Samples,
}

impl Leaf {
    pub(super) fn new(
        aggregation: &RangeAggregation,
        pushed: Pushed<'_>,
        spec: EvalSpec,
        limits: EvalLimits,
    ) -> Result<Self, ParseError> {
        let range = &aggregation.range;
        let grouping = aggregation.grouping.as_ref().or(pushed.seen());
        let mut names = Names::new();
        let stages = useful_stages(aggregation);
        let hints = hints(aggregation, &stages, grouping, &mut names);
        let mut pipeline = Pipeline::with_names(&stages, names)?;
        let unwrap = range
            .unwrap
            .as_ref()
            .map(|unwrap| compile_unwrap(unwrap, &mut pipeline.names))
            .transpose()?;
        pipeline.hints = Hints {
            early: early_conditions(&pipeline, unwrap.as_ref(), grouping),
            ..hints
        };
        let series = aggregation.grouping.as_ref().or(pushed.any());
        let groups = groups(aggregation, series, &mut pipeline.names);
        let knows_labels = matches!(groups, Groups::One | Groups::By(_)) && !pipeline.reads_all_labels();
        let relevant = knows_labels.then(|| pipeline.names.mentioned());
        let windows = Windows::new(spec, range.range, range.offset);
        let plan = LeafPlan {
            matchers: range.log.matchers.clone(),
            pipeline: Arc::new(pipeline),
            op: aggregation.op,
            parameter: aggregation.parameter.unwrap_or(0.0),
            fold: fold(aggregation.op, unwrap.is_some(), windows),
            unwrap,
            groups,
            relevant,
            windows,
            limits,
            absent: absent_labels(&range.log.matchers),
        };
        Ok(Self(Arc::new(plan)))
    }

    /// Which streams to read.
    #[must_use]
    pub fn matchers(&self) -> &[Matcher] {
        &self.0.matchers
    }

    /// Entries to feed: from the first (inclusive) to the second (exclusive), ns. Others are ignored.
    #[must_use]
    pub fn time_range(&self) -> (i64, i64) {
        self.0.windows.time_range()
    }

    /// Line filters that storage may apply to raw text first.
    #[must_use]
    pub fn head_filters(&self) -> &[LineFilter] {
        self.0.pipeline.head_filters()
    }

    /// Whether `add` looks at `EntryRef::line`.
    #[must_use]
    pub fn needs_line(&self) -> bool {
        self.0.pipeline.needs_line() || self.0.fold == Fold::Bytes
    }

    /// Which structured metadata `add` looks at.
    #[must_use]
    pub fn metadata_needs(&self) -> MetadataNeeds {
        let plan = &self.0;
        let pipeline = &plan.pipeline;
        match plan.groups {
            Groups::All | Groups::Without(_) => MetadataNeeds::All,
            Groups::One | Groups::By(_) if pipeline.reads_all_labels() => MetadataNeeds::All,
            // Names the stages and the grouping mention. A parsed label is renamed when metadata has its name, so the
            // name without the suffix counts, too.
            Groups::One | Groups::By(_) => MetadataNeeds::Names(pipeline.names.mentioned()),
        }
    }

    /// Only timestamps count: `add_rows` may replace `add`, whatever structured metadata the rows have.
    #[must_use]
    pub fn rows_only(&self) -> bool {
        self.rows_suffice() && self.metadata_needs() == MetadataNeeds::Names(Vec::new())
    }

    /// As [`Leaf::rows_only`], for rows that have none of the structured metadata of [`Leaf::metadata_needs`].
    #[must_use]
    pub fn rows_suffice(&self) -> bool {
        self.0.fold == Fold::Count && self.only_counts()
    }

    /// Only timestamps and line lengths count: `add_lengths` may replace `add`.
    #[must_use]
    pub fn lengths_only(&self) -> bool {
        self.lengths_suffice() && self.metadata_needs() == MetadataNeeds::Names(Vec::new())
    }

    /// As [`Leaf::lengths_only`], for rows that have none of the structured metadata of [`Leaf::metadata_needs`].
    #[must_use]
    pub fn lengths_suffice(&self) -> bool {
        self.0.fold == Fold::Bytes && self.only_counts()
    }

    fn only_counts(&self) -> bool {
        let plan = &self.0;
        plan.unwrap.is_none() && plan.pipeline.only_filters() && plan.pipeline.head_filters().is_empty()
    }

    /// The group of a `regexp` stage that is all the leaf wants of a line behind the head filters, if so: then
    /// [`Accumulator::add_excerpt`] may replace `add`.
    #[must_use]
    pub fn sole_capture(&self) -> Option<&SoleCapture> {
        self.0
            .pipeline
            .sole_capture()
            .filter(|_| self.0.fold != Fold::Bytes)
    }

    /// What conditions on labels that a parser makes imply of the stored line: see [`Pipeline::implied_filters`].
    pub fn implied_filters(&self) -> impl Iterator<Item = (&str, &LineFilter)> {
        self.0.pipeline.implied_filters()
    }

    /// Whether a parser with outlines is all that looks at a line behind the head filters: then
    /// [`Accumulator::add_excerpt`] may replace `add`.
    #[must_use]
    pub fn has_outlines(&self) -> bool {
        self.0.fold != Fold::Bytes && self.0.pipeline.has_outlines()
    }

    /// Conditions on labels that every entry that counts meets as it is stored.
    #[must_use]
    pub fn label_tests(&self) -> Vec<LabelTest<'_>> {
        self.0.pipeline.label_tests().0
    }

    /// Whether what becomes of an entry that passed the head filters depends on its labels alone, but for its length
    /// where [`Leaf::counts_bytes`].
    #[must_use]
    pub fn labels_suffice(&self) -> bool {
        !self.unwraps() && self.0.pipeline.labels_suffice()
    }

    /// Whether entries of one series and window are counted, or their bytes: so that many can be taken at once.
    #[must_use]
    pub fn folds_runs(&self) -> bool {
        matches!(self.0.fold, Fold::Count | Fold::Bytes)
    }

    /// Whether the lengths of lines are added up.
    #[must_use]
    pub fn counts_bytes(&self) -> bool {
        self.0.fold == Fold::Bytes
    }

    /// Whether the value of an entry is read from a label.
    #[must_use]
    pub fn unwraps(&self) -> bool {
        self.0.unwrap.is_some()
    }

    /// As [`Leaf::rows_suffice`] but for head filters: for entries that passed them [`Accumulator::add_passed`] may
    /// replace `add`.
    #[must_use]
    pub fn passed_rows_suffice(&self) -> bool {
        self.0.fold == Fold::Count && self.0.unwrap.is_none() && self.0.pipeline.only_filters()
    }

    /// An empty accumulator: one for each worker.
    #[must_use]
    pub fn accumulator(&self) -> Accumulator {
        Accumulator::new(Arc::clone(&self.0))
    }
}

/// The stages without a `line_format` whose line nobody reads, as Loki leaves them out: their errors do not count.
fn useful_stages(aggregation: &RangeAggregation) -> Cow<'_, [Stage]> {
    let stages = &aggregation.range.log.stages;
    let reads_line = |stage: &Stage| {
        matches!(
            stage,
            Stage::Logfmt { .. }
                | Stage::Json(_)
                | Stage::Regexp(_)
                | Stage::Pattern(_)
                | Stage::Unpack
                | Stage::LineFilter(_)
        )
    };
    let counts_bytes = matches!(aggregation.op, RangeOp::BytesOverTime | RangeOp::BytesRate);
    let last_reader = stages.iter().rposition(reads_line).unwrap_or(0);
    let is_useless =
        |(index, stage): &(usize, &Stage)| matches!(stage, Stage::LineFormat(_)) && *index >= last_reader;
    if counts_bytes || !stages.iter().enumerate().any(|pair| is_useless(&pair)) {
        return Cow::Borrowed(stages);
    }
    let kept = stages.iter().enumerate().filter(|pair| !is_useless(pair));
    Cow::Owned(kept.map(|(_, stage)| stage.clone()).collect())
}

fn fold(op: RangeOp, unwrapped: bool, windows: Windows) -> Fold {
    match op {
        RangeOp::BytesOverTime | RangeOp::BytesRate => Fold::Bytes,
        RangeOp::CountOverTime | RangeOp::AbsentOverTime => Fold::Count,
        RangeOp::Rate if !unwrapped => Fold::Count,
        RangeOp::MinOverTime | RangeOp::MaxOverTime if windows.are_disjoint() => Fold::Extreme,
        _ => Fold::Samples,
    }
}

fn compile_unwrap(unwrap: &Unwrap, names: &mut Names) -> Result<UnwrapPlan, ParseError> {
    let label = names.intern(&unwrap.label);
    let filters = unwrap.filters.iter().map(|filter| Condition::new(filter, names));
    let filters = filters.collect::<Result<_, _>>()?;
    Ok(UnwrapPlan {
        label,
        conversion: unwrap.conversion,
        filters,
    })
}

/// The labels of a series. The unwrapped label is no part of it, unless `by` names it.
fn groups(aggregation: &RangeAggregation, grouping: Option<&Grouping>, names: &mut Names) -> Groups {
    if aggregation.op == RangeOp::AbsentOverTime || grouping.is_some_and(Grouping::is_single) {
        return Groups::One;
    }
    let mut labels: Vec<&str> = Vec::new();
    let mut without = true;
    if let Some(grouping) = grouping {
        labels.extend(grouping.labels.iter().map(String::as_str));
        without = grouping.without;
    }
    if let (Some(unwrap), true) = (&aggregation.range.unwrap, without) {
        labels.push(&unwrap.label);
    }
    labels.sort_unstable();
    labels.dedup();
    let ids: Vec<NameId> = labels.into_iter().map(|label| names.intern(label)).collect();
    match (without, ids.is_empty()) {
        (true, true) => Groups::All,
        (true, false) => Groups::Without(ids),
        (false, _) => Groups::By(ids),
    }
}

/// What the rest of the query needs of the labels. Nothing is known without a grouping, and with `without`.
fn hints(
    aggregation: &RangeAggregation,
    stages: &[Stage],
    grouping: Option<&Grouping>,
    names: &mut Names,
) -> Hints {
    let mut required: Vec<String> = Vec::new();
    stages.iter().for_each(|stage| stage_names(stage, &mut required));
    if let Some(unwrap) = &aggregation.range.unwrap {
        required.push(unwrap.label.clone());
        let filters = unwrap.filters.iter();
        filters.for_each(|filter| filter_names(filter, &mut required));
    }
    required.extend(
        grouping
            .iter()
            .flat_map(|grouping| grouping.labels.iter().cloned()),
    );
    let plain = required.iter().filter_map(|name| name.strip_suffix("_extracted"));
    let plain: Vec<String> = plain.map(str::to_owned).collect();
    required.extend(plain);
    required.sort_unstable();
    required.dedup();
    let no_labels = aggregation.op == RangeOp::AbsentOverTime || grouping.is_some_and(Grouping::is_single);
    if no_labels && required.is_empty() {
        return Hints {
            no_labels: true,
            ..Hints::default()
        };
    }
    let by = grouping.is_some_and(|grouping| !grouping.without);
    if !no_labels && !by {
        return Hints::default();
    }
    Hints {
        preserve_error: required.iter().any(|name| name == "__error__"),
        required: Some(required.iter().map(|name| names.intern(name)).collect()),
        ..Hints::default()
    }
}

/// Conditions that parsers check as soon as a label is there; with `by` labels none are, as in Loki.
fn early_conditions(
    pipeline: &Pipeline,
    unwrap: Option<&UnwrapPlan>,
    grouping: Option<&Grouping>,
) -> Vec<(NameId, Condition)> {
    if grouping.is_some_and(|grouping| !grouping.without && !grouping.labels.is_empty()) {
        return Vec::new();
    }
    let mut early = pipeline.hints.early.clone();
    // Several filters behind `unwrap` are one of `and`s, which names no single label.
    if let Some([filter]) = unwrap.map(|unwrap| unwrap.filters.as_slice())
        && let Some(name) = filter.single_name()
        && !early.iter().any(|(other, _)| *other == name)
    {
        early.push((name, filter.clone()));
    }
    early
}

/// Adds the labels a stage reads.
fn stage_names(stage: &Stage, names: &mut Vec<String>) {
    match stage {
        Stage::LabelFilter(filter) => filter_names(filter, names),
        Stage::LineFormat(text) => template_names(text, names),
        Stage::LabelFormat(formats) => {
            for format in formats {
                match &format.value {
                    LabelFormatValue::Rename(source) => names.push(source.clone()),
                    LabelFormatValue::Template(text) => template_names(text, names),
                }
            }
        }
        _ => {}
    }
}

/// Adds the labels a template reads, as far as Loki sees.
fn template_names(text: &str, names: &mut Vec<String>) {
    if let Ok(template) = Template::parse("line", text) {
        names.extend(template.hinted_names());
    }
}

fn filter_names(filter: &LabelFilter, names: &mut Vec<String>) {
    let mut pending = vec![filter];
    while let Some(filter) = pending.pop() {
        match filter {
            LabelFilter::Text(matcher) => names.push(matcher.name().to_owned()),
            LabelFilter::Number { name, .. }
            | LabelFilter::Duration { name, .. }
            | LabelFilter::Bytes { name, .. }
            | LabelFilter::Ip { name, .. } => names.push(name.clone()),
            LabelFilter::And(left, right) | LabelFilter::Or(left, right) => {
                pending.push(left);
                pending.push(right);
            }
        }
    }
}

/// Labels that `=` fixes; one that comes twice or with another operator says nothing.
fn absent_labels(matchers: &[Matcher]) -> crate::Labels {
    let single = |matcher: &&Matcher| {
        matcher.op() == crate::MatchOp::Equal
            && matchers
                .iter()
                .filter(|other| other.name() == matcher.name())
                .count()
                == 1
    };
    matchers
        .iter()
        .filter(single)
        .map(|matcher| (matcher.name(), matcher.value()))
        .collect()
}
