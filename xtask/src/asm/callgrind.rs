//! What a callgrind profile says of a function: how many instructions its callees took.
//!
//! The format is described in the Valgrind manual, "Callgrind Format Specification". Read
//! here is what `--compress-strings=no --compress-pos=no` makes of it: `fn=` opens a
//! function, `calls=` announces that the next cost line is a callee's inclusive cost.

use std::collections::HashMap;

use anyhow::{Context, Result};

/// Instructions executed inside the callees of each function, by the function's name.
pub fn callee_instructions(profile: &str) -> Result<HashMap<String, u64>> {
    let mut costs: HashMap<String, u64> = HashMap::new();
    let mut function = None;
    let mut next_is_callee = false;
    for line in profile.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            function = Some(name.to_owned());
        } else if line.starts_with("calls=") {
            next_is_callee = true;
        } else if next_is_callee {
            next_is_callee = false;
            let cost = line
                .split_whitespace()
                .nth(1)
                .and_then(|cost| cost.parse::<u64>().ok())
                .with_context(|| format!("callgrind wrote a cost line without a cost: {line}"))?;
            let function = function
                .clone()
                .context("callgrind wrote a call outside a function")?;
            *costs.entry(function).or_default() += cost;
        }
    }
    Ok(costs)
}

#[cfg(test)]
mod tests {
    use super::callee_instructions;

    #[test]
    fn costs_of_callees_add_up_by_caller_and_own_costs_do_not_count() {
        let profile = "events: Ir\n\nfn=malloc_64\n12 300\ncob=/lib/x.so\ncfn=malloc\n\
                       calls=100 0\n12 1700\n+1 4\ncfn=other\ncalls=1 0\n12 9\n\n\
                       fn=main\n20 5\ncfn=malloc_64\ncalls=100 0\n20 2000\n";
        let costs = callee_instructions(profile).unwrap();
        assert_eq!(costs["malloc_64"], 1709);
        assert_eq!(costs["main"], 2000);
    }

    #[test]
    fn a_cost_line_without_a_number_is_reported() {
        assert!(callee_instructions("fn=f\ncalls=1 0\nnonsense\n").is_err());
    }
}
