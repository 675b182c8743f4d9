//! LogQL: text to syntax tree to evaluation of pipelines and samples. No I/O, no async; knows no storage.
//!
//! [`parse`] gives an [`Expr`]; a [`Pipeline`] runs the stages of a log query over entries; a [`MetricPlan`] names the
//! [`Leaf`]s of a metric query, whose [`Accumulator`]s take entries in any split, and finishes them into a [`MetricValue`].

mod advice;
mod arithmetic;
mod error;
mod eval;
mod labels;
mod matcher;
mod pipeline;
mod re2;
mod syntax;
mod template;
mod text;
pub mod units;

pub use error::{ErrorKind, EvalError, ParseError};
pub use eval::{Accumulator, EvalLimits, EvalSpec, Excerpt, Leaf, MetricPlan, MetricValue, Sample, Series};
pub use labels::{Labels, labels_text};
pub use matcher::{MatchOp, Matcher};
pub use pipeline::{
    CaptureScan, EntryRef, LabelTest, LineFilter, MetadataNeeds, Outline, OutlinedLine, Pipeline, Processed,
    Runner, Skeleton, SoleCapture, Word, json_paths, logfmt_pairs, logfmt_pairs_before_fault,
};
pub use re2::RequiredText;
pub use syntax::ast::{self, Expr, LogExpr, MetricExpr, Stage};
pub use syntax::{format_query, parse, parse_labels, parse_selector, parse_unchecked};
