//! A JSON document is built in memory, written, read back, changed all over, and
//! written again, with `serde_json`: the daily work of a web service.
//!
//! Many small strings and vectors, maps that grow, everything freed at once.

use serde_json::{Map, Value, json};

use super::{fold, words};
use crate::measure::{Outcome, timed};

#[derive(clap::Args)]
pub struct Args {
    /// Records in the document.
    #[arg(long, default_value_t = 2000)]
    records: usize,
    /// Times everything is done.
    #[arg(long, default_value_t = 10)]
    ops: u64,
    /// Seed of the content.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &Args) -> Outcome {
    let (answer, time) = timed(|| {
        (0..args.ops).fold(0, |answer, round| {
            one_document(args.records, args.seed + round, answer)
        })
    });
    Outcome::new(answer, args.ops, time)
}

fn one_document(records: usize, seed: u64, answer: u64) -> u64 {
    let mut rng = fastrand::Rng::with_seed(seed);
    let document: Vec<Value> = (0..records).map(|id| record(&mut rng, id)).collect();
    let text = serde_json::to_string(&document).expect("values can be written");
    drop(document);
    let mut read: Value = serde_json::from_str(&text).expect("what was written can be read");
    for record in read.as_array_mut().expect("the document is an array") {
        change(
            record.as_object_mut().expect("a record is an object"),
            &mut rng,
        );
    }
    let text = serde_json::to_string_pretty(&read).expect("values can be written");
    fold(answer, &text)
}

fn record(rng: &mut fastrand::Rng, id: usize) -> Value {
    let tags: Vec<String> = (0..rng.usize(0..8)).map(|_| words::word(rng)).collect();
    let history: Vec<Value> = (0..rng.usize(0..6))
        .map(|at| json!({ "at": at, "what": words::line(rng, 4), "ok": rng.bool() }))
        .collect();
    json!({
        "id": id,
        "name": words::line(rng, 2),
        "text": words::line(rng, 20),
        "tags": tags,
        "history": history,
        "place": { "x": rng.u32(..1000), "y": rng.u32(..1000), "name": words::word(rng) },
    })
}

fn change(record: &mut Map<String, Value>, rng: &mut fastrand::Rng) {
    record.insert("name".to_owned(), Value::String(words::line(rng, 3)));
    record.remove("place");
    for _ in 0..rng.usize(0..5) {
        record.insert(words::word(rng), Value::from(rng.u32(..)));
    }
    if let Some(tags) = record.get_mut("tags").and_then(Value::as_array_mut) {
        tags.extend((0..3).map(|_| Value::String(words::word(rng))));
        tags.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    }
    if let Some(history) = record.get_mut("history").and_then(Value::as_array_mut) {
        history.retain(|entry| entry["ok"].as_bool() == Some(true));
    }
}
