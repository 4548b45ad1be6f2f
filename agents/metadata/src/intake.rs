//! What lines cost their guest beside being requests: a long one is paid for byte by byte, before more of it is read, so that whoever
//! sends lines that are too long, or that never end, has a small share of the service (metadata.md section 8.2). Pure.

/// Bytes of a line that are free: requests are counted already, and most are this short.
pub(crate) const FREE: usize = 4 << 10;

/// How much of the line at hand was counted.
#[derive(Debug, Default)]
pub(crate) struct Meter(usize);

impl Meter {
    /// The line at hand has this many bytes by now; returns how many of them are to be paid for that were not yet.
    pub(crate) fn grown_to(&mut self, length: usize) -> usize {
        let counted = self.0.max(FREE);
        self.0 = self.0.max(length);
        length.saturating_sub(counted)
    }

    /// As [`Meter::grown_to`], for this many bytes more that are thrown away.
    pub(crate) fn grown_by(&mut self, more: usize) -> usize {
        self.grown_to(self.0.saturating_add(more))
    }

    /// The next line begins.
    pub(crate) fn next_line(&mut self) {
        self.0 = 0;
    }
}

/// What of an answer is to be paid for.
pub(crate) fn of_answer(length: usize) -> usize {
    length.saturating_sub(FREE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_beyond_the_free_ones_is_paid_for_once() {
        let mut meter = Meter::default();
        assert_eq!((meter.grown_to(100), meter.grown_to(FREE)), (0, 0));
        assert_eq!((meter.grown_to(FREE + 1), meter.grown_to(FREE + 1), meter.grown_to(FREE + 10)), (1, 0, 9));
        assert_eq!(meter.grown_by(5), 5);
        meter.next_line();
        assert_eq!(meter.grown_to(3 * FREE), 2 * FREE);
        // However a line comes, it costs the same.
        for step in [1, 7, 1000, 16 << 10] {
            let mut meter = Meter::default();
            let all: usize = (0..100_000).step_by(step).map(|length| meter.grown_to(length)).sum::<usize>() + meter.grown_to(100_000);
            assert_eq!(all, 100_000 - FREE);
        }
        assert_eq!((of_answer(FREE), of_answer(FREE + 3)), (0, 3));
    }
}
