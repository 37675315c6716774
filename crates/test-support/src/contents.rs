//! What stands in blocks.

use crate::Numbers;

/// Writes a pattern that depends on the address into both ends of a block.
///
/// # Safety
///
/// The caller holds the block. It has `size` bytes, at least 8, and is aligned to
/// 8, as `size` is.
pub unsafe fn fill(block: *mut u8, size: usize) {
    let value = pattern(block);
    let words = block.cast::<u64>();
    // SAFETY: the first and the last word of the caller's block.
    unsafe {
        words.write(value);
        words.add(size / 8 - 1).write(value);
    }
}

/// Panics unless the pattern that [`fill`] has written is still there.
///
/// # Safety
///
/// As for [`fill`].
#[track_caller]
pub unsafe fn check(block: *const u8, size: usize) {
    let value = pattern(block);
    let words = block.cast::<u64>();
    // SAFETY: the first and the last word of the caller's block, written by `fill`.
    let found = unsafe { (words.read(), words.add(size / 8 - 1).read()) };
    assert_eq!(
        found,
        (value, value),
        "{block:p} of {size} bytes was overwritten"
    );
}

fn pattern(block: *const u8) -> u64 {
    Numbers(block.addr() as u64).next()
}

/// Panics unless all bytes from `start` on are zero.
///
/// # Safety
///
/// The caller holds so many bytes there, and they are initialised.
#[track_caller]
pub unsafe fn assert_zero(start: *const u8, bytes: usize) {
    // SAFETY: the caller's bytes, which nobody writes meanwhile.
    let all = unsafe { std::slice::from_raw_parts(start, bytes) };
    // SAFETY: any bytes are a number.
    let (before, words, after) = unsafe { all.align_to::<u128>() };
    assert!(
        before.iter().chain(after).all(|&byte| byte == 0) && words.iter().all(|&word| word == 0),
        "{bytes} bytes at {start:p} are not all zero"
    );
}

#[cfg(test)]
mod tests {
    use super::{assert_zero, check, fill};

    #[test]
    fn both_ends_of_a_block_carry_the_pattern() {
        let mut block = [0_u64; 4];
        // SAFETY: a local array of 32 bytes.
        unsafe { fill(block.as_mut_ptr().cast(), 32) };
        assert!(block[0] != 0 && block[0] == block[3]);
        assert_eq!(block[1..3], [0, 0]);
        // SAFETY: as above, and filled.
        unsafe { check(block.as_ptr().cast(), 32) };
    }

    #[test]
    #[should_panic(expected = "of 32 bytes was overwritten")]
    fn one_wrong_bit_at_the_end_of_a_block_is_seen() {
        let mut block = [0_u64; 4];
        let start = block.as_mut_ptr().cast::<u8>();
        // SAFETY: a local array of 32 bytes.
        unsafe {
            fill(start, 32);
            start.add(31).write(start.add(31).read() ^ 1);
            check(start, 32);
        }
    }

    #[test]
    fn a_byte_that_is_not_zero_is_seen_at_either_end_and_between() {
        for at in [0, 50, 99] {
            let mut bytes = [0_u8; 100];
            // SAFETY: a local array.
            unsafe { assert_zero(bytes.as_ptr(), 100) };
            bytes[at] = 1;
            // SAFETY: as above.
            let seen = std::panic::catch_unwind(|| unsafe { assert_zero(bytes.as_ptr(), 100) });
            assert!(seen.is_err(), "byte {at}");
        }
    }
}
