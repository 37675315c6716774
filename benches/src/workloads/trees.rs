//! Trees: binary trees are built and dropped, one after another, beside one that stays. After H. Boehm's GCBench and
//! the "binary-trees" of the Computer Language Benchmarks Game.
//!
//! Stresses pairs of calls for small blocks of one size whose lives nest, in numbers beyond what a thread's bins hold.

use super::in_threads;
use crate::measure::Outcome;

#[derive(clap::Args)]
pub struct Args {
    /// Levels of the largest trees.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(i64::from(LEAST)..=30))]
    depth: u32,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Nodes, about, all threads together.
    #[arg(long, default_value_t = 10_000_000)]
    ops: u64,
}

/// Levels of the smallest ones.
const LEAST: u32 = 4;

struct Node {
    left: Option<Box<Node>>,
    right: Option<Box<Node>>,
    level: u64,
}

impl Node {
    fn tree(level: u32) -> Option<Box<Self>> {
        (level > 0).then(|| {
            Box::new(Self {
                left: Self::tree(level - 1),
                right: Self::tree(level - 1),
                level: level.into(),
            })
        })
    }

    fn sum(tree: Option<&Self>) -> u64 {
        tree.map_or(0, |node| {
            node.level + Self::sum(node.left.as_deref()) + Self::sum(node.right.as_deref())
        })
    }
}

/// Nodes of a tree.
const fn nodes(levels: u32) -> u64 {
    (1 << levels) - 1
}

pub fn run(args: &Args) -> Outcome {
    let threads = args.threads.max(1);
    let depth = args.depth;
    let levels = || (LEAST..=depth).step_by(2);
    // Each level has as many nodes in all.
    let share = args.ops / threads as u64 / levels().count() as u64;
    let trees = |level| share.div_ceil(nodes(level));
    let (answer, timed) = in_threads(threads, |_| {
        let long_lived = Node::tree(depth);
        let mut answer = 0_u64;
        for level in levels() {
            for _ in 0..trees(level) {
                answer = answer.wrapping_add(Node::sum(Node::tree(level).as_deref()));
            }
        }
        answer.wrapping_add(Node::sum(long_lived.as_deref()))
    });
    let made = nodes(depth)
        + levels()
            .map(|level| trees(level) * nodes(level))
            .sum::<u64>();
    Outcome::new(answer, made * threads as u64, timed)
}
