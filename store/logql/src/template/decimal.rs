//! Decimal numbers as Loki's `addf`, `subf`, `mulf` and `divf` compute with them: 0.1 + 0.2 is 0.3.
//!
//! Operands are the shortest decimals that stand for their floats. What doesn't fit 38 digits is computed as floats.

/// Decimals behind the point of a quotient.
const QUOTIENT_PLACES: i32 = 16;

/// `digits · 10^exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    digits: i128,
    exponent: i32,
}

impl Decimal {
    /// The shortest decimal that reads as `value`; `None` for what is no number.
    pub(super) fn from_float(value: f64) -> Option<Self> {
        let text = value.is_finite().then(|| format!("{value:e}"))?;
        let (mantissa, exponent) = text.split_once('e')?;
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let places = i32::try_from(fraction.len()).ok()?;
        Some(Self {
            digits: format!("{whole}{fraction}").parse().ok()?,
            exponent: exponent.parse::<i32>().ok()?.checked_sub(places)?,
        })
    }

    /// The float next to it.
    pub(super) fn to_float(self) -> f64 {
        // Every such text is a number; beyond the range of floats it is an infinity or 0.
        format!("{}e{}", self.digits, self.exponent)
            .parse()
            .unwrap_or(f64::NAN)
    }

    pub(super) fn is_zero(self) -> bool {
        self.digits == 0
    }

    pub(super) fn plus(self, other: Self) -> Self {
        self.exact_sum(other)
            .unwrap_or_else(|| self.as_floats(other, |a, b| a + b))
    }

    pub(super) fn minus(self, other: Self) -> Self {
        self.plus(Self {
            digits: -other.digits,
            ..other
        })
    }

    pub(super) fn times(self, other: Self) -> Self {
        let exact = self.digits.checked_mul(other.digits);
        match (exact, self.exponent.checked_add(other.exponent)) {
            (Some(digits), Some(exponent)) => Self { digits, exponent },
            _ => self.as_floats(other, |a, b| a * b),
        }
    }

    /// The quotient to sixteen places, halves away from zero. `other` isn't zero.
    pub(super) fn over(self, other: Self) -> Self {
        self.rounded_quotient(other)
            .unwrap_or_else(|| self.as_floats(other, |a, b| a / b))
    }

    fn exact_sum(self, other: Self) -> Option<Self> {
        let exponent = self.exponent.min(other.exponent);
        let scaled = |one: Self| {
            one.digits
                .checked_mul(power(one.exponent.checked_sub(exponent)?)?)
        };
        Some(Self {
            digits: scaled(self)?.checked_add(scaled(other)?)?,
            exponent,
        })
    }

    fn rounded_quotient(self, other: Self) -> Option<Self> {
        let shift = self.exponent.checked_sub(other.exponent)? + QUOTIENT_PLACES;
        let (numerator, denominator) = if shift >= 0 {
            (self.digits.checked_mul(power(shift)?)?, other.digits)
        } else {
            (self.digits, other.digits.checked_mul(power(-shift)?)?)
        };
        let (quotient, rest) = (numerator.checked_div(denominator)?, numerator % denominator);
        let up = rest.unsigned_abs() >= denominator.unsigned_abs().div_ceil(2);
        let away = if (numerator < 0) == (denominator < 0) {
            1
        } else {
            -1
        };
        Some(Self {
            digits: if up { quotient + away } else { quotient },
            exponent: -QUOTIENT_PLACES,
        })
    }

    /// Where a number has too many digits: so far apart, or so long, that the float next to it says as much.
    fn as_floats(self, other: Self, compute: impl Fn(f64, f64) -> f64) -> Self {
        Self::from_float(compute(self.to_float(), other.to_float())).unwrap_or(self)
    }
}

/// 10 to a power that isn't negative.
fn power(exponent: i32) -> Option<i128> {
    10_i128.checked_pow(u32::try_from(exponent).ok()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    fn of(value: f64) -> Decimal {
        Decimal::from_float(value).unwrap()
    }

    #[test]
    fn sums_and_products_are_those_of_the_decimals() {
        assert_eq!(of(0.1).plus(of(0.2)).to_float(), 0.3);
        assert_eq!(of(1.1).times(of(1.1)).to_float(), 1.21);
        assert_eq!(of(0.3).minus(of(0.1)).to_float(), 0.2);
        let long = 9_007_199_254_740_992.0;
        assert_eq!(of(long).plus(of(0.0)).to_float(), long);
        assert_eq!(of(1e300).plus(of(1e-300)).to_float(), 1e300);
    }

    #[test]
    fn quotients_have_sixteen_places() {
        for (a, b, quotient) in [
            (1.0, 3.0, 0.333_333_333_333_333_3),
            (1.0, 30_000.0, 0.000_033_333_333_333_3),
            (2.0, -3.0, -0.666_666_666_666_666_7),
            (1.0, 1e17, 0.0),
            (5.0, 1e17, 1e-16),
            (6e20, 2.0, 3e20),
        ] {
            assert_eq!(of(a).over(of(b)).to_float(), quotient, "{a} / {b}");
        }
    }

    #[test]
    fn what_is_no_number_is_no_decimal() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Decimal::from_float(value), None);
        }
    }

    proptest! {
        #[test]
        fn floats_come_back_and_results_are_close(a in any::<f64>(), b in any::<f64>()) {
            prop_assume!(a.is_finite() && b.is_finite() && (a + b).is_finite());
            prop_assert_eq!(of(a).to_float(), a);
            let sum = of(a).plus(of(b)).to_float();
            prop_assert!((sum - (a + b)).abs() <= (a.abs().max(b.abs())) * 1e-15);
            let _ = (of(a).times(of(b)), of(a).minus(of(b)));
            if b != 0.0 {
                let _ = of(a).over(of(b));
            }
        }
    }
}
