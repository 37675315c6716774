//! Frees that end the program, each with a message that says what it was.
//!
//! Each test runs itself again in a process that is to be aborted.

mod support {
    pub mod busy;
    pub mod heaps;
}

use hakmem_test_support::{assert_aborts, is_child};
use support::busy::flush_to_busy;
use support::heaps::{class, heaps};

#[test]
fn a_double_free_is_named() {
    if !is_child() {
        return assert_aborts(
            "a_double_free_is_named",
            "double free of a block of 64 bytes",
        );
    }
    let (shared, owners) = heaps(1);
    let mut out = [std::ptr::null_mut(); 4];
    owners[0].refill(shared, class(64), &mut out);
    // SAFETY: not sound, on purpose.
    unsafe { owners[0].flush(shared, class(64), &[out[1], out[2], out[1]]) };
}

/// Flushes neighbours in this order of which the one with number 3 is free already.
fn flush_neighbours_one_of_them_free(order: impl Fn(&mut [*mut u8])) {
    let (shared, owners) = heaps(1);
    let mut out = [std::ptr::null_mut(); 8];
    owners[0].refill(shared, class(64), &mut out);
    let free = [out[3]];
    order(&mut out);
    // SAFETY: not sound, on purpose.
    unsafe {
        owners[0].flush(shared, class(64), &free);
        owners[0].flush(shared, class(64), &out);
    }
}

#[test]
fn a_double_free_among_neighbours_is_named() {
    if !is_child() {
        return assert_aborts(
            "a_double_free_among_neighbours_is_named",
            "double free of a block of 64 bytes",
        );
    }
    flush_neighbours_one_of_them_free(|_| {});
}

#[test]
fn a_double_free_among_neighbours_in_reverse_is_named() {
    if !is_child() {
        return assert_aborts(
            "a_double_free_among_neighbours_in_reverse_is_named",
            "double free of a block of 64 bytes",
        );
    }
    flush_neighbours_one_of_them_free(<[_]>::reverse);
}

#[test]
fn a_neighbour_that_was_never_handed_out_is_named() {
    if !is_child() {
        return assert_aborts(
            "a_neighbour_that_was_never_handed_out_is_named",
            "never allocated (in a slab of 256-byte blocks)",
        );
    }
    let (shared, owners) = heaps(1);
    let mut out = [std::ptr::null_mut(); 12];
    owners[0].refill(shared, class(256), &mut out[..10]);
    out[10] = out[9].wrapping_add(256);
    out[11] = out[9].wrapping_add(512);
    // SAFETY: not sound, on purpose.
    unsafe { owners[0].flush(shared, class(256), &out) };
}

#[test]
fn an_interior_pointer_is_named() {
    if !is_child() {
        return assert_aborts(
            "an_interior_pointer_is_named",
            "not the start of a block, but 24 bytes into one of 112 bytes",
        );
    }
    let (shared, owners) = heaps(1);
    let mut out = [std::ptr::null_mut(); 4];
    owners[0].refill(shared, class(112), &mut out);
    // SAFETY: not sound, on purpose.
    unsafe { owners[0].flush(shared, class(112), &[out[2].add(24)]) };
}

#[test]
fn a_block_that_was_never_handed_out_is_named() {
    if !is_child() {
        return assert_aborts(
            "a_block_that_was_never_handed_out_is_named",
            "never allocated (in a slab of 256-byte blocks)",
        );
    }
    let (shared, owners) = heaps(1);
    let mut out = [std::ptr::null_mut(); 2];
    owners[0].refill(shared, class(256), &mut out);
    // SAFETY: not sound, on purpose.
    unsafe { owners[0].flush(shared, class(256), &[out[1].add(256)]) };
}

#[test]
fn an_unaligned_pointer_into_a_busy_heaps_slab_is_named() {
    if !is_child() {
        return assert_aborts(
            "an_unaligned_pointer_into_a_busy_heaps_slab_is_named",
            "not the start of a block (80-byte blocks are at multiples of 8)",
        );
    }
    let (shared, owners) = heaps(2);
    let mut out = [std::ptr::null_mut(); 2];
    owners[0].refill(shared, class(80), &mut out);
    // SAFETY: not sound, on purpose.
    unsafe { flush_to_busy(shared, owners[0], owners[1], class(80), &[out[0].add(3)]) };
}

#[test]
fn a_double_free_by_another_heap_is_named() {
    if !is_child() {
        return assert_aborts(
            "a_double_free_by_another_heap_is_named",
            "double free of a block of 1024 bytes",
        );
    }
    let (shared, owners) = heaps(2);
    let mut out = [std::ptr::null_mut(); 64];
    owners[0].refill(shared, class(1024), &mut out);
    // SAFETY: not sound, on purpose.
    unsafe {
        owners[1].flush(shared, class(1024), &[out[5]]);
        owners[1].flush(shared, class(1024), &[out[5]]);
    }
}

#[test]
fn a_double_free_into_a_busy_heaps_slab_is_named_when_the_owner_takes_it_in() {
    if !is_child() {
        return assert_aborts(
            "a_double_free_into_a_busy_heaps_slab_is_named_when_the_owner_takes_it_in",
            "double free of a block of 1024 bytes",
        );
    }
    let (shared, owners) = heaps(2);
    let mut out = [std::ptr::null_mut(); 64];
    owners[0].refill(shared, class(1024), &mut out);
    // SAFETY: not sound, on purpose.
    unsafe {
        flush_to_busy(shared, owners[0], owners[1], class(1024), &[out[5]]);
        flush_to_busy(shared, owners[0], owners[1], class(1024), &[out[5]]);
    }
    owners[0].trim(shared);
}

#[test]
fn a_write_to_a_freed_block_that_waits_for_its_owner_is_named() {
    if !is_child() {
        return assert_aborts(
            "a_write_to_a_freed_block_that_waits_for_its_owner_is_named",
            "or written to after they were freed",
        );
    }
    let (shared, owners) = heaps(2);
    let mut out = [std::ptr::null_mut(); 64];
    owners[0].refill(shared, class(1024), &mut out);
    // SAFETY: not sound, on purpose.
    unsafe {
        flush_to_busy(shared, owners[0], owners[1], class(1024), &[out[5]]);
        flush_to_busy(shared, owners[0], owners[1], class(1024), &[out[6]]);
        // As a link it would lead into another region, to the place that a block in use has in
        // this one.
        let beyond = hakmem_region_id::REGION_BYTES + (out[7].addr() - out[0].addr());
        out[6].cast::<u16>().write((beyond / 8 + 1) as u16);
    }
    owners[0].trim(shared);
}

#[test]
fn a_free_into_a_slab_that_is_gone_is_named() {
    if !is_child() {
        return assert_aborts(
            "a_free_into_a_slab_that_is_gone_is_named",
            "the memory around it has been freed already (double free)",
        );
    }
    let (shared, owners) = heaps(1);
    let mut out = [std::ptr::null_mut(); 8];
    owners[0].refill(shared, class(64), &mut out);
    // SAFETY: not sound, on purpose.
    unsafe {
        owners[0].flush(shared, class(64), &out);
        owners[0].trim(shared);
        owners[0].flush(shared, class(64), &[out[0]]);
    }
}
