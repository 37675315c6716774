//! What the tests of several boxes share. What one box alone needs is in its own
//! `tests/support`.
//!
//! This is no box: boxes name it among their dev-dependencies only, and it uses
//! none of them, so that the tests of any box may use it.

mod child;
mod contents;
mod memory;
mod numbers;
mod threads;
mod turn;

pub use child::{again, again_with, assert_aborts, hakmem_line, is_child};
pub use contents::{assert_zero, check, fill};
pub use memory::{
    HARNESS_BYTES, address_space, at_the_limit_of_mappings, can_make_huge, is_kept_small, resident,
    resident_pages, with_room_for, word_at,
};
pub use numbers::Numbers;
pub use threads::{threads, threads_of_this_name};
pub use turn::turn;
