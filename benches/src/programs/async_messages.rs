//! Boxed messages pass among the workers of an async runtime, with `tokio`: an
//! actor system.
//!
//! Tasks move between threads, so messages are freed wherever their reader
//! happens to run. Each message is a boxed trait object with a string and a
//! vector in it.

use tokio::sync::mpsc;

use super::words;
use crate::measure::{Outcome, timed};

#[derive(clap::Args)]
pub struct Args {
    /// Actors, each with its own queue.
    #[arg(long, default_value_t = 64)]
    actors: usize,
    /// Messages set off; each makes `hops` stops.
    #[arg(long, default_value_t = 4000)]
    ops: u64,
    /// Stops of a message.
    #[arg(long, default_value_t = 32)]
    hops: u32,
    /// Worker threads.
    #[arg(long, default_value_t = 4)]
    threads: usize,
    /// Seed of the content.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A message, and the actor it goes to.
type Post = (usize, Box<dyn Message>);

/// What the actors send each other.
trait Message: Send {
    /// What this message adds to the answer, and the message to send on, with its receiver.
    fn handle(self: Box<Self>, actors: usize) -> (u64, Option<Post>);
}

struct Letter {
    text: String,
    stops: Vec<u32>,
    left: u32,
}

impl Message for Letter {
    fn handle(self: Box<Self>, actors: usize) -> (u64, Option<Post>) {
        let weight = self.text.len() as u64 + self.stops.len() as u64;
        if self.left == 0 {
            return (weight, None);
        }
        let mut rng = fastrand::Rng::with_seed(weight ^ u64::from(self.left));
        let mut stops = self.stops.clone();
        stops.push(self.left);
        let next: Box<dyn Message> = if rng.u8(..) < 64 {
            Box::new(Parcel {
                content: self.text.into_bytes(),
                stops,
                left: self.left - 1,
            })
        } else {
            Box::new(Letter {
                text: format!("{} {}", words::word(&mut rng), self.left),
                stops,
                left: self.left - 1,
            })
        };
        (weight, Some((rng.usize(..actors), next)))
    }
}

struct Parcel {
    content: Vec<u8>,
    stops: Vec<u32>,
    left: u32,
}

impl Message for Parcel {
    fn handle(self: Box<Self>, actors: usize) -> (u64, Option<Post>) {
        let weight = self.content.iter().map(|&byte| u64::from(byte)).sum();
        if self.left == 0 {
            return (weight, None);
        }
        let mut rng = fastrand::Rng::with_seed(weight ^ u64::from(self.left));
        let next = Letter {
            text: words::line(&mut rng, 3),
            stops: self.stops,
            left: self.left - 1,
        };
        (weight, Some((rng.usize(..actors), Box::new(next))))
    }
}

pub fn run(args: &Args) -> Outcome {
    let (answer, time) = timed(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(args.threads.max(1))
            .build()
            .expect("the runtime starts");
        runtime.block_on(play(args))
    });
    Outcome::new(answer, args.ops * u64::from(args.hops + 1), time)
}

async fn play(args: &Args) -> u64 {
    let actors = args.actors.max(1);
    let (queues, inboxes): (Vec<_>, Vec<_>) = (0..actors)
        .map(|_| mpsc::unbounded_channel::<Box<dyn Message>>())
        .unzip();
    let (done, mut arrivals) = mpsc::unbounded_channel::<u64>();
    for mut inbox in inboxes {
        let (queues, done) = (queues.clone(), done.clone());
        tokio::spawn(async move {
            while let Some(message) = inbox.recv().await {
                let (weight, next) = message.handle(queues.len());
                let _ = done.send(weight);
                if let Some((to, message)) = next {
                    // A queue is closed only when the runtime is shutting down.
                    let _ = queues[to].send(message);
                }
            }
        });
    }
    let mut rng = fastrand::Rng::with_seed(args.seed);
    for _ in 0..args.ops {
        let letter = Letter {
            text: words::line(&mut rng, 3),
            stops: Vec::new(),
            left: args.hops,
        };
        let _ = queues[rng.usize(..actors)].send(Box::new(letter));
    }
    let mut answer = 0_u64;
    for _ in 0..args.ops * u64::from(args.hops + 1) {
        let weight = arrivals
            .recv()
            .await
            .expect("every message reports at every stop");
        answer = answer.wrapping_add(weight);
    }
    answer
}
