//! Leaves: a range aggregation, ready to take entries.

use std::sync::Arc;

use super::window::Windows;
use super::{Accumulator, EvalLimits, EvalSpec};
use crate::Matcher;
use crate::error::ParseError;
use crate::pipeline::scratch::{Hints, NameId, Names};
use crate::pipeline::{Condition, LineFilter, MetadataNeeds, Pipeline};
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
    pub(super) windows: Windows,
    pub(super) limits: EvalLimits,
    pub(super) fold: Fold,
    /// For absent_over_time: the labels of the sample that says "absent".
    pub(super) absent: crate::Labels,
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
        pushed: Option<&Grouping>,
        spec: EvalSpec,
        limits: EvalLimits,
    ) -> Result<Self, ParseError> {
        let range = &aggregation.range;
        let grouping = aggregation.grouping.as_ref().or(pushed);
        let mut names = Names::new();
        let hints = hints(aggregation, grouping, &mut names);
        let mut pipeline = Pipeline::with_names(&range.log.stages, names)?;
        pipeline.hints = Hints {
            early: std::mem::take(&mut pipeline.hints.early),
            ..hints
        };
        let unwrap = range
            .unwrap
            .as_ref()
            .map(|unwrap| compile_unwrap(unwrap, &mut pipeline.names))
            .transpose()?;
        let groups = groups(aggregation, grouping, &mut pipeline.names);
        let windows = Windows::new(spec, range.range, range.offset);
        let plan = LeafPlan {
            matchers: range.log.matchers.clone(),
            pipeline: Arc::new(pipeline),
            op: aggregation.op,
            parameter: aggregation.parameter.unwrap_or(0.0),
            fold: fold(aggregation.op, unwrap.is_some(), windows),
            unwrap,
            groups,
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

    /// An empty accumulator: one for each worker.
    #[must_use]
    pub fn accumulator(&self) -> Accumulator {
        Accumulator::new(Arc::clone(&self.0))
    }
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
    if aggregation.op == RangeOp::AbsentOverTime
        || grouping.is_some_and(|grouping| grouping.labels.is_empty())
    {
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

/// What the rest of the query needs of the labels.
fn hints(aggregation: &RangeAggregation, grouping: Option<&Grouping>, names: &mut Names) -> Hints {
    let mut required: Vec<String> = Vec::new();
    let restricts = aggregation
        .range
        .log
        .stages
        .iter()
        .all(|stage| stage_names(stage, &mut required));
    if let Some(unwrap) = &aggregation.range.unwrap {
        required.push(unwrap.label.clone());
        unwrap
            .filters
            .iter()
            .for_each(|filter| filter_names(filter, &mut required));
    }
    let grouped = grouping.filter(|grouping| !grouping.labels.is_empty());
    required.extend(
        grouped
            .iter()
            .flat_map(|grouping| grouping.labels.iter().cloned()),
    );
    let plain: Vec<String> = required
        .iter()
        .filter_map(|name| name.strip_suffix("_extracted"))
        .map(str::to_owned)
        .collect();
    required.extend(plain);
    required.sort_unstable();
    required.dedup();
    let preserve_error = required.iter().any(|name| name == "__error__");
    let no_labels = aggregation.op == RangeOp::AbsentOverTime
        || grouping.is_some_and(|grouping| grouping.labels.is_empty());
    if !restricts {
        return Hints {
            preserve_error,
            ..Hints::default()
        };
    }
    if no_labels && required.is_empty() {
        return Hints {
            no_labels: true,
            preserve_error,
            ..Hints::default()
        };
    }
    let by = grouped.is_some_and(|grouping| !grouping.without);
    let required = (no_labels || by).then(|| required.iter().map(|name| names.intern(name)).collect());
    Hints {
        required,
        preserve_error,
        ..Hints::default()
    }
}

/// Adds the labels a stage reads; false when that cannot be said.
fn stage_names(stage: &Stage, names: &mut Vec<String>) -> bool {
    match stage {
        Stage::LabelFilter(filter) => filter_names(filter, names),
        Stage::LineFormat(text) => return template_names(text, names),
        Stage::LabelFormat(formats) => {
            for format in formats {
                match &format.value {
                    LabelFormatValue::Rename(source) => names.push(source.clone()),
                    LabelFormatValue::Template(text) if template_names(text, names) => {}
                    LabelFormatValue::Template(_) => return false,
                }
            }
        }
        _ => {}
    }
    true
}

/// Adds the labels a template reads; false when it may read any.
fn template_names(text: &str, names: &mut Vec<String>) -> bool {
    let fields = Template::parse("line", text)
        .ok()
        .and_then(|template| template.fields());
    let known = fields.is_some();
    names.extend(fields.into_iter().flatten());
    known
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
