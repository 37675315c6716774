//! What a package has to say and to hold before it can be published.

use anyhow::Result;
use cargo_metadata::{Metadata, Package};

use crate::tally::Outcome;
use crate::workspace;

/// crates.io takes no more keywords, nor categories.
const MOST: usize = 5;

/// The licences that every package is under: their texts go where it goes.
const LICENCES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];

/// Checks every package of the workspace that may be published.
pub fn check() -> Result<Outcome> {
    let packages = published(workspace::metadata()?);
    let missing: Vec<String> = packages.iter().copied().flat_map(missing).collect();
    Ok(if missing.is_empty() {
        Outcome::Passed(format!("{} packages", packages.len()))
    } else {
        Outcome::Failed(missing.join("; "))
    })
}

fn published(metadata: &Metadata) -> Vec<&Package> {
    let all = metadata.workspace_packages();
    all.into_iter()
        // No registry at all is how cargo says `publish = false`.
        .filter(|package| package.publish.as_ref().is_none_or(|to| !to.is_empty()))
        .collect()
}

/// A sentence for each thing that the package lacks.
fn missing(package: &Package) -> Vec<String> {
    let folder = package.manifest_path.parent();
    let has_file = |name: &str| folder.is_some_and(|folder| folder.join(name).is_file());
    let has_some = |words: &[String]| (1..=MOST).contains(&words.len());
    let is_for_targets = || {
        let targets = package.metadata["docs"]["rs"]["targets"].as_array();
        targets.is_some_and(|targets| !targets.is_empty())
    };
    let mut needs = vec![
        ("a description", package.description.is_some()),
        ("a licence", package.license.is_some()),
        ("a repository", package.repository.is_some()),
        ("a readme", package.readme.is_some()),
        ("one to five keywords", has_some(&package.keywords)),
        ("one to five categories", has_some(&package.categories)),
        ("targets for docs.rs", is_for_targets()),
        ("the file CHANGELOG.md", has_file("CHANGELOG.md")),
    ];
    let texts = LICENCES.map(|name| ["the file ", name].concat());
    needs.extend(texts.iter().map(String::as_str).zip(LICENCES.map(has_file)));
    needs
        .into_iter()
        .filter(|(_, is_there)| !is_there)
        .map(|(what, _)| format!("{} has not got {what}", package.name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{missing, published};
    use crate::workspace;

    #[test]
    fn the_facade_is_published_and_what_needs_the_workspace_is_not() {
        let packages = published(workspace::metadata().unwrap());
        let has = |name| packages.iter().any(|package| package.name == name);
        let not = ["hakmem-preload", "hakmem-test-support", "xtask"];
        assert!(has("hakmem-alloc") && !not.into_iter().any(has));
    }

    #[test]
    fn every_gap_of_a_package_is_named() {
        let packages = published(workspace::metadata().unwrap());
        let mut package = packages[0].clone();
        assert_eq!(missing(&package), [""; 0]);
        package.description = None;
        package.keywords = vec![String::from("one"); 6];
        package.metadata = serde_json::Value::Null;
        package.manifest_path = "/nonexistent/Cargo.toml".into();
        let gaps = missing(&package);
        for what in [
            "a description",
            "one to five keywords",
            "targets for docs.rs",
            "the file LICENSE-MIT",
        ] {
            assert!(gaps.iter().any(|gap| gap.ends_with(what)), "{gaps:?}");
        }
        assert_eq!(gaps.len(), 6, "{gaps:?}");
    }
}
