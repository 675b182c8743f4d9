//! Tracebacks that rich draws: a box of frames, then `Name: message`.

use super::{MAYBE, SURE, Shape, Start, Step, View};
use crate::line;

/// Where in the print we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rich {
    /// Inside the box.
    Box,
    /// Behind the box: the exception's line.
    End,
    /// Behind the exception's line: its wrapped message.
    Message,
    /// Behind a chain's sentence: the next box must come.
    Chained,
}

/// `╭──── Traceback (most recent call last) ────╮`, also behind the columns of rich's log handler.
pub(super) fn start(text: &[u8]) -> Option<Start> {
    if is_box_top(text) {
        Start::plain(Shape::Rich(Rich::Box))
    } else {
        None
    }
}

fn is_box_top(text: &[u8]) -> bool {
    // A narrow terminal cuts the title short: ` Traceback (most recent ca… `.
    const TITLE: &[u8] = b" Traceback (m";
    let spaces = line::indent(text);
    let drawn = text[spaces..].starts_with("╭─".as_bytes()) || text[spaces..].starts_with("┌─".as_bytes());
    let plain = text[spaces..].starts_with(b"+--");
    (drawn || plain) && line::contains(text, TITLE)
}

impl Rich {
    pub(super) fn step(&mut self, view: &View<'_>) -> Step {
        let text = line::trim_start(view.text);
        let indent = view.text.len() - text.len();
        match self {
            Rich::Box => {
                let end = ["╰", "└"].iter().any(|edge| text.starts_with(edge.as_bytes()))
                    || text.starts_with(b"+--");
                let side = text.starts_with("│".as_bytes()) || text.starts_with(b"|");
                if end {
                    *self = Rich::End;
                }
                if end || side { SURE } else { Step::Other }
            }
            // A second box shows the code that can't be compiled.
            Rich::End if text.starts_with("╭─".as_bytes()) && view.burst => {
                *self = Rich::Box;
                SURE
            }
            Rich::End => match line::exception_name(text) {
                Some(name) => {
                    *self = Rich::Message;
                    Step::Exception(indent, indent + name)
                }
                None => Step::Other,
            },
            Rich::Message if line::is_chain_sentence(text) => {
                *self = Rich::Chained;
                SURE
            }
            Rich::Message | Rich::Chained if is_box_top(view.text) => {
                if *self == Rich::Message {
                    return Step::Other;
                }
                *self = Rich::Box;
                SURE
            }
            Rich::Chained if line::is_blank(text) => MAYBE,
            Rich::Chained => Step::Other,
            Rich::Message => {
                if view.goes_on_freely() && (view.instant || !line::is_blank(text)) {
                    MAYBE
                } else {
                    Step::Other
                }
            }
        }
    }
}
