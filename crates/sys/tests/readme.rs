//! The example in `README.md`.
#![cfg(not(loom))]

use hakmem_sys::lock::Lock;
use hakmem_sys::vm;

#[test]
fn the_example_in_the_readme_works() {
    static FREE: Lock<Vec<usize>> = Lock::new(Vec::new());

    let page = vm::page_size();
    let start = vm::reserve(1024 * page).expect("address space");
    assert!(!vm::is_readable(start));
    // SAFETY: the range was reserved just now, for us.
    unsafe { vm::commit(start, 2 * page) }.expect("memory");
    FREE.lock().extend([start, start + page]);
    // SAFETY: nobody uses the range.
    unsafe { vm::unmap(start, 1024 * page) };
}
