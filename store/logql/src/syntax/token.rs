//! Tokens of LogQL.

use std::fmt;

/// One token and where it starts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    /// 1-based; 0 for tokens that Loki's scanner re-reads (two-character operators, ranges, durations), as its error texts show.
    pub(super) line: u32,
    /// 1-based, in characters.
    pub(super) column: u32,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind {
    End,
    /// The lexer could not go on; the text is the error.
    Invalid(String),
    Identifier(String),
    String(String),
    Number(String),
    /// ns
    Duration(i64),
    /// Bytes, and the literal as written.
    Bytes(u64, String),
    /// `[5m]`, ns.
    Range(i64),
    /// `--strict` and the like.
    Flag(String),
    Keyword(Keyword),
    /// A function's name that stands before `(` or a grouping.
    Function(Function),
    Symbol(Symbol),
}

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum $name { $($variant,)* }

        impl $name {
            pub(super) fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            pub(super) fn from_text(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

words! {
    /// Words that are never names.
    Keyword {
        By = "by",
        Without = "without",
        Bool = "bool",
        Offset = "offset",
        On = "on",
        Ignoring = "ignoring",
        GroupLeft = "group_left",
        GroupRight = "group_right",
        Or = "or",
        And = "and",
        Unless = "unless",
        Json = "json",
        Regexp = "regexp",
        Logfmt = "logfmt",
        Unpack = "unpack",
        Pattern = "pattern",
        LabelFormat = "label_format",
        LineFormat = "line_format",
        Decolorize = "decolorize",
        Drop = "drop",
        Keep = "keep",
        Unwrap = "unwrap",
    }
}

words! {
    /// Words that are functions only before a parenthesis.
    Function {
        Rate = "rate",
        RateCounter = "rate_counter",
        CountOverTime = "count_over_time",
        BytesOverTime = "bytes_over_time",
        BytesRate = "bytes_rate",
        SumOverTime = "sum_over_time",
        AvgOverTime = "avg_over_time",
        MinOverTime = "min_over_time",
        MaxOverTime = "max_over_time",
        StddevOverTime = "stddev_over_time",
        StdvarOverTime = "stdvar_over_time",
        QuantileOverTime = "quantile_over_time",
        FirstOverTime = "first_over_time",
        LastOverTime = "last_over_time",
        AbsentOverTime = "absent_over_time",
        Vector = "vector",
        Sum = "sum",
        Avg = "avg",
        Max = "max",
        Min = "min",
        Count = "count",
        Stddev = "stddev",
        Stdvar = "stdvar",
        Topk = "topk",
        Bottomk = "bottomk",
        ApproxTopk = "approx_topk",
        Sort = "sort",
        SortDesc = "sort_desc",
        LabelReplace = "label_replace",
        BytesConversion = "bytes",
        DurationConversion = "duration",
        DurationSecondsConversion = "duration_seconds",
        Ip = "ip",
    }
}

words! {
    /// Operators and punctuation.
    Symbol {
        OpenBrace = "{",
        CloseBrace = "}",
        OpenParen = "(",
        CloseParen = ")",
        CloseBracket = "]",
        Comma = ",",
        Dot = ".",
        Equal = "=",
        DoubleEqual = "==",
        NotEqual = "!=",
        RegexMatch = "=~",
        NotRegexMatch = "!~",
        PipeContains = "|=",
        PipeRegex = "|~",
        PipePattern = "|>",
        NotPattern = "!>",
        Pipe = "|",
        Greater = ">",
        GreaterOrEqual = ">=",
        Less = "<",
        LessOrEqual = "<=",
        Plus = "+",
        Minus = "-",
        Star = "*",
        Slash = "/",
        Percent = "%",
        Caret = "^",
    }
}

impl fmt::Display for TokenKind {
    /// As Loki's grammar names the token in its errors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.write_str("$end"),
            Self::Invalid(message) => f.write_str(message),
            Self::Identifier(_) => f.write_str("IDENTIFIER"),
            Self::String(_) => f.write_str("STRING"),
            Self::Number(_) => f.write_str("NUMBER"),
            Self::Duration(_) => f.write_str("DURATION"),
            Self::Bytes(..) => f.write_str("BYTES"),
            Self::Range(_) => f.write_str("RANGE"),
            Self::Flag(_) => f.write_str("FUNCTION_FLAG"),
            Self::Keyword(keyword) => f.write_str(keyword.as_str()),
            Self::Function(Function::BytesConversion) => f.write_str("BYTES_CONV"),
            Self::Function(Function::DurationConversion) => f.write_str("DURATION_CONV"),
            Self::Function(Function::DurationSecondsConversion) => f.write_str("DURATION_SECONDS_CONV"),
            Self::Function(Function::Ip) => f.write_str("ip"),
            Self::Function(function) => f.write_str(&function.as_str().to_uppercase()),
            Self::Symbol(symbol) => f.write_str(symbol.as_str()),
        }
    }
}
