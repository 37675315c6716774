//! How slabs of each class are cut into blocks, and where their bits are.

use hakmem_region_id::{ClassIndex, REGION_BYTES, TINY_CLASSES, size_class::SIZES};

/// Bits that fit into the record; slabs with more blocks use the region's bit
/// space.
pub(crate) const INLINE_BITS: usize = 512;

/// Blocks in a slab of each tiny class.
pub(crate) const CAPACITY: [u16; TINY_CLASSES] = {
    let mut table = [0; TINY_CLASSES];
    let mut number = 0;
    while number < TINY_CLASSES {
        let size = match ClassIndex::new(number) {
            Some(class) => class.size(),
            None => REGION_BYTES,
        };
        table[number] = (REGION_BYTES / size) as u16;
        number += 1;
    }
    table
};

/// What is the same for all slabs of a class, side by side, because a free needs all of it.
#[derive(Clone, Copy)]
pub(crate) struct Geometry {
    /// `ceil(2^32 / size)`: `offset * reciprocal >> 32` is `offset / size` for all offsets in a
    /// region, because the product's error stays below one block.
    pub reciprocal: u32,
    /// Bytes of a block.
    pub size: u16,
    /// With so many free blocks a slab is sparse: three quarters.
    pub sparse_from: u16,
}

/// The geometry of each tiny class.
pub(crate) static GEOMETRIES: [Geometry; TINY_CLASSES] = {
    let none = Geometry {
        reciprocal: 0,
        size: 0,
        sparse_from: 0,
    };
    let mut table = [none; TINY_CLASSES];
    let mut number = 0;
    while number < TINY_CLASSES {
        let size = SIZES[number];
        table[number] = Geometry {
            reciprocal: (1_u64 << 32).div_ceil(size as u64) as u32,
            size: size as u16,
            sparse_from: CAPACITY[number] - CAPACITY[number] / 4,
        };
        number += 1;
    }
    table
};

/// Whether the bits of slabs of so many blocks are in their records.
pub(crate) const fn has_inline_bits(capacity: u16) -> bool {
    capacity as usize <= INLINE_BITS
}
