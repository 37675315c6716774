//! What a measurement would use that is not installed.

use anyhow::{Result, bail};

use super::catalog::{Kind, Spec};
use super::peers::Chosen;
use super::{callgrind, preload, report};

/// Something that is not installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What it is called.
    pub name: String,
    /// Debian's package that has it.
    pub package: &'static str,
}

impl Missing {
    fn new(name: impl Into<String>, package: &'static str) -> Self {
        Self {
            name: name.into(),
            package,
        }
    }
}

/// What is missing for these rows and peers, and for a published page if there is to be one: each of it leaves
/// something out.
pub fn missing(specs: &[Spec], chosen: &[Chosen], is_published: bool) -> Vec<Missing> {
    let programs: Vec<_> = specs
        .iter()
        .filter_map(|spec| match spec.kind {
            Kind::Preload(program) => Some(program),
            Kind::Bench | Kind::Once | Kind::Start => None,
        })
        .collect();
    let mut missing: Vec<Missing> = programs
        .iter()
        .filter(|program| program.find().is_none())
        .map(|program| Missing::new(program.name, program.package))
        .collect();
    if !programs.is_empty() {
        let libraries = chosen.iter().filter_map(|one| one.peer.library);
        missing.extend(
            libraries
                .filter(|library| preload::find(library).is_none())
                .map(|library| Missing::new(library.file, library.package)),
        );
    }
    if specs.iter().any(|spec| spec.callgrind) && callgrind::missing().is_some() {
        missing.push(Missing::new("valgrind", "valgrind"));
    }
    if is_published && report::browser().is_none() {
        missing.push(Missing::new("a browser", "chromium"));
    }
    // Two of the chosen may be one peer, at two speeds.
    let mut once: Vec<Missing> = Vec::new();
    for one in missing {
        if !once.contains(&one) {
            once.push(one);
        }
    }
    once
}

/// Says before anything is measured what is missing, and of a published page that it is not to be written so: whoever
/// reads it cannot see that a program or a peer could have been there.
///
/// # Errors
/// One sentence with all that is missing.
pub fn tell(missing: &[Missing], is_published: bool) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|one| one.name.as_str()).collect();
    let packages: Vec<&str> = missing.iter().map(|one| one.package).collect();
    let (names, packages) = (names.join(", "), packages.join(" "));
    if is_published {
        bail!(
            "--publish writes docs/benchmarks.md, which is of a whole measurement, and these are not installed: \
             {names}. `apt-get install {packages}` brings them; or measure without --publish, and publish what there \
             is by `cargo xtask bench report RESULTS.json --publish`"
        );
    }
    println!("not installed, and so left out: {names}; `apt-get install {packages}` brings them");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::catalog::{self, Mode};
    use crate::bench::peers;

    #[test]
    fn a_page_is_not_published_without_what_is_missing() {
        let missing = [
            Missing::new("z3", "z3"),
            Missing::new("libjemalloc.so.2", "libjemalloc2"),
        ];
        let error = tell(&missing, true).unwrap_err().to_string();
        assert!(error.contains("z3, libjemalloc.so.2"), "{error}");
        assert!(error.contains("apt-get install z3 libjemalloc2"), "{error}");
        tell(&missing, false).unwrap();
        tell(&[], true).unwrap();
    }

    #[test]
    fn rows_that_need_nothing_lack_nothing() {
        let chosen = peers::choose(&[]).unwrap();
        let json = catalog::choose(Mode::Quick, &["json".to_owned()]).unwrap();
        assert_eq!(missing(&json, &chosen, false), []);
    }

    #[test]
    fn a_program_that_is_not_there_is_missing_with_its_package() {
        let chosen = peers::choose(&["system".to_owned()]).unwrap();
        let mut rows = catalog::choose(Mode::Quick, &["sqlite3".to_owned()]).unwrap();
        let Kind::Preload(program) = &mut rows[0].kind else {
            panic!("sqlite3 is a program");
        };
        program.commands = &["no-such-command"];
        let expected = [Missing::new("sqlite3", "sqlite3")];
        assert_eq!(missing(&rows, &chosen, false), expected);
    }
}
