//! Rust source is parsed to a syntax tree, visited, and printed again, with `syn`
//! and `quote`: what every derive macro and many tools do.
//!
//! A deep tree of boxes of many sizes, built once and freed as a whole.

use quote::ToTokens;
use syn::visit::Visit;

use super::fold;
use crate::measure::{Outcome, timed};

/// This crate's own source.
const SOURCES: [&str; 8] = [
    include_str!("../block.rs"),
    include_str!("../measure.rs"),
    include_str!("../peer.rs"),
    include_str!("json.rs"),
    include_str!("../workloads/larson.rs"),
    include_str!("../workloads/latency.rs"),
    include_str!("../workloads/producer_consumer.rs"),
    include_str!("../workloads/fragmentation.rs"),
];

#[derive(clap::Args)]
pub struct Args {
    /// Times every source is parsed.
    #[arg(long, default_value_t = 20)]
    ops: u64,
}

#[derive(Default)]
struct Counter {
    names: u64,
    calls: u64,
}

impl<'ast> Visit<'ast> for Counter {
    fn visit_ident(&mut self, _: &'ast proc_macro2::Ident) {
        self.names += 1;
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.calls += 1;
        syn::visit::visit_expr_method_call(self, call);
    }
}

pub fn run(args: &Args) -> Outcome {
    let (answer, time) = timed(|| {
        let mut answer = 0_u64;
        for _ in 0..args.ops {
            let trees: Vec<syn::File> = SOURCES
                .iter()
                .map(|source| syn::parse_file(source).expect("this crate's source is Rust"))
                .collect();
            for tree in &trees {
                let mut counter = Counter::default();
                counter.visit_file(tree);
                answer = answer
                    .wrapping_add(counter.names)
                    .wrapping_add(counter.calls << 32);
                answer = fold(answer, &tree.to_token_stream().to_string());
            }
        }
        answer
    });
    Outcome::new(answer, args.ops, time)
}
