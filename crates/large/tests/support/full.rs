//! An arena that has no room.

use super::arena::arena;
use hakmem_page_arena::{Arena, Label};
use hakmem_region_id::REGION_BYTES;
use hakmem_sys::vm;
use hakmem_test_support::with_room_for;

/// An arena whose range is as small as ranges get, all of it in use: where it
/// cannot claim addresses, and a limit does not let it reserve more.
pub fn full_arena() -> &'static Arena {
    loop {
        let arena = arena();
        let run = with_room_for(200 << 20, || arena.allocate(1, 1, Label::LARGE));
        assert!(run.is_some(), "a range of 64 MiB fits under the limit");
        // What lies behind the range's used part is set aside only where the
        // whole range is; the first few arenas claim theirs.
        let beyond = arena.map().base() + arena.map().len() * REGION_BYTES;
        if vm::map_at(beyond, 4096).is_ok() {
            // SAFETY: mapped just now.
            unsafe { vm::unmap(beyond, 4096) };
            continue;
        }
        while arena.allocate(1, 1, Label::LARGE).is_some() {}
        let range = arena.map().len() * REGION_BYTES;
        assert!(range <= 256 << 20, "{range} bytes are not a small range");
        return arena;
    }
}
