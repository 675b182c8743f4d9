//! What the functions of templates take: their arguments are checked against it before they are called.

/// What an argument has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Str,
    Int,
    Float,
    Time,
    /// Anything, as an interface.
    Any,
    /// Anything, as it is.
    Value,
}

impl Kind {
    /// The type's name in Go.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Str => "string",
            Self::Int => "int",
            Self::Float => "float64",
            Self::Time => "time.Time",
            Self::Any => "interface {}",
            Self::Value => "reflect.Value",
        }
    }
}

/// The arguments of one function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signature {
    pub(super) fixed: &'static [Kind],
    /// Of any number of arguments behind the fixed ones.
    pub(super) variadic: Option<Kind>,
}

impl Signature {
    pub(super) const fn of(fixed: &'static [Kind], variadic: Option<Kind>) -> Self {
        Self { fixed, variadic }
    }

    /// What the argument at `index` has to be.
    pub(super) fn kind(&self, index: usize) -> Kind {
        let kind = self.fixed.get(index).copied().or(self.variadic);
        kind.unwrap_or(Kind::Any)
    }
}

/// The signature of a function that exists.
pub(super) fn signature(name: &str) -> Signature {
    use Kind::{Any, Float, Int, Str, Time, Value};
    let (fixed, variadic): (&'static [Kind], Option<Kind>) = match name {
        "__line__" | "__timestamp__" | "now" => (&[], None),
        "ToLower" | "ToUpper" | "TrimSpace" | "urlencode" | "urldecode" | "bytes" | "duration"
        | "duration_seconds" | "b64dec" | "b64enc" | "lower" | "upper" | "title" | "trim" | "fromJson"
        | "unixToTime" => (&[Str], None),
        "Trim" | "TrimLeft" | "TrimRight" | "TrimPrefix" | "TrimSuffix" | "count" | "contains"
        | "hasPrefix" | "hasSuffix" | "trimAll" | "trimSuffix" | "trimPrefix" | "toDate" => {
            (&[Str, Str], None)
        }
        "Replace" => (&[Str, Str, Str, Int], None),
        "replace" | "regexReplaceAll" | "regexReplaceAllLiteral" | "toDateInZone" => (&[Str, Str, Str], None),
        "unixEpoch" | "unixEpochMillis" | "unixEpochNanos" => (&[Time], None),
        "alignLeft" | "alignRight" | "trunc" | "indent" | "nindent" | "repeat" => (&[Int, Str], None),
        "substr" => (&[Int, Int, Str], None),
        "int" | "float64" | "ceil" | "floor" => (&[Any], None),
        "sub" | "div" | "mod" => (&[Any, Any], None),
        "mul" | "max" | "min" | "maxf" | "minf" | "subf" | "mulf" | "divf" | "default" => (&[Any], Some(Any)),
        "round" => (&[Any, Int], Some(Float)),
        "date" => (&[Str, Any], None),
        "printf" => (&[Str], Some(Any)),
        "and" | "or" | "eq" | "index" | "slice" | "call" => (&[Value], Some(Value)),
        "not" | "len" => (&[Value], None),
        "ne" | "lt" | "le" | "gt" | "ge" => (&[Value, Value], None),
        // add, addf, print, println, html, js, urlquery
        _ => (&[], Some(Any)),
    };
    Signature { fixed, variadic }
}
