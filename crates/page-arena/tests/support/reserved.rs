//! Whether an arena has reserved its range.

use hakmem_page_arena::Arena;
use hakmem_region_id::REGION_BYTES;
use hakmem_sys::vm;

/// Whether addresses of the range that are not in use yet are set aside.
pub fn is_reserved(arena: &Arena) -> bool {
    let beyond = arena.map().base() + arena.map().len() * REGION_BYTES;
    match vm::map_at(beyond, REGION_BYTES) {
        Ok(()) => {
            // SAFETY: mapped above.
            unsafe { vm::unmap(beyond, REGION_BYTES) };
            false
        }
        Err(_) => true,
    }
}
