//! The outbox loses nothing.
#![cfg(not(loom))]

use hakmem_region_id::RegionIndex;
use hakmem_remote_free::{BlockLinks, BlockSlot, Bundle, Outbox};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};

/// Links of blocks, of all regions in one table: block numbers are not used
/// twice here.
struct Links(RefCell<HashMap<u16, u16>>);

impl Links {
    fn new() -> Self {
        Self(RefCell::new(HashMap::new()))
    }

    /// The blocks of a bundle, the one freed first in front.
    fn blocks(&self, bundle: Bundle) -> VecDeque<u16> {
        let mut blocks = VecDeque::new();
        let mut block = bundle.head;
        loop {
            blocks.push_front(block.get());
            if block == bundle.tail {
                break;
            }
            block = self.next(block);
        }
        assert_eq!(blocks.len(), bundle.count as usize);
        blocks
    }
}

impl BlockLinks for Links {
    fn next(&self, block: BlockSlot) -> BlockSlot {
        BlockSlot::from_number(self.0.borrow()[&block.get()])
    }

    fn set_next(&self, block: BlockSlot, next: BlockSlot) {
        self.0.borrow_mut().insert(block.get(), next.get());
    }
}

#[test]
fn blocks_of_a_region_go_out_together() {
    let links = Links::new();
    let mut outbox = Outbox::default();
    for block in 1..=8 {
        let sent = outbox.add(&links, RegionIndex(3), BlockSlot::from_number(block));
        assert_eq!(sent, None);
        assert!(!outbox.is_empty());
    }
    let bundle = outbox.take().expect("eight blocks");
    assert_eq!(bundle.region, RegionIndex(3));
    assert_eq!(links.blocks(bundle), (1..=8).collect::<VecDeque<_>>());
    assert!(outbox.is_empty());
    assert_eq!(outbox.take(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_block_goes_out_once_to_its_own_region_in_the_order_of_the_frees(
        frees in prop::collection::vec(0u32..200, 1..400),
        taken_after in prop::collection::hash_set(0usize..400, 0..20),
    ) {
        let links = Links::new();
        let mut outbox = Outbox::new();
        // What was freed and has not come out, by region.
        let mut model: HashMap<u32, VecDeque<u16>> = HashMap::new();
        let out = |bundle: Bundle, model: &mut HashMap<u32, VecDeque<u16>>| {
            let blocks = links.blocks(bundle);
            let waiting = model.get_mut(&bundle.region.0).expect("the region has frees");
            for block in blocks {
                assert_eq!(waiting.pop_front(), Some(block));
            }
        };
        for (number, &region) in frees.iter().enumerate() {
            let block = number as u16 + 1;
            model.entry(region).or_default().push_back(block);
            let slot = BlockSlot::from_number(block);
            if let Some(bundle) = outbox.add(&links, RegionIndex(region), slot) {
                out(bundle, &mut model);
            }
            if taken_after.contains(&number) && let Some(bundle) = outbox.take() {
                out(bundle, &mut model);
            }
            // What it says is waiting is what is waiting.
            let inside: u32 = outbox.bundles().map(|bundle| bundle.count).sum();
            let waiting: usize = model.values().map(VecDeque::len).sum();
            prop_assert_eq!(inside as usize, waiting);
            prop_assert_eq!(outbox.is_empty(), waiting == 0);
            let regions: Vec<u32> = outbox.bundles().map(|bundle| bundle.region.0).collect();
            let distinct: HashSet<u32> = regions.iter().copied().collect();
            prop_assert_eq!(regions.len(), distinct.len());
        }
        while let Some(bundle) = outbox.take() {
            out(bundle, &mut model);
        }
        prop_assert!(model.values().all(VecDeque::is_empty));
    }
}
