//! The tiny header.
#![cfg(not(loom))]

use hakmem_region_id::tiny_header::{
    BlockState, Misuse, TinyHeader, inspect, mark_allocated, mark_free, probe, probe_with, write,
};
use hakmem_region_id::{ClassIndex, TINY_CLASSES};
use hakmem_sys::vm;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::HashSet;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

const STATES: [BlockState; 2] = [BlockState::Allocated, BlockState::Free];

fn header(class: usize, state: BlockState) -> TinyHeader {
    TinyHeader::new(ClassIndex::new(class).unwrap(), state).unwrap()
}

fn all_headers() -> impl Iterator<Item = TinyHeader> {
    (0..TINY_CLASSES).flat_map(|class| STATES.map(|state| header(class, state)))
}

/// What a header says where both bytes are read.
fn decode(near: u8, far: u8) -> Option<TinyHeader> {
    TinyHeader::decode(near, far)
}

/// A block of eight bytes with room before it.
struct Block([u8; 16]);

impl Block {
    fn new() -> Self {
        Self([0xaa; 16])
    }

    fn address(&mut self) -> *mut u8 {
        self.0[8..].as_mut_ptr()
    }

    /// The byte this far before the block.
    fn before(&mut self, distance: usize) -> &mut u8 {
        &mut self.0[8 - distance]
    }
}

#[test]
fn headers_of_all_tiny_classes_and_states_differ_and_are_read_back() {
    let mut seen = HashSet::new();
    for header in all_headers() {
        assert!(seen.insert(header.near()));
        assert_eq!(TinyHeader::from_near(header.near()), Some(header));
        assert_eq!(
            decode(header.near(), header.far().unwrap_or(0xaa)),
            Some(header)
        );
    }
    assert_eq!(seen.len(), 2 * TINY_CLASSES);
}

#[test]
fn only_tiny_classes_have_headers() {
    for class in ClassIndex::all() {
        for state in STATES {
            assert_eq!(TinyHeader::new(class, state).is_some(), class.is_tiny());
        }
    }
}

#[test]
fn the_one_kib_class_has_two_bytes_and_all_others_one() {
    for header in all_headers() {
        let two = header.class().size() == 1024;
        assert_eq!(header.bytes(), if two { 2 } else { 1 });
        assert_eq!(header.far().is_some(), two);
    }
}

#[test]
fn bytes_that_are_no_header_mean_nothing() {
    let known: HashSet<u8> = all_headers().map(TinyHeader::near).collect();
    for near in 0..=u8::MAX {
        assert_eq!(TinyHeader::from_near(near).is_some(), known.contains(&near));
    }
    for fill in [0x00, 0xff, 0xaa, 0x55, 0xcc] {
        assert_eq!(decode(fill, fill), None);
    }
    for text in b' '..=b'~' {
        let said = TinyHeader::from_near(text).map(TinyHeader::state);
        assert_ne!(said, Some(BlockState::Allocated));
    }
}

#[test]
fn every_change_of_an_odd_number_of_bits_is_noticed_without_knowing_the_class() {
    for header in all_headers() {
        for change in 1..=u8::MAX {
            if change.count_ones() % 2 == 1 {
                let near = header.near() ^ change;
                assert_eq!(TinyHeader::from_near(near), None);
            }
        }
    }
}

#[test]
fn the_far_byte_counts_for_the_class_that_has_one() {
    for state in STATES {
        let header = header(TINY_CLASSES - 1, state);
        for far in 0..=u8::MAX {
            let right = Some(far) == header.far();
            assert_eq!(decode(header.near(), far).is_some(), right);
        }
    }
}

#[test]
fn every_change_but_to_the_other_state_is_noticed_where_the_class_is_known() {
    for header in all_headers() {
        let mut block = Block::new();
        let address = block.address();
        for change in 1..=u8::MAX {
            // SAFETY: there is room for a header.
            unsafe { write(address, header) };
            *block.before(1) ^= change;
            // SAFETY: a header was written.
            let said = unsafe { inspect(address, header.class()) };
            if change == u8::MAX && header.bytes() == 1 {
                assert!(said.is_ok_and(|state| state != header.state()));
            } else {
                assert!(said.is_err(), "{header:?} changed by {change:#x}: {said:?}");
            }
        }
    }
}

#[test]
fn a_block_goes_from_allocated_to_free_and_back() {
    for class in 0..TINY_CLASSES {
        let header = header(class, BlockState::Allocated);
        let mut block = Block::new();
        let address = block.address();
        // SAFETY: there is room for a header, which nothing else uses.
        unsafe {
            write(address, header);
            for _ in 0..2 {
                assert_eq!(inspect(address, header.class()), Ok(BlockState::Allocated));
                assert_eq!(mark_allocated(address, header), Err(Misuse::InUse));
                assert_eq!(mark_free(address, header), Ok(()));
                assert_eq!(inspect(address, header.class()), Ok(BlockState::Free));
                assert_eq!(mark_free(address, header), Err(Misuse::DoubleFree));
                assert_eq!(mark_allocated(address, header), Ok(()));
            }
        }
        // Nothing but the header was touched.
        assert_eq!(block.0[8..], [0xaa; 8]);
        assert_eq!(block.0[..8 - header.bytes()], [0xaa; 8][header.bytes()..]);
    }
}

