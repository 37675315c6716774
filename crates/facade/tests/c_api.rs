//! The entry points with C's meaning, for a `malloc` on top.

use hakmem_alloc::c;
use hakmem_test_support::Numbers;
use std::cell::Cell;
use std::ptr;

thread_local! {
    /// What came to the foreign functions.
    static FOREIGN: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// Remembers the pointers that are not the allocator's.
struct Remember;

impl c::Foreign for Remember {
    unsafe fn free(ptr: *mut u8) {
        FOREIGN.set((ptr.addr(), 1));
    }

    unsafe fn realloc(ptr: *mut u8, size: usize) -> *mut u8 {
        FOREIGN.set((ptr.addr(), size));
        ptr::without_provenance_mut(0x1000)
    }

    unsafe fn usable_size(ptr: *mut u8) -> usize {
        FOREIGN.set((ptr.addr(), 3));
        12345
    }
}

fn usable(block: *mut u8) -> usize {
    // SAFETY: callers pass live blocks.
    unsafe { c::usable_size::<Remember>(block) }
}

fn free(block: *mut u8) {
    // SAFETY: callers pass live blocks.
    unsafe { c::free::<Remember>(block) }
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

#[test]
fn malloc_aligns_to_sixteen_and_gives_blocks_of_their_own_for_size_zero() {
    let mut seen = std::collections::HashSet::new();
    for size in (0..3000).chain((3000..80_000).step_by(333)) {
        let block = c::malloc(size);
        assert!(!block.is_null());
        assert_eq!(block.addr() % if size <= 8 { 8 } else { 16 }, 0, "{size}");
        assert!(usable(block) >= size.max(1));
        assert!(c::owns(block));
        assert!(seen.insert(block.addr()), "{size}");
    }
    for address in seen {
        free(ptr::with_exposed_provenance_mut(address));
    }
}

#[test]
fn calloc_is_zero_and_refuses_products_that_overflow() {
    // SAFETY: nothing is asked of the caller.
    unsafe {
        for (count, size) in [
            (usize::MAX, 2),
            (2, usize::MAX),
            (1 << 32, 1 << 32),
            (usize::MAX / 16 + 1, 16),
            (usize::MAX, usize::MAX),
        ] {
            assert!(c::calloc(count, size).is_null(), "{count} of {size}");
        }
        for (count, size) in [(0, 5), (5, 0), (3, 33), (100, 100), (1000, 1000)] {
            let dirty = c::malloc(count * size);
            dirty.write_bytes(0xee, usable(dirty));
            free(dirty);
            let block = c::calloc(count, size);
            let bytes = std::slice::from_raw_parts(block, count * size);
            assert!(bytes.iter().all(|&byte| byte == 0));
            free(block);
        }
    }
}

#[test]
fn realloc_of_null_is_malloc_and_contents_move_along() {
    let mut numbers = Numbers(4);
    // SAFETY: the blocks are live.
    unsafe {
        let mut block = c::realloc::<Remember>(ptr::null_mut(), 10);
        block.copy_from_nonoverlapping(b"0123456789".as_ptr(), 10);
        for _ in 0..300 {
            let most = 1 << (4 + numbers.below(19));
            let size = 10 + numbers.below(most);
            block = c::realloc::<Remember>(block, size);
            assert!(!block.is_null());
            assert_eq!(block.addr() % 16, 0);
            assert!(usable(block) >= size);
            assert_eq!(std::slice::from_raw_parts(block, 10), b"0123456789");
            block.add(size - 1).write(1);
            block.copy_from_nonoverlapping(b"0123456789".as_ptr(), 10);
        }
        for size in [
            usize::MAX,
            isize::MAX as usize + 1,
            isize::MAX as usize,
            1 << 50,
        ] {
            assert!(c::realloc::<Remember>(block, size).is_null());
            assert_eq!(std::slice::from_raw_parts(block, 10), b"0123456789");
        }
        // C's special case of size zero is the caller's.
        block = c::realloc::<Remember>(block, 0);
        assert!(!block.is_null());
        assert_eq!(block.read(), b'0');
        free(block);
    }
}

#[test]
fn memalign_serves_every_power_of_two() {
    for shift in 0..=30 {
        for size in [0, 1, 9, 1000, 40_000, 1 << 20] {
            // SAFETY: a power of two.
            let block = unsafe { c::memalign(1 << shift, size) };
            assert!(!block.is_null());
            assert!(block.addr().is_multiple_of(1 << shift), "{size} at {shift}");
            assert!(usable(block) >= size);
            free(block);
        }
    }
    for size in [usize::MAX, isize::MAX as usize + 1, usize::MAX - 4096] {
        // SAFETY: powers of two.
        unsafe {
            assert!(c::malloc(size).is_null());
            assert!(c::memalign(16, size).is_null());
            assert!(c::memalign(1 << 21, size).is_null());
        }
    }
}

#[test]
fn pointers_of_others_go_to_their_own_functions() {
    static STATIC: [u8; 100] = [0; 100];
    // So that there is an arena to be outside of.
    free(c::malloc(10));
    let local = 0_u64;
    let boxed = Box::new(7_u32);
    let pointers: [*const u8; 5] = [
        (&raw const local).cast(),
        STATIC.as_ptr(),
        (&raw const *boxed).cast(),
        ptr::without_provenance(1),
        ptr::without_provenance(usize::MAX),
    ];
    for pointer in pointers.map(<*const u8>::cast_mut) {
        assert!(!c::owns(pointer));
        // SAFETY: `Remember` deals with any pointer.
        unsafe {
            c::free::<Remember>(pointer);
            assert_eq!(FOREIGN.get(), (pointer.addr(), 1));
            let moved = c::realloc::<Remember>(pointer, 77);
            assert_eq!(
                (moved.addr(), FOREIGN.get()),
                (0x1000, (pointer.addr(), 77))
            );
            assert_eq!(c::usable_size::<Remember>(pointer), 12345);
            assert_eq!(FOREIGN.get(), (pointer.addr(), 3));
        }
    }
}

#[test]
fn what_is_inside_of_a_large_block_is_owned_until_it_is_freed() {
    for size in [300_000, 5 << 20] {
        let block = c::malloc(size);
        let inside = [0, size / 2, size - 1].map(|distance| block.wrapping_add(distance));
        assert_eq!(inside.map(|pointer| c::owns(pointer)), [true; 3], "{size}");
        free(block);
        assert_eq!(inside.map(|pointer| c::owns(pointer)), [false; 3], "{size}");
    }
}

#[test]
fn null_is_freed_and_has_no_size() {
    FOREIGN.set((1, 1));
    free(ptr::null_mut());
    assert_eq!(usable(ptr::null_mut()), 0);
    assert!(!c::owns(ptr::null()));
    assert_eq!(FOREIGN.get(), (1, 1), "null is nobody's");
}

#[test]
fn errno_stays_as_it_was() {
    // SAFETY: this thread's own; the blocks are live.
    unsafe {
        *libc::__errno_location() = 4321;
        let mut blocks = Vec::new();
        for size in [10, 5000, 100_000, 3 << 20, 100 << 20] {
            blocks.push(c::malloc(size));
            blocks.push(c::calloc(1, size));
        }
        assert!(c::malloc(usize::MAX).is_null());
        for block in &mut blocks {
            *block = c::realloc::<Remember>(*block, 200_000);
        }
        for block in blocks {
            free(block);
        }
        c::trim();
        assert_eq!(errno(), 4321);
    }
}
