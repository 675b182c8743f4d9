//! The syntax tree, shared by parser, printer and evaluator. Plain data: no compiled regexes except in stream matchers.

use crate::Matcher;

/// A whole query.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// Selects and shapes lines.
    Log(LogExpr),
    /// Computes samples.
    Metric(MetricExpr),
}

/// A stream selector and its pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct LogExpr {
    /// All must match the stream's labels.
    pub matchers: Vec<Matcher>,
    /// Applied from left to right.
    pub stages: Vec<Stage>,
}

/// One step of a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// `|= "a" or "b"` and its kin.
    LineFilter(LineFilterExpr),
    /// `| json` or `| json a="x.y", b`
    Json(Vec<Extraction>),
    /// `| logfmt [--strict] [--keep-empty] [a="x", b]`
    Logfmt {
        /// Stop at the first fault and set `__error__`.
        strict: bool,
        /// Keep keys without a value.
        keep_empty: bool,
        /// Only these, when not empty.
        params: Vec<Extraction>,
    },
    /// `| regexp "…"`
    Regexp(String),
    /// `| pattern "…"`
    Pattern(String),
    /// `| unpack`
    Unpack,
    /// `| level="error"`
    LabelFilter(LabelFilter),
    /// `| line_format "…"`
    LineFormat(String),
    /// `| label_format a=b, c="…"`
    LabelFormat(Vec<LabelFormat>),
    /// `| decolorize`
    Decolorize,
    /// `| drop a, b="x"`
    Drop(Vec<LabelChoice>),
    /// `| keep a, b="x"`
    Keep(Vec<LabelChoice>),
}

/// The operator of a line filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineFilterOp {
    /// `|=`
    Contains,
    /// `!=`
    NotContains,
    /// `|~`
    Regex,
    /// `!~`
    NotRegex,
    /// `|>`
    Pattern,
    /// `!>`
    NotPattern,
}

impl LineFilterOp {
    /// The operator as written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contains => "|=",
            Self::NotContains => "!=",
            Self::Regex => "|~",
            Self::NotRegex => "!~",
            Self::Pattern => "|>",
            Self::NotPattern => "!>",
        }
    }

    /// Whether the operator keeps the lines that do not match.
    #[must_use]
    pub fn is_negative(self) -> bool {
        matches!(self, Self::NotContains | Self::NotRegex | Self::NotPattern)
    }
}

/// A line filter with its `or` chain: any value may match (with a negative operator none may).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineFilterExpr {
    /// Applies to each value.
    pub op: LineFilterOp,
    /// At least one.
    pub values: Vec<LineFilterValue>,
}

/// What a line filter looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineFilterValue {
    /// A string, regular expression or pattern, as the operator says.
    Text(String),
    /// `ip("…")`: an address, a range `a-b` or a network.
    Ip(String),
}

/// `name="expression"` of `json` and `logfmt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extraction {
    /// The label to set.
    pub name: String,
    /// A path (json) or a key (logfmt).
    pub expression: String,
}

/// A condition on labels.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelFilter {
    /// Strings and regular expressions.
    Text(Matcher),
    /// `a > 5`
    Number {
        /// The label.
        name: String,
        /// The comparison.
        op: CompareOp,
        /// The literal.
        value: f64,
    },
    /// `a > 5s`
    Duration {
        /// The label.
        name: String,
        /// The comparison.
        op: CompareOp,
        /// The literal, in ns.
        nanos: i64,
    },
    /// `a > 5KB`
    Bytes {
        /// The label.
        name: String,
        /// The comparison.
        op: CompareOp,
        /// The literal, in bytes.
        bytes: u64,
        /// The literal as it is printed.
        text: String,
    },
    /// `a = ip("…")`
    Ip {
        /// The label.
        name: String,
        /// `=` (false: `!=`).
        equal: bool,
        /// The address, range or network.
        pattern: String,
    },
    /// Both must pass.
    And(Box<LabelFilter>, Box<LabelFilter>),
    /// One must pass.
    Or(Box<LabelFilter>, Box<LabelFilter>),
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompareOp {
    /// `==` (or `=` in label filters)
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
}

impl CompareOp {
    /// The operator as written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
        }
    }

    /// Applies the comparison.
    pub fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
        }
    }
}

/// One assignment of `label_format`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelFormat {
    /// The label to set.
    pub name: String,
    /// Where the value comes from.
    pub value: LabelFormatValue,
}

/// The right-hand side of a `label_format` assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelFormatValue {
    /// `dst=src`
    Rename(String),
    /// `dst="{{…}}"`
    Template(String),
}

/// What `drop` and `keep` name: a label, or a label whose value matches.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelChoice {
    /// Any value.
    Name(String),
    /// Only values that match.
    Matching(Matcher),
}

/// An expression that gives samples.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricExpr {
    /// A number.
    Literal(f64),
    /// `vector(1)`
    Vector(f64),
    /// `rate({…}[5m])`
    Range(RangeAggregation),
    /// `sum by (a) (…)`
    Aggregate(VectorAggregation),
    /// `a / b`
    Binary(Box<BinaryExpr>),
    /// `label_replace(…)`
    LabelReplace(Box<LabelReplace>),
}

