//! The tiny header: class and state of a block in the byte before it.
//!
//! The older form of the region word. Release layouts do without it, because it
//! costs alignment and a cache line; it is for allocators that check, where it is also a
//! canary against writes before the block and a mark against freeing twice. Nothing in
//! hakmem uses it.
//!
//! ```text
//!        7   6   5                   0
//!      +---+---+-----------------------+
//!      | 1 | p |  class number         |   allocated
//!      +---+---+-----------------------+
//!        and the complement of that:       free
//! ```
//!
//! The magic is the top bit; `p` makes the number of set bits odd. What follows:
//!
//! - Of the 256 bytes, 40 mean an allocated block of some class and 40 a free one.
//!   All have odd weight, so **a change of any one bit (or of three, five or
//!   seven) never goes unnoticed**, and 0x00, 0xFF, 0xAA, 0x55 and 0xCC mean
//!   nothing.
//! - ASCII text has the top bit clear, so it never looks like an allocated block.
//! - For a reader that knows the class (from the region word), exactly one byte
//!   says allocated and its complement says free: any change of one to seven
//!   bits is noticed.
//!
//! The 1 KiB class, where a second byte costs least, has **two bytes**: the near
//! one as above, and before it the far one, its complement. A change of one to
//! fifteen of the sixteen bits is noticed where the class is known; where it is
//! not, two equal bytes never pass for one, whatever was written over them.

use crate::size_class::{ClassIndex, TINY_CLASSES};
use core::sync::atomic::{AtomicU8, Ordering};
use hakmem_sys::vm;
use static_assertions::const_assert;

const ALLOCATED: u8 = 0x80;
const PARITY: u8 = 0x40;
const CLASS_MASK: u8 = 0x3f;

/// The class with two bytes.
const TWO_BYTE_CLASS: usize = TINY_CLASSES - 1;

const_assert!(TINY_CLASSES <= CLASS_MASK as usize + 1);

/// Whether a block is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockState {
    /// It belongs to the program.
    Allocated,
    /// It has been freed.
    Free,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TinyHeader {
    class: ClassIndex,
    state: BlockState,
}

/// What was found in place of the header that should be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Misuse {
    /// The header of a free block: it is being freed a second time.
    DoubleFree,
    /// The header of a block in use where a free one should be.
    InUse,
    /// The header of a block of another class.
    OtherClass(ClassIndex),
    /// No header: the byte was overwritten. This is the byte nearest to the block
    /// that is wrong.
    Corrupted(u8),
}

impl TinyHeader {
    /// The header of a block, or `None` if the class is not tiny.
    pub const fn new(class: ClassIndex, state: BlockState) -> Option<Self> {
        if class.is_tiny() {
            Some(Self { class, state })
        } else {
            None
        }
    }

    /// The block's class.
    pub const fn class(self) -> ClassIndex {
        self.class
    }

    /// The block's state.
    pub const fn state(self) -> BlockState {
        self.state
    }

    /// How many bytes before the block the header takes: one or two.
    pub const fn bytes(self) -> usize {
        if self.class.number() == TWO_BYTE_CLASS {
            2
        } else {
            1
        }
    }

    /// The byte right before the block.
    pub const fn near(self) -> u8 {
        let number = self.class.number() as u8;
        let odd = !(ALLOCATED | number).count_ones().is_multiple_of(2);
        let allocated = ALLOCATED | number | if odd { 0 } else { PARITY };
        match self.state {
            BlockState::Allocated => allocated,
            BlockState::Free => !allocated,
        }
    }

    /// The byte before that, for the class that has one.
    pub const fn far(self) -> Option<u8> {
        if self.bytes() == 2 {
            Some(!self.near())
        } else {
            None
        }
    }

