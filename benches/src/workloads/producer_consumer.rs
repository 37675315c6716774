//! Producer and consumer: the pattern behind pipelines, loggers and actor
//! systems; measured in its 1:1 form by the "xmalloc" test (Lever and Boreham,
//! "malloc() performance in a multithreaded Linux environment", USENIX 2000).
//!
//! Every block is freed by a thread that never allocated it, and the producer
//! needs its memory back. Stresses remote frees and what becomes of memory in
//! threads that only free. Shapes: one to one, one to many, many to one, and a
//! ring in which each thread allocates for the next and frees for the last.

use crossbeam_channel::{Receiver, Sender, bounded};

use super::in_threads;
use crate::block::Block;
use crate::measure::Outcome;

/// Blocks in one message: enough that the channel does not drown the allocator.
const BATCH: usize = 64;
/// Messages a channel holds.
const DEPTH: usize = 64;

type Batch = [Block; BATCH];

#[derive(Clone, Copy, clap::ValueEnum)]
enum Shape {
    /// Every producer has a consumer of its own.
    OneToOne,
    /// One producer, all other threads consume.
    OneToMany,
    /// One consumer, all other threads produce.
    ManyToOne,
    /// Each thread produces for the next one.
    Ring,
}

#[derive(clap::Args)]
pub struct Args {
    /// Who sends to whom.
    #[arg(long, value_enum, default_value_t = Shape::OneToOne)]
    shape: Shape,
    /// Smallest block, in bytes.
    #[arg(long, default_value_t = 16)]
    min: usize,
    /// Largest block, in bytes.
    #[arg(long, default_value_t = 256)]
    max: usize,
    /// Threads, producers and consumers together; at least two.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Blocks handed over in all.
    #[arg(long, default_value_t = 4_000_000)]
    ops: u64,
    /// Seed of the random sizes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What one thread does: produce into a channel, consume from one, or both.
struct Role {
    output: Option<Sender<Batch>>,
    input: Option<Receiver<Batch>>,
    batches: u64,
}

pub fn run(args: &Args) -> Outcome {
    let threads = args.threads.max(2);
    let batches = (args.ops / BATCH as u64).max(1);
    let roles = roles(args.shape, threads, batches);
    let produced: u64 = roles.iter().map(|role| role.batches).sum();
    let roles: Vec<_> = roles
        .into_iter()
        .map(|role| std::sync::Mutex::new(Some(role)))
        .collect();
    let (answer, timed) = in_threads(roles.len(), |index| {
        let role = roles[index]
            .lock()
            .expect("taken once")
            .take()
            .expect("taken once");
        play(role, args, index as u64)
    });
    Outcome::new(answer, produced * BATCH as u64, timed)
}

fn roles(shape: Shape, threads: usize, batches: u64) -> Vec<Role> {
    let mut roles = Vec::new();
    match shape {
        Shape::OneToOne => {
            let pairs = threads as u64 / 2;
            for _ in 0..pairs {
                let (output, input) = bounded(DEPTH);
                roles.push(Role {
                    output: Some(output),
                    input: None,
                    batches: batches / pairs,
                });
                roles.push(Role {
                    output: None,
                    input: Some(input),
                    batches: 0,
                });
            }
        }
        Shape::OneToMany => {
            let (output, input) = bounded(DEPTH);
            roles.push(Role {
                output: Some(output),
                input: None,
                batches,
            });
            for _ in 1..threads {
                roles.push(Role {
                    output: None,
                    input: Some(input.clone()),
                    batches: 0,
                });
            }
        }
        Shape::ManyToOne => {
            let (output, input) = bounded(DEPTH);
            let share = batches / (threads as u64 - 1);
            for _ in 1..threads {
                roles.push(Role {
                    output: Some(output.clone()),
                    input: None,
                    batches: share,
                });
            }
            roles.push(Role {
                output: None,
                input: Some(input),
                batches: 0,
            });
        }
        Shape::Ring => {
            let (outputs, mut inputs): (Vec<_>, Vec<_>) =
                (0..threads).map(|_| bounded(DEPTH)).unzip();
            inputs.rotate_right(1);
            for (output, input) in outputs.into_iter().zip(inputs) {
                let batches = batches / threads as u64;
                roles.push(Role {
                    output: Some(output),
                    input: Some(input),
                    batches,
                });
            }
        }
    }
    roles
}

fn play(role: Role, args: &Args, index: u64) -> u64 {
    let mut rng = fastrand::Rng::with_seed(args.seed + index);
    let mut answer = 0_u64;
    if let Some(output) = role.output {
        for _ in 0..role.batches {
            let batch =
                std::array::from_fn(|_| Block::new(rng.usize(args.min..=args.max), index as u8));
            send(&output, batch, role.input.as_ref(), &mut answer);
        }
    }
    // The senders are gone by the time the channel is empty and closed.
    for batch in role.input.iter().flatten() {
        answer = answer.wrapping_add(consume(batch));
    }
    answer
}

/// Sends a batch; a thread that is also a consumer consumes while it waits, or
/// a ring of full channels would stand still.
fn send(output: &Sender<Batch>, batch: Batch, input: Option<&Receiver<Batch>>, answer: &mut u64) {
    let Some(input) = input else {
        output
            .send(batch)
            .unwrap_or_else(|_| unreachable!("a consumer outlives its producers"));
        return;
    };
    if let Ok(received) = input.try_recv() {
        *answer = answer.wrapping_add(consume(received));
    }
    let mut batch = batch;
    loop {
        match output.try_send(batch) {
            Ok(()) => return,
            Err(error) => batch = error.into_inner(),
        }
        match input.recv_timeout(std::time::Duration::from_millis(1)) {
            Ok(received) => *answer = answer.wrapping_add(consume(received)),
            Err(_) => std::thread::yield_now(),
        }
    }
}

fn consume(batch: Batch) -> u64 {
    batch.into_iter().map(|block| block.check()).sum()
}
