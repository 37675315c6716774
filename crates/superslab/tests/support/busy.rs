//! A heap whose owner is at work.

use hakmem_region_id::ClassIndex;
use hakmem_superslab::{OwnedSlabs, Shared};

/// Frees blocks of `owner`'s slabs by another heap while the owner is busy.
///
/// # Safety
///
/// As for [`OwnedSlabs::flush`].
pub unsafe fn flush_to_busy(
    shared: Shared<'_>,
    owner: &OwnedSlabs,
    heap: &OwnedSlabs,
    class: ClassIndex,
    blocks: &[*mut u8],
) {
    owner.raw_lock().lock();
    // SAFETY: passed on; the lock was taken above.
    unsafe {
        heap.flush(shared, class, blocks);
        owner.raw_lock().unlock();
    }
}
