//! How runs are cut.

use hakmem_mid_pool::run_form::RunForm;
use hakmem_region_id::ClassIndex;

/// Blocks in a run of the usual form.
pub fn run_blocks(class: ClassIndex) -> usize {
    RunForm::usual(class).blocks()
}
