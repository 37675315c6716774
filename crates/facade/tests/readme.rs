//! The example in `README.md`.

use hakmem_alloc::Hakmem;

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

#[test]
fn the_example_in_the_readme_works() {
    let words: Vec<String> = (0..100_000).map(|n| format!("word {n}")).collect();
    let full = hakmem_alloc::stats();
    drop(words);
    hakmem_alloc::trim();
    let empty = hakmem_alloc::stats();
    assert!(empty.live_bytes < full.live_bytes / 10);
    assert_eq!(empty.dirty_bytes, 0);
}