    /// What the near byte says, or `None` if it is none. Where the header has
    /// a [far](Self::far) byte, that has to be compared as well.
    pub const fn from_near(near: u8) -> Option<Self> {
        let (allocated, state) = if near & ALLOCATED != 0 {
            (near, BlockState::Allocated)
        } else {
            (!near, BlockState::Free)
        };
        let number = (allocated & CLASS_MASK) as usize;
        if near.count_ones().is_multiple_of(2) || number >= TINY_CLASSES {
            return None;
        }
        match ClassIndex::new(number) {
            Some(class) => Some(Self { class, state }),
            None => None,
        }
    }

    /// What both bytes say, or `None` if they are no header. The far byte counts
    /// only for the class that has one.
    pub const fn decode(near: u8, far: u8) -> Option<Self> {
        match Self::from_near(near) {
            Some(header) if header.bytes() == 2 && far != !near => None,
            header => header,
        }
    }

    /// The header of the same block in the other state.
    #[must_use]
    const fn with(self, state: BlockState) -> Self {
        Self {
            class: self.class,
            state,
        }
    }
}

/// The header byte `distance` bytes before a block.
///
/// # Safety
///
/// The byte is readable and writable, and belongs to headers as long as the
/// reference is used.
unsafe fn byte<'a>(block: *mut u8, distance: usize) -> &'a AtomicU8 {
    // SAFETY: passed on. Bytes are aligned anywhere.
    unsafe { AtomicU8::from_ptr(block.wrapping_sub(distance)) }
}

/// Writes a header in front of a block, whatever was there.
///
/// # Safety
///
/// The [`bytes`](TinyHeader::bytes) before `block` belong to the caller.
pub unsafe fn write(block: *mut u8, header: TinyHeader) {
    // SAFETY: passed on.
    unsafe {
        byte(block, 1).store(header.near(), Ordering::Relaxed);
        if let Some(far) = header.far() {
            byte(block, 2).store(far, Ordering::Relaxed);
        }
    }
}

/// The state of a block of a known tiny class.
///
/// # Errors
///
/// [`Misuse::OtherClass`] or [`Misuse::Corrupted`] if the header was overwritten.
///
/// # Safety
///
/// A header of this class was written before `block`, and its bytes are readable.
pub unsafe fn inspect(block: *mut u8, class: ClassIndex) -> Result<BlockState, Misuse> {
    // SAFETY: passed on.
    let near = unsafe { byte(block, 1) }.load(Ordering::Relaxed);
    let Some(header) = TinyHeader::from_near(near) else {
        return Err(Misuse::Corrupted(near));
    };
    if header.class != class {
        return Err(Misuse::OtherClass(header.class));
    }
    if let Some(expected) = header.far() {
        // SAFETY: passed on; this class has two bytes.
        let far = unsafe { byte(block, 2) }.load(Ordering::Relaxed);
        if far != expected {
            return Err(Misuse::Corrupted(far));
        }
    }
    Ok(header.state)
}

/// Marks an allocated block as free. Of several threads that free the same block
/// at once, one succeeds.
///
/// # Errors
///
/// [`Misuse::DoubleFree`] if it is free already, [`Misuse::OtherClass`] or
/// [`Misuse::Corrupted`] if the header was overwritten. The header is left for a
/// report to look at then.
///
/// # Safety
///
/// `header` (in either state) was written before `block`, and its bytes are still
/// used for nothing else.
pub unsafe fn mark_free(block: *mut u8, header: TinyHeader) -> Result<(), Misuse> {
    // SAFETY: passed on.
    unsafe { change(block, header.with(BlockState::Allocated)) }
}

/// Marks a free block as allocated.
///
/// # Errors
///
/// [`Misuse::InUse`] if it is not free; [`Misuse::OtherClass`] or
/// [`Misuse::Corrupted`] if something was written before it after it was freed.
///
/// # Safety
///
/// As for [`mark_free`].
pub unsafe fn mark_allocated(block: *mut u8, header: TinyHeader) -> Result<(), Misuse> {
    // SAFETY: passed on.
    unsafe { change(block, header.with(BlockState::Free)) }
}

