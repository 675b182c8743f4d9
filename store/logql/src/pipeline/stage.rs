//! Stages, compiled.

use super::format::{LabelFormatStage, LineFormatStage};
use super::json::push_sanitized;
use super::json_path::Path;
use super::label_filter::Condition;
use super::line_filter::LineFilter;
use super::logfmt::{self, LogfmtStage};
use super::pattern::ParserPattern;
use super::scratch::{NameId, Names};
use super::sole_capture::SoleCapture;
use crate::Matcher;
use crate::error::ParseError;
use crate::re2;
use crate::syntax::ast::{Extraction, LabelChoice, Stage};

/// One compiled stage.
pub(crate) enum Step {
    Filter(LineFilter),
    Json,
    JsonPaths(Vec<(NameId, Path)>),
    Logfmt(LogfmtStage),
    Regexp {
        regex: regex::Regex,
        required: Option<String>,
        groups: Vec<(usize, NameId)>,
        /// The same, where the group can be read from a part of the line.
        sole: Option<Box<SoleCapture>>,
    },
    Pattern {
        pattern: ParserPattern,
        names: Vec<NameId>,
    },
    Unpack,
    Condition(Condition),
    LineFormat(LineFormatStage),
    LabelFormat(LabelFormatStage),
    Decolorize,
    Drop(Vec<Choice>),
    Keep(Vec<Choice>),
}

/// A label named by `drop` or `keep`.
pub(crate) struct Choice {
    pub(crate) name: NameId,
    pub(crate) matcher: Option<Matcher>,
}

impl Step {
    pub(crate) fn new(stage: &Stage, names: &mut Names) -> Result<Self, ParseError> {
        Ok(match stage {
            Stage::LineFilter(expr) => Self::Filter(LineFilter::new(expr)?),
            Stage::Json(params) if params.is_empty() => Self::Json,
            Stage::Json(params) => Self::JsonPaths(json_paths(params, names, stage)?),
            Stage::Logfmt {
                strict,
                keep_empty,
                params,
            } => Self::Logfmt(LogfmtStage {
                strict: *strict,
                keep_empty: *keep_empty,
                params: logfmt_keys(params, names, stage)?,
            }),
            Stage::Regexp(pattern) => regexp(pattern, names)?,
            Stage::Pattern(text) => {
                let pattern = ParserPattern::new(text).map_err(|cause| ParseError::in_stage(stage, cause))?;
                let names = pattern.names().map(|name| names.intern(name)).collect();
                Self::Pattern { pattern, names }
            }
            Stage::Unpack => Self::Unpack,
            Stage::LabelFilter(filter) => Self::Condition(Condition::new(filter, names)?),
            Stage::LineFormat(template) => {
                let stage =
                    LineFormatStage::new(template).map_err(|cause| ParseError::in_stage(stage, cause))?;
                stage.intern_fields(names);
                Self::LineFormat(stage)
            }
            Stage::LabelFormat(formats) => Self::LabelFormat(
                LabelFormatStage::new(formats, names).map_err(|cause| ParseError::in_stage(stage, cause))?,
            ),
            Stage::Decolorize => Self::Decolorize,
            Stage::Drop(choices) => Self::Drop(label_choices(choices, names)),
            Stage::Keep(choices) => Self::Keep(label_choices(choices, names)),
        })
    }

    /// Whether line filters behind this stage stay behind it. Loki moves them in front of anything else, so a filter
    /// behind `decolorize` sees the colours.
    pub(crate) fn holds_filters(&self) -> bool {
        matches!(self, Self::LineFormat(_) | Self::Unpack | Self::Condition(_))
    }

    /// Whether the line behind this stage may be another one.
    pub(crate) fn changes_line(&self) -> bool {
        matches!(self, Self::LineFormat(_) | Self::Unpack | Self::Decolorize)
    }

    /// Whether the stage looks at the line.
    pub(crate) fn reads_line(&self) -> bool {
        !matches!(self, Self::Condition(_) | Self::Drop(_) | Self::Keep(_))
    }

    /// Whether the stage may look at any label.
    pub(crate) fn reads_all_labels(&self) -> bool {
        match self {
            Self::LineFormat(stage) => stage.reads_all_labels(),
            Self::LabelFormat(stage) => stage.reads_all_labels(),
            _ => false,
        }
    }
}

fn json_paths(
    params: &[Extraction],
    names: &mut Names,
    stage: &Stage,
) -> Result<Vec<(NameId, Path)>, ParseError> {
    let mut paths = Vec::with_capacity(params.len());
    for param in params {
        let path = Path::new(&param.expression).map_err(|cause| ParseError::in_stage(stage, cause))?;
        paths.push((names.intern(&param.name), path));
    }
    Ok(paths)
}

fn logfmt_keys(
    params: &[Extraction],
    names: &mut Names,
    stage: &Stage,
) -> Result<Vec<(NameId, String)>, ParseError> {
    let mut keys: Vec<(NameId, String)> = Vec::with_capacity(params.len());
    for param in params {
        let key = &param.expression;
        let key = logfmt::key_of_expression(key).map_err(|cause| ParseError::in_stage(stage, cause))?;
        let name = names.intern(&param.name);
        // Of several keys for one label the last counts.
        match keys.iter_mut().find(|(known, _)| *known == name) {
            Some(place) => place.1 = key,
            None => keys.push((name, key)),
        }
    }
    Ok(keys)
}

fn regexp(pattern: &str, names: &mut Names) -> Result<Step, ParseError> {
    let regex = re2::unanchored(pattern)?;
    let groups = regex.names.iter().enumerate();
    let groups: Vec<(usize, NameId)> = groups
        .filter_map(|(index, name)| {
            let mut key = String::new();
            push_sanitized(name.as_deref()?, true, &mut key);
            Some((index, names.intern(&key)))
        })
        .collect();
    let sole = SoleCapture::new(pattern).filter(|_| groups.len() == 1);
    let required = regex.required.filter(|literal| literal.len() >= 3);
    Ok(Step::Regexp {
        regex: regex.regex,
        required,
        groups,
        sole: sole.map(Box::new),
    })
}

fn label_choices(choices: &[LabelChoice], names: &mut Names) -> Vec<Choice> {
    let choice = |choice: &LabelChoice| match choice {
        LabelChoice::Name(name) => Choice {
            name: names.intern(name),
            matcher: None,
        },
        LabelChoice::Matching(matcher) => Choice {
            name: names.intern(matcher.name()),
            matcher: Some(matcher.clone()),
        },
    };
    choices.iter().map(choice).collect()
}
