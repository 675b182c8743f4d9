//! Arithmetic of samples, shared by the parser's folding of literals and the evaluator.

use crate::syntax::ast::BinaryOp;

/// Arithmetic on two values; a division or remainder by zero is NaN, as in Loki. Comparisons give 1 or 0.
pub(crate) fn fold(op: BinaryOp, left: f64, right: f64) -> f64 {
    match op {
        BinaryOp::Add => left + right,
        BinaryOp::Sub => left - right,
        BinaryOp::Mul => left * right,
        BinaryOp::Div if right == 0.0 => f64::NAN,
        BinaryOp::Div => left / right,
        BinaryOp::Mod if right == 0.0 => f64::NAN,
        BinaryOp::Mod => left % right,
        BinaryOp::Pow => left.powf(right),
        BinaryOp::Compare(op) => f64::from(u8::from(op.holds(&left, &right))),
        // Sets have no value of their own; the parser refuses literals here.
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => f64::NAN,
    }
}
