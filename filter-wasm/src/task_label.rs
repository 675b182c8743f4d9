//! Numbers before lines that may be a launcher's labels: `srun --label` (` 3: `) and hydra's `-prepend-rank` (`[3] `).
//!
//! Nothing but a number says so, and ordinary output has such lines too: `ip addr`, numbered lists, `epoch: loss`, compilers'
//! line numbers. So a number is a task's only in a stream that shows it. Either what stands behind the label could not stand in
//! a list (a time, a traceback, a process's own prefix), or the numbers come in an order that neither counting nor repeating makes.
//! Labels of one launch have one width (srun pads them), so each width is believed on its own. This module knows numbers and
//! bodies of lines; what a believed number means is its caller's business.

use crate::find;
use crate::{line, prefix};

/// A number that stands before a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label {
    pub number: u32,
    /// How it is written: the column of srun's colon, or [`Label::BRACKETED`].
    pub form: usize,
    /// Bytes of the line that it takes, with the space behind it.
    pub len: usize,
}

impl Label {
    /// Most digits and padding of srun's label.
    pub(crate) const MAX_WIDTH: usize = 6;
    /// `[3] `
    pub(crate) const BRACKETED: usize = Self::MAX_WIDTH + 1;
    const FORMS: usize = Self::BRACKETED + 1;

    /// The label of a line that begins with the same text but for its digits.
    fn of_line(self, line: &[u8]) -> Option<Self> {
        let from = line.iter().position(u8::is_ascii_digit)?;
        let (number, _) = prefix::number(line, from)?;
        Some(Label { number, ..self })
    }
}

/// Points from which a form is believed.
const BELIEVED: u8 = 4;

/// What a stream showed about one form of labels.
#[derive(Debug, Clone, Copy)]
struct Form {
    points: u8,
    /// The smallest number so far: where a list that is printed again begins.
    lowest: u32,
    /// Points that were given for what lists do now and then, and are given a few times only.
    equals: u8,
    jumps: u8,
    restarts: u8,
}

impl Default for Form {
    fn default() -> Self {
        Form {
            points: 0,
            lowest: u32::MAX,
            equals: 0,
            jumps: 0,
            restarts: 0,
        }
    }
}

/// What one stream's lines showed about the numbers before them.
#[derive(Debug, Default)]
pub(crate) struct TaskLabels {
    forms: [Form; Label::FORMS],
    /// The label of the last line of stdout and of stderr, if it had one.
    last: [Option<Label>; 2],
    /// How often what is believed of a form may have changed.
    changes: u32,
}

impl TaskLabels {
    /// How often what is believed may have changed.
    pub(crate) fn changes(&self) -> u32 {
        self.changes
    }

    /// The forms that are believed, one bit each.
    pub(crate) fn believed(&self) -> u64 {
        let bit = |form: &Form| u64::from(form.points >= BELIEVED);
        self.forms.iter().fold(0, |bits, form| bits << 1 | bit(form))
    }

    /// Takes the label of a line that begins as another one with this label does, but for its digits.
    pub(crate) fn see_again(&mut self, line: &[u8], label: Label, stderr: usize) {
        // A form that is believed stays so, and the numbers of its labels are not looked at any more.
        let believed = self
            .forms
            .get(label.form)
            .is_some_and(|form| form.points >= BELIEVED);
        self.last[stderr] = if believed {
            Some(label)
        } else {
            label.of_line(line).or(Some(label))
        };
    }

    /// Takes a line's label and says whether it is believed. `body` stands behind the label; `stderr` is 1 for stderr.
    pub(crate) fn see(&mut self, label: Label, body: &[u8], stderr: usize) -> bool {
        let last = self.last[stderr].replace(label);
        let Some(form) = self.forms.get_mut(label.form) else {
            return false;
        };
        if form.points < BELIEVED {
            self.changes = self.changes.wrapping_add(1);
            form.points += points_of_body(body, label.number);
            if let Some(last) = last.filter(|last| last.form == label.form) {
                form.points += form.points_of_order(last.number, label.number, body.starts_with(b" "));
            }
            form.lowest = form.lowest.min(label.number);
        }
        form.points >= BELIEVED
    }

    /// A process behind the label said the same number of itself.
    pub(crate) fn confirm(&mut self, label: Label) {
        if let Some(form) = self.forms.get_mut(label.form)
            && form.points < BELIEVED
        {
            form.points = BELIEVED;
            self.changes = self.changes.wrapping_add(1);
        }
    }

    /// A line without a label, that is not blank and not a launcher's: launchers put their labels before every line.
    pub(crate) fn see_unlabelled(&mut self, stderr: usize) {
        if self.last[stderr].take().is_none() {
            return;
        }
        for form in &mut self.forms {
            if (1..BELIEVED).contains(&form.points) {
                self.changes = self.changes.wrapping_add(1);
                form.points = form.points.saturating_sub(1);
            }
        }
    }
}

impl Form {
    /// Lists count up by one, may have gaps, repeat a number, and begin anew; tasks that print side by side do all of it at once,
    /// and fall back to numbers in between. Before an indented text the number may be a line's (`grep -n`), but never comes twice.
    fn points_of_order(&mut self, last: u32, number: u32, indented: bool) -> u8 {
        let seldom = |times: &mut u8, most: u8| {
            let counts = *times < most;
            *times += u8::from(counts);
            u8::from(counts)
        };
        if number == last {
            if indented { 2 } else { seldom(&mut self.equals, 1) }
        } else if indented {
            0
        } else if number > last {
            u8::from(number > last + 1) * seldom(&mut self.jumps, 1)
        } else if number > self.lowest {
            3
        } else {
            seldom(&mut self.restarts, 3)
        }
    }
}

