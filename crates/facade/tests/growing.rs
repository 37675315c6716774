//! Vectors that double in turn: how often one has to be copied, because another lies behind it.

mod support {
    pub mod block;
    pub mod direct;
    pub mod resize;
}

use hakmem_alloc::Hakmem;
use hakmem_test_support::Numbers;
use support::block::Block;
use support::direct::layout;

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

/// What each vector begins with, in bytes,
const LEAST: usize = 136 << 10;
/// and ends with.
const MOST: usize = 8 * LEAST;

#[test]
fn a_vector_that_doubles_goes_where_it_has_room_to_go_on() {
    let mut numbers = Numbers(5);
    let (mut steps, mut moves) = (0, 0);
    for round in 0..60 {
        let mut vectors: Vec<Block> = (0..3)
            .map(|seed| Block::new(layout(LEAST, 8), false, seed).expect("memory"))
            .collect();
        while !vectors.is_empty() {
            let index = numbers.below(vectors.len());
            let vector = &mut vectors[index];
            let size = vector.layout.size();
            if size == MOST {
                vectors.swap_remove(index).free();
                continue;
            }
            let before = vector.address;
            assert!(vector.resize(2 * size));
            // At first there is nothing free to go to.
            if round >= 10 {
                steps += 1;
                moves += u32::from(vector.address != before);
            }
        }
    }
    assert_eq!(steps, 50 * 3 * 3);
    // Three in five, if they go to the shortest run that holds them.
    assert!(moves <= steps / 2, "{moves} moves in {steps} steps");
}