/// A range aggregation.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeAggregation {
    /// The function.
    pub op: RangeOp,
    /// The quantile.
    pub parameter: Option<f64>,
    /// What it reads.
    pub range: LogRange,
    /// `by`/`without` after the parentheses.
    pub grouping: Option<Grouping>,
}

/// Lines of a sliding window.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRange {
    /// The lines.
    pub log: LogExpr,
    /// The label that becomes the sample's value.
    pub unwrap: Option<Unwrap>,
    /// Width of the window, ns.
    pub range: i64,
    /// How far the window lies in the past, ns; negative: in the future.
    pub offset: i64,
}

/// `| unwrap …` and the label filters behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Unwrap {
    /// The label.
    pub label: String,
    /// How its text becomes a number.
    pub conversion: Conversion,
    /// Filters that see the conversion's `__error__`.
    pub filters: Vec<LabelFilter>,
}

/// How an unwrapped label's text becomes a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Conversion {
    /// A float.
    Number,
    /// `bytes(l)`: humanised bytes.
    Bytes,
    /// `duration(l)`: a Go duration, in seconds.
    Duration,
    /// `duration_seconds(l)`: the same.
    DurationSeconds,
}

/// Functions over a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the LogQL function of its name")]
pub enum RangeOp {
    Rate,
    RateCounter,
    CountOverTime,
    BytesOverTime,
    BytesRate,
    SumOverTime,
    AvgOverTime,
    MinOverTime,
    MaxOverTime,
    StddevOverTime,
    StdvarOverTime,
    QuantileOverTime,
    FirstOverTime,
    LastOverTime,
    AbsentOverTime,
}

impl RangeOp {
    /// The function's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::RateCounter => "rate_counter",
            Self::CountOverTime => "count_over_time",
            Self::BytesOverTime => "bytes_over_time",
            Self::BytesRate => "bytes_rate",
            Self::SumOverTime => "sum_over_time",
            Self::AvgOverTime => "avg_over_time",
            Self::MinOverTime => "min_over_time",
            Self::MaxOverTime => "max_over_time",
            Self::StddevOverTime => "stddev_over_time",
            Self::StdvarOverTime => "stdvar_over_time",
            Self::QuantileOverTime => "quantile_over_time",
            Self::FirstOverTime => "first_over_time",
            Self::LastOverTime => "last_over_time",
            Self::AbsentOverTime => "absent_over_time",
        }
    }
}

/// `by (…)` or `without (…)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouping {
    /// `without`.
    pub without: bool,
    /// In the order written.
    pub labels: Vec<String>,
}

impl Grouping {
    /// `by ()`: everything is one group. Vector aggregations do the same without it.
    #[must_use]
    pub fn is_single(&self) -> bool {
        !self.without && self.labels.is_empty()
    }
}

/// An aggregation over the series of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorAggregation {
    /// The function.
    pub op: VectorOp,
    /// `k` of topk, bottomk and approx_topk.
    pub parameter: Option<i64>,
    /// Absent: one group.
    pub grouping: Option<Grouping>,
    /// What is aggregated.
    pub expr: Box<MetricExpr>,
}

/// Aggregations over series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the LogQL function of its name")]
pub enum VectorOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    ApproxTopk,
    Sort,
    SortDesc,
}

impl VectorOp {
    /// The function's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::Count => "count",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Topk => "topk",
            Self::Bottomk => "bottomk",
            Self::ApproxTopk => "approx_topk",
            Self::Sort => "sort",
            Self::SortDesc => "sort_desc",
        }
    }
}

/// An operator with two sides.
#[derive(Clone, Debug, PartialEq)]
pub struct BinaryExpr {
    /// The operator.
    pub op: BinaryOp,
    /// `bool`: comparisons answer 0 or 1.
    pub return_bool: bool,
    /// `on`/`ignoring` and `group_left`/`group_right`.
    pub matching: Option<Matching>,
    /// The left side.
    pub left: MetricExpr,
    /// The right side.
    pub right: MetricExpr,
}

/// Operators between metric expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
    /// `== != > >= < <=`
    Compare(CompareOp),
    /// `and`
    And,
    /// `or`
    Or,
    /// `unless`
    Unless,
}

impl BinaryOp {
    /// The operator as written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Compare(op) => op.as_str(),
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
        }
    }

    /// Whether the operator works on sets of series (`and`, `or`, `unless`).
    #[must_use]
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// Whether the operator compares.
    #[must_use]
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Compare(_))
    }
}

/// How series of the two sides find each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matching {
    /// `on (…)`; else `ignoring (…)`.
    pub on: bool,
    /// The labels named.
    pub labels: Vec<String>,
    /// `group_left`/`group_right`.
    pub group: Option<GroupSide>,
}

/// The side with many series for each one of the other side, and labels taken over from that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSide {
    /// `group_left`: the left side is the many side.
    pub left: bool,
    /// Labels copied from the other side.
    pub include: Vec<String>,
}

/// `label_replace(v, "dst", "replacement", "src", "regex")`
#[derive(Clone, Debug, PartialEq)]
pub struct LabelReplace {
    /// The series.
    pub expr: MetricExpr,
    /// The label to set.
    pub destination: String,
    /// With `$1` and `${name}`.
    pub replacement: String,
    /// The label to read.
    pub source: String,
    /// Anchored at both ends.
    pub regex: String,
}
