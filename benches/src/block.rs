//! A block straight from the allocator: what the workloads allocate and free.
//!
//! `Box` and `Vec` would do, but the workloads want sizes known only at run
//! time, chosen alignments, and the certainty that the optimizer keeps every
//! pair of calls.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::hint::black_box;
use std::ptr::NonNull;

/// An owned block of `size` bytes with a mark at both ends.
pub struct Block {
    ptr: NonNull<u8>,
    size: u32,
    align_shift: u8,
    mark: u8,
    zeroed: bool,
}

// SAFETY: the block is plain memory that this value alone owns.
unsafe impl Send for Block {}
// SAFETY: a shared block can only be read.
unsafe impl Sync for Block {}

impl Block {
    /// A block of `size` bytes (at least one), aligned to 8, whose first and
    /// last byte are `mark`.
    #[inline]
    pub fn new(size: usize, mark: u8) -> Self {
        Self::aligned(size, 8, mark)
    }

    /// As [`Block::new`], aligned to `align`, a power of two.
    #[inline]
    pub fn aligned(size: usize, align: usize, mark: u8) -> Self {
        let layout = layout(size, align);
        // SAFETY: the layout has a size of at least one byte.
        let ptr = unsafe { alloc(layout) };
        let mut block = Self::own(ptr, layout);
        block.write_mark(mark);
        block
    }

    /// As [`Block::new`], from the allocator's zeroed entry point; the mark is
    /// not written and stays zero.
    #[inline]
    pub fn zeroed(size: usize) -> Self {
        let layout = layout(size, 8);
        // SAFETY: the layout has a size of at least one byte.
        let ptr = unsafe { alloc_zeroed(layout) };
        let mut block = Self::own(ptr, layout);
        block.zeroed = true;
        block
    }

    /// Frees this block and then allocates another one in its place, as a
    /// program does that destroys an object and creates its successor.
    #[inline]
    pub fn replace(&mut self, size: usize, mark: u8) {
        let (old, new) = (layout(self.size(), 1 << self.align_shift), layout(size, 8));
        // SAFETY: the old block came from the global allocator with this layout,
        // and its address is overwritten before anything can use it: where the
        // allocation fails, the process ends.
        let ptr = unsafe {
            dealloc(self.ptr.as_ptr(), old);
            alloc(new)
        };
        let Some(ptr) = NonNull::new(black_box(ptr)) else {
            out_of_memory(new)
        };
        self.ptr = ptr;
        self.size = new.size() as u32;
        self.align_shift = 3;
        self.zeroed = false;
        self.write_mark(mark);
    }

    #[inline]
    fn own(ptr: *mut u8, layout: Layout) -> Self {
        // The optimizer may not look through this, so it cannot drop the pair.
        let Some(ptr) = NonNull::new(black_box(ptr)) else {
            out_of_memory(layout)
        };
        Self {
            ptr,
            size: layout.size() as u32,
            align_shift: layout.align().trailing_zeros() as u8,
            mark: 0,
            zeroed: false,
        }
    }

    #[inline]
    fn write_mark(&mut self, mark: u8) {
        self.mark = mark;
        // SAFETY: both ends are inside the block, which is ours and at least one byte.
        unsafe {
            self.ptr.write(mark);
            self.ptr.add(self.size as usize - 1).write(mark);
        }
    }

    /// Size asked for, in bytes.
    #[inline]
    pub fn size(&self) -> usize {
        self.size as usize
    }

    /// Address, for alignment checks.
    #[inline]
    pub fn address(&self) -> usize {
        self.ptr.as_ptr() as usize
    }

    /// The block's size if both marks are still there.
    ///
    /// Ends the process with a sentence otherwise: the allocator gave the same
    /// memory out twice, or wrote into it.
    #[inline]
    pub fn check(&self) -> u64 {
        let end = self.size as usize - 1;
        // SAFETY: both ends are inside the block; the marks were written (or
        // zeroed) when it was made.
        let (first, last) = unsafe { (self.ptr.read(), self.ptr.add(end).read()) };
        if first != self.mark || last != self.mark {
            self.corrupted(first, last);
        }
        u64::from(self.size)
    }

    #[cold]
    fn corrupted(&self, first: u8, last: u8) -> ! {
        eprintln!(
            "hakmem-bench: a block of {} bytes at {:p} should hold {:#x} at both ends and holds {first:#x} and {last:#x}",
            self.size, self.ptr, self.mark,
        );
        std::process::exit(3);
    }

    /// Writes one byte in every page of the block.
    #[inline]
    pub fn touch_pages(&mut self) {
        const PAGE: usize = 4096;
        let mut offset = PAGE;
        while offset + 1 < self.size() {
            // SAFETY: `offset` is inside the block, away from both marks.
            unsafe { self.ptr.add(offset).write_volatile(self.mark) };
            offset += PAGE;
        }
    }

    /// Writes both ends, so that the block is no longer all zero.
    #[inline]
    pub fn soil(&mut self) {
        self.write_mark(0xff);
    }

    /// Adds one to the byte at `offset` (which must be inside the block),
    /// `times` times, through memory every time.
    #[inline]
    pub fn pound(&mut self, offset: usize, times: u32) {
        assert!(offset < self.size(), "offset {offset} is outside the block");
        for _ in 0..times {
            // SAFETY: `offset` was just checked to be inside the block.
            unsafe {
                let byte = self.ptr.add(offset);
                byte.write_volatile(byte.read_volatile().wrapping_add(1));
            }
        }
    }

    /// The sum of every byte `step` apart, of a block made by [`Block::zeroed`].
    pub fn sum(&self, step: usize) -> u64 {
        assert!(self.zeroed, "only a zeroed block may be read as a whole");
        // SAFETY: the whole block was zeroed when it was made.
        let bytes = unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.size()) };
        bytes
            .iter()
            .step_by(step)
            .map(|&byte| u64::from(byte))
            .sum()
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        let layout = layout(self.size(), 1 << self.align_shift);
        // SAFETY: the block came from the global allocator with this layout.
        unsafe { dealloc(self.ptr.as_ptr(), layout) };
    }
}

#[inline]
fn layout(size: usize, align: usize) -> Layout {
    match Layout::from_size_align(size.max(1), align) {
        Ok(layout) if u32::try_from(size).is_ok() => layout,
        _ => panic!("no block of {size} bytes aligned to {align} is possible"),
    }
}

#[cold]
fn out_of_memory(layout: Layout) -> ! {
    eprintln!(
        "hakmem-bench: the allocator has no {} bytes aligned to {}",
        layout.size(),
        layout.align()
    );
    std::process::exit(5);
}
