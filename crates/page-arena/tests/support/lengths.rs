//! Lengths of runs.

use hakmem_region_id::REGION_BYTES;

/// Regions in 64 KiB.
pub const KIB64: usize = (64 << 10) / REGION_BYTES;