/// Turns a header that should be `from` into the one of the other state.
///
/// # Safety
///
/// As for [`mark_free`].
unsafe fn change(block: *mut u8, from: TinyHeader) -> Result<(), Misuse> {
    let (to, refused) = match from.state {
        BlockState::Allocated => (from.with(BlockState::Free), Misuse::DoubleFree),
        BlockState::Free => (from.with(BlockState::Allocated), Misuse::InUse),
    };
    if let Some(expected) = from.far() {
        // SAFETY: passed on; this class has two bytes. The far one is looked at
        // first and written last: whoever changes the near one has the block.
        let far = unsafe { byte(block, 2) }.load(Ordering::Relaxed);
        if far != expected && Some(far) != to.far() {
            return Err(Misuse::Corrupted(far));
        }
    }
    // Relaxed: the mark hands over nothing; whatever passes the block on to its
    // next user orders their accesses.
    // SAFETY: passed on.
    let near = unsafe { byte(block, 1) }.compare_exchange(
        from.near(),
        to.near(),
        Ordering::Relaxed,
        Ordering::Relaxed,
    );
    match near {
        Ok(_) => {}
        Err(found) if found == to.near() => return Err(refused),
        Err(found) => {
            return Err(match TinyHeader::from_near(found) {
                Some(header) if header.class != from.class => Misuse::OtherClass(header.class),
                _ => Misuse::Corrupted(found),
            });
        }
    }
    if let (Some(before), Some(after)) = (from.far(), to.far()) {
        // SAFETY: passed on.
        let far = unsafe { byte(block, 2) }.swap(after, Ordering::Relaxed);
        if far != before {
            return Err(Misuse::Corrupted(far));
        }
    }
    Ok(())
}

/// The header before an address of which nothing is known but that it can be
/// read: `None` if there is none.
///
/// This is the *hybrid* check. Off a page's border the header lies in the same
/// page as the address and is just read; on it, the system is asked once whether
/// the page before can be read ([`vm::is_readable`]).
///
/// A header found says that the bytes look like one: by chance one byte in three
/// does, counting both states. Only a region word can say whose block it is.
///
/// # Safety
///
/// The page that holds `address` is readable and stays so during the call, and
/// so does the one before if it is readable when the call begins.
pub unsafe fn probe(address: *const u8) -> Option<TinyHeader> {
    // SAFETY: passed on; the system says what can be read.
    unsafe { probe_with(address, vm::page_size(), vm::is_readable) }
}

/// As [`probe`], with `is_readable` to say whether a byte can be read. It is
/// called at most once, and only about the last byte of the page before.
///
/// # Safety
///
/// As for [`probe`]; `page_bytes` is a power of two that no page is smaller than,
/// and `is_readable` is right.
pub unsafe fn probe_with(
    address: *const u8,
    page_bytes: usize,
    is_readable: impl FnOnce(usize) -> bool,
) -> Option<TinyHeader> {
    let into_page = address.addr() & (page_bytes - 1);
    let last_of_page_before = address.addr().wrapping_sub(into_page + 1);
    let read = |distance: usize| {
        let place = address.wrapping_sub(distance).cast_mut();
        // SAFETY: the byte is in the address's page, or in the one before, which
        // was found readable. Others may write to it (it may be no header), so
        // it is read as an atomic.
        unsafe { AtomicU8::from_ptr(place) }.load(Ordering::Relaxed)
    };
    if into_page == 0 {
        return if is_readable(last_of_page_before) {
            TinyHeader::decode(read(1), read(2))
        } else {
            None
        };
    }
    let header = TinyHeader::from_near(read(1))?;
    if header.bytes() == 1 {
        return Some(header);
    }
    if into_page == 1 && !is_readable(last_of_page_before) {
        return None;
    }
    TinyHeader::decode(header.near(), read(2))
}
