//! Heaps that have nothing in use.

use hakmem_superslab::{OwnedSlabs, Shared};

/// Gives back all that heaps without live blocks hold.
pub fn trim_all(shared: Shared<'_>, owners: &[&OwnedSlabs]) {
    // A heap's trim can send slabs to another's inbox, so everybody twice.
    for owned in owners.iter().chain(owners) {
        owned.trim(shared);
    }
    if let Some(owned) = owners.first() {
        owned.clear_pool(shared);
    }
}