/// How surely the text behind a label is a line of a process, not an item of a list.
fn points_of_body(body: &[u8], number: u32) -> u8 {
    if line::has_time_head(body)
        || line::glog_level(body).is_some()
        || body.starts_with(line::TRACEBACK)
        || body.starts_with(b"  + Exception Group Traceback")
        || body.starts_with(b":::MLL")
        || body.starts_with(b"frame #")
        || line::is_python_frame(body)
        || line::is_python_warning(body)
        || line::contains(body, b"] NCCL ")
    {
        BELIEVED
    } else if line::has_clock(body) || names_rank(body, number) {
        3
    } else if line::is_blank(body)
        || line::level(body).is_some()
        || body.starts_with(b"+ ")
        || body.starts_with(b"++ ")
    {
        2
    } else {
        0
    }
}

/// `RANK 5: LOCAL_RANK 5, …`, `| distributed init (rank 5): env://`: the text's head says the same number.
fn names_rank(body: &[u8], number: u32) -> bool {
    let head = &body[..body.len().min(40)];
    let mut from = 0;
    while let Some(k) = find::either(b'k', b'K', &head[from..]).map(|n| n + from) {
        from = k + 1;
        if k >= 3
            && head[k - 3..k].eq_ignore_ascii_case(b"ran")
            && matches!(head.get(k + 1), Some(b' ' | b'=' | b':'))
            && prefix::number(head, k + 2).is_some_and(|(said, _)| said == number)
        {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines whose label is believed.
    fn believed(lines: &[&str]) -> Vec<usize> {
        let mut labels = TaskLabels::default();
        let mut believed = Vec::new();
        for (i, text) in lines.iter().enumerate() {
            let prefix = crate::prefix::parse(text.as_bytes());
            match prefix.label {
                Some(label) => {
                    if labels.see(label, &text.as_bytes()[label.len..], 0) {
                        believed.push(i);
                    }
                }
                None => labels.see_unlabelled(0),
            }
        }
        believed
    }

    #[test]
    fn lists_are_no_labels() {
        for lines in [
            &[
                "1: lo: <LOOPBACK,UP>",
                "    link/loopback",
                "2: eth0: <UP>",
                "    link/ether",
            ][..],
            &[
                "1: lo    inet 127.0.0.1/8",
                "1: lo    inet6 ::1/128",
                "2: eth0    inet 10.0.0.7/24",
            ],
            &[
                "0: NVIDIA H100",
                "1: NVIDIA H100",
                "2: NVIDIA H100",
                "0: NVIDIA H100",
                "1: NVIDIA H100",
            ],
            &[
                "12:     import os",
                "40:     return os.sep",
                "3:     import re",
                "7:     x",
            ],
            &[
                "0: train 2.31",
                "0: eval 2.40",
                "1: train 2.11",
                "1: eval 2.31",
                "2: train 2.0",
                "2: eval 2.2",
            ],
            &[
                "0: a", "loss 1", "0: a", "loss 2", "1: b", "loss 3", "0: a", "loss 1",
            ],
            &[" 9: nine", "10: ten", "11: eleven"],
            &["[1] J. Doe, 2019", "[2] M. Roe, 2020", "[3] A. Poe, 2021"],
            &["[1] 4711", "[1]+  Done    sleep 1"],
        ] {
            assert_eq!(believed(lines), [0usize; 0], "{lines:?}");
        }
    }

    #[test]
    fn tasks_are_believed_once_they_show_themselves() {
        // From the first line, where its text is a process's own.
        assert_eq!(
            believed(&["3: 2026-01-02 10:00:00 INFO hello", "1: hello"]),
            [0, 1]
        );
        assert_eq!(believed(&["3: Traceback (most recent call last):"]), [0]);
        assert_eq!(believed(&["7: /w/d.py:118: RuntimeWarning: 14 of 2048"]), [0]);
        // Soon, where the text is nearly that.
        assert_eq!(
            believed(&["0: DLL 2025-10-03 22:15:58 - x", "0: DLL 2025-10-03 22:15:59 - y"]),
            [1]
        );
        assert_eq!(
            believed(&["5: RANK 5: LOCAL_RANK 5", "3: RANK 3: LOCAL_RANK 3"]),
            [1]
        );
        assert_eq!(
            believed(&[
                "0:  Average Recall = 0.1",
                "0:  Average Recall = 0.2",
                "0:  Average = 1"
            ]),
            [2]
        );
        // By their order, where it is plain text.
        assert_eq!(believed(&["0: a", "3: a", "1: a", "2: a"]), [2, 3]);
        assert_eq!(believed(&["[2] a", "[0] a", "[3] a", "[1] a"]), [3]);
        assert_eq!(
            believed(&[
                "0: a", "0: b", "1: a", "0: c", "1: b", "0: d", "0: e", "1: c", "0: f"
            ]),
            [8]
        );
    }

    #[test]
    fn each_width_is_believed_on_its_own() {
        let lines = [
            " 3: 2026-01-02 10:00:00 INFO x",
            "12: y",
            "1: lo: <LOOPBACK>",
            "100: z",
        ];
        assert_eq!(believed(&lines), [0, 1]);
    }
}
