//! Made-up words and lines, the input of the programs.

use fastrand::Rng;

const SYLLABLES: [&str; 24] = [
    "ba", "cor", "du", "el", "fin", "ga", "hor", "is", "ju", "kel", "lo", "mar", "ne", "or", "pi",
    "qua", "ra", "sel", "ti", "un", "ver", "wa", "xe", "zo",
];

/// A word of one to five syllables.
pub fn word(rng: &mut Rng) -> String {
    let mut word = String::new();
    for _ in 0..rng.usize(1..=5) {
        word.push_str(SYLLABLES[rng.usize(..SYLLABLES.len())]);
    }
    word
}

/// `count` words with a space between each two.
pub fn line(rng: &mut Rng, count: usize) -> String {
    let mut line = word(rng);
    for _ in 1..count {
        line.push(' ');
        line.push_str(&word(rng));
    }
    line
}