#[test]
fn a_header_of_another_class_is_told_of_and_left_alone() {
    let (ours, theirs) = (
        header(3, BlockState::Allocated),
        header(9, BlockState::Allocated),
    );
    let mut block = Block::new();
    let address = block.address();
    // SAFETY: there is room for a header, which nothing else uses.
    unsafe {
        write(address, theirs);
        assert_eq!(
            mark_free(address, ours),
            Err(Misuse::OtherClass(theirs.class()))
        );
        assert_eq!(
            inspect(address, ours.class()),
            Err(Misuse::OtherClass(theirs.class()))
        );
        assert_eq!(inspect(address, theirs.class()), Ok(BlockState::Allocated));
    }
}

#[test]
fn a_write_before_the_block_is_noticed_when_it_is_freed() {
    for class in 0..TINY_CLASSES {
        let header = header(class, BlockState::Allocated);
        for distance in 1..=header.bytes() {
            for bit in 0..8 {
                let mut block = Block::new();
                let address = block.address();
                // SAFETY: there is room for a header, which nothing else uses.
                unsafe {
                    write(address, header);
                    *block.before(distance) ^= 1 << bit;
                    let found = *block.before(distance);
                    assert_eq!(mark_free(address, header), Err(Misuse::Corrupted(found)));
                    assert_eq!(*block.before(distance), found, "left for a report");
                }
            }
        }
    }
}

#[test]
fn of_threads_that_free_a_block_at_once_one_succeeds() {
    for class in [5, TINY_CLASSES - 1] {
        let header = header(class, BlockState::Allocated);
        let mut block = Block::new();
        let address = block.address().expose_provenance();
        for _ in 0..200 {
            // SAFETY: there is room for a header, which nothing else uses.
            unsafe { write(ptr::with_exposed_provenance_mut(address), header) };
            let freed = AtomicU32::new(0);
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        // SAFETY: as above.
                        match unsafe {
                            mark_free(ptr::with_exposed_provenance_mut(address), header)
                        } {
                            Ok(()) => {
                                freed.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(misuse) => assert_eq!(misuse, Misuse::DoubleFree),
                        }
                    });
                }
            });
            assert_eq!(freed.load(Ordering::Relaxed), 1);
        }
    }
}

/// Two pages, of which the first may be unreadable.
struct Pages {
    start: usize,
}

impl Pages {
    fn new(first_is_readable: bool) -> Self {
        let page = vm::page_size();
        let start = vm::reserve(2 * page).expect("address space");
        // SAFETY: reserved just now.
        unsafe {
            vm::commit(start + page, page).expect("memory");
            if first_is_readable {
                vm::commit(start, page).expect("memory");
            }
        }
        Self { start }
    }

    fn border(&self) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.start + vm::page_size())
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: nobody else knows the pages.
        unsafe { vm::unmap(self.start, 2 * vm::page_size()) };
    }
}

#[test]
fn a_header_across_a_page_border_is_found_where_the_page_before_is_readable() {
    let pages = Pages::new(true);
    for header in all_headers() {
        for into_page in 0..3 {
            let block = pages.border().wrapping_add(into_page);
            // SAFETY: both pages are readable and writable.
            unsafe {
                write(block, header);
                assert_eq!(probe(block), Some(header));
            }
        }
    }
}

#[test]
fn an_address_after_an_unreadable_page_is_looked_at_without_a_fault() {
    let pages = Pages::new(false);
    let two_bytes = header(TINY_CLASSES - 1, BlockState::Allocated);
    let one_byte = header(0, BlockState::Free);
    // SAFETY: the second page is readable and writable.
    unsafe {
        assert_eq!(probe(pages.border()), None);
        // The far byte would lie in the first page.
        *pages.border() = two_bytes.near();
        assert_eq!(probe(pages.border().wrapping_add(1)), None);
        *pages.border() = one_byte.near();
        assert_eq!(probe(pages.border().wrapping_add(1)), Some(one_byte));
    }
}

#[test]
fn the_system_is_asked_once_on_a_border_and_never_off_it() {
    let pages = Pages::new(true);
    let page = vm::page_size();
    for header in all_headers() {
        for into_page in (0..64).chain(page - 64..page) {
            let block = pages.border().wrapping_add(into_page);
            let asked = Cell::new(0);
            // SAFETY: both pages are readable and writable.
            let found = unsafe {
                write(block, header);
                probe_with(block, page, |address| {
                    asked.set(asked.get() + 1);
                    assert_eq!(address, pages.border().addr() - 1);
                    true
                })
            };
            assert_eq!(found, Some(header));
            assert_eq!(asked.get(), u32::from(into_page < header.bytes()));
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_whatever_lies_around_it(
        class in 0..TINY_CLASSES,
        free: bool,
        around: [u8; 16],
    ) {
        let header = header(class, STATES[usize::from(free)]);
        let mut block = Block(around);
        let address = block.address();
        // SAFETY: there is room for a header, and the whole block is readable.
        unsafe {
            write(address, header);
            prop_assert_eq!(inspect(address, header.class()), Ok(header.state()));
            prop_assert_eq!(probe_with(address, 16, |_| true), Some(header));
        }
    }

    #[test]
    fn two_bytes_of_the_one_kib_class_survive_no_change_of_up_to_fifteen_bits(
        free: bool,
        change in 1u16..u16::MAX,
    ) {
        let header = header(TINY_CLASSES - 1, STATES[usize::from(free)]);
        let mut block = Block::new();
        let address = block.address();
        // SAFETY: there is room for a header.
        unsafe {
            write(address, header);
            *block.before(1) ^= change as u8;
            *block.before(2) ^= (change >> 8) as u8;
            prop_assert!(inspect(address, header.class()).is_err());
        }
    }
}
