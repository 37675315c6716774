use std::collections::{BTreeMap, HashMap};

mod shapes;

fn main() {
    let mut seed = 9_u64;
    let mut map: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for _ in 0..100_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        map.entry(format!("key {}", seed >> 50)).or_default().push(seed);
    }
    let lengths: HashMap<usize, usize> = map.values().fold(HashMap::new(), |mut lengths, list| {
        *lengths.entry(list.len()).or_default() += 1;
        lengths
    });
    let mut lengths: Vec<_> = lengths.into_iter().collect();
    lengths.sort_unstable();
    println!("{} {lengths:?}", map.len());
    println!("{}", shapes::total());
}
