//! Words of bits.

/// So many ones, at most 64.
pub(crate) fn ones(count: usize) -> u64 {
    u64::MAX.checked_shr(u64::BITS - count as u32).unwrap_or(0)
}

/// The numbers of the bits that are set, in ascending order.
pub(crate) fn numbers(mut bits: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let index = bits.trailing_zeros() as usize;
        let found = bits != 0;
        bits &= bits.wrapping_sub(1);
        found.then_some(index)
    })
}

/// How many ones there are in a row, from this bit on.
pub(crate) fn row_of_ones(bits: u64, first: u32) -> u32 {
    bits.checked_shr(first).map_or(0, u64::trailing_ones)
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    #[test]
    fn the_bits_that_are_set_come_in_order() {
        let found: Vec<_> = numbers(1 << 63 | 0b1010).collect();
        assert_eq!(found, [1, 3, 63]);
        assert_eq!(numbers(0).next(), None);
    }

    #[test]
    fn a_row_ends_at_a_zero_or_with_the_word() {
        assert_eq!(row_of_ones(0b1011_0110, 1), 2);
        assert_eq!(row_of_ones(0b1011_0110, 0), 0);
        assert_eq!(row_of_ones(u64::MAX, 60), 4);
        assert_eq!(row_of_ones(u64::MAX, 0), 64);
        assert_eq!(row_of_ones(0, 64), 0);
        assert_eq!(ones(0), 0);
        assert_eq!(ones(64), u64::MAX);
    }
}
