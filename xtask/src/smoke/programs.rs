//! The smoke programs: what each needs, is given, and is asked to do.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::inputs;
use super::step::{Step, step};
use crate::tools::Tool;
use crate::{command, workspace};

/// A program, or a few that work together.
pub struct Program {
    /// The name it is chosen by.
    pub name: &'static str,
    /// What it is asked to do.
    pub what: &'static str,
    /// What has to be installed.
    pub tools: &'static [Tool],
    /// Writes its inputs into the empty folder given and names its steps. An error is a
    /// sentence saying what is missing.
    pub prepare: fn(&Path) -> Result<Vec<Step>>,
}

/// Every smoke program.
pub const ALL: &[Program] = &[
    Program {
        name: "sqlite3",
        what: "a million rows inserted, indexed, queried, updated and deleted",
        tools: &[Tool::of_package("sqlite3", "sqlite3")],
        prepare: sqlite3,
    },
    Program {
        name: "python3",
        what: "a graph of objects built, sorted, pickled and dropped, with threads",
        tools: &[Tool::of_package("python3", "python3")],
        prepare: python3,
    },
    Program {
        name: "pytests",
        what: "Python's own tests of dict, json, re, threads, subprocess, multiprocessing",
        tools: &[Tool::of_package("python3", "python3")],
        prepare: python_tests,
    },
    Program {
        name: "g++",
        what: "a template-heavy file compiled and its program run",
        tools: &[Tool::of_package("g++", "g++")],
        prepare: gplusplus,
    },
    Program {
        name: "gcc",
        what: "a C file compiled with -O3 and its program run",
        tools: &[Tool::of_package("gcc", "gcc")],
        prepare: gcc,
    },
    Program {
        name: "perl",
        what: "hashes, sorting, substitution, and forked children",
        tools: &[Tool::of_package("perl", "perl-base")],
        prepare: perl,
    },
    Program {
        name: "git",
        what: "this repository cloned, packed anew and checked",
        tools: &[Tool::of_package("git", "git")],
        prepare: git,
    },
    Program {
        name: "node",
        what: "a heap filled by a script, with worker threads",
        tools: &[Tool::of_package("node", "nodejs")],
        prepare: node,
    },
    Program {
        name: "cargo",
        what: "a small crate built and its program run",
        tools: &[Tool::if_present("cargo")],
        prepare: cargo,
    },
    Program {
        name: "redis",
        what: "redis-server on a local socket, under redis-benchmark",
        tools: &[
            Tool::of_package("redis-server", "redis-server"),
            Tool::of_package("redis-benchmark", "redis-tools"),
        ],
        prepare: redis,
    },
    Program {
        name: "xz",
        what: "a file packed by two threads and unpacked",
        tools: &[Tool::of_package("xz", "xz-utils")],
        prepare: xz,
    },
    Program {
        name: "sort",
        what: "a big file sorted by several threads",
        tools: &[Tool::if_present("sort")],
        prepare: sort,
    },
    Program {
        name: "awk",
        what: "the words of a big file counted",
        tools: &[Tool::if_present("awk")],
        prepare: awk,
    },
    Program {
        name: "bash",
        what: "arrays, substitutions and many short children",
        tools: &[Tool::if_present("bash")],
        prepare: bash,
    },
    Program {
        name: "lua",
        what: "binary trees and a sorted table of strings",
        tools: &[Tool::of_package("lua5.4", "lua5.4")],
        prepare: lua,
    },
    Program {
        name: "ruby",
        what: "records grouped, written as JSON and read back, with threads",
        tools: &[Tool::of_package("ruby", "ruby")],
        prepare: ruby,
    },
    Program {
        name: "jq",
        what: "a JSON document read, grouped and written",
        tools: &[Tool::of_package("jq", "jq")],
        prepare: jq,
    },
    Program {
        name: "z3",
        what: "the queens problem solved",
        tools: &[Tool::of_package("z3", "z3")],
        prepare: z3,
    },
    Program {
        name: "minisat",
        what: "a random formula decided",
        tools: &[Tool::of_package("minisat", "minisat")],
        prepare: minisat,
    },
    Program {
        name: "java",
        what: "a class compiled and run with a thread pool",
        tools: &[Tool::if_present("javac"), Tool::if_present("java")],
        prepare: java,
    },
];

fn sqlite3(folder: &Path) -> Result<Vec<Step>> {
    write(folder, "rows.sql", include_str!("inputs/million_rows.sql"))?;
    Ok(vec![
        step(["sqlite3", "rows.db"]).input("rows.sql"),
        step(["sqlite3", ":memory:"]).input("rows.sql"),
        step(["sqlite3", "rows.db", ".dump"]),
    ])
}

fn python3(folder: &Path) -> Result<Vec<Step>> {
    write(folder, "objects.py", include_str!("inputs/objects.py"))?;
    Ok(vec![
        // Small objects too, which Python would keep to itself.
        step(["python3", "objects.py"]).variable("PYTHONMALLOC", "malloc"),
        step(["python3", "objects.py"]),
    ])
}

fn python_tests(folder: &Path) -> Result<Vec<Step>> {
    let mut probe = Command::new("python3");
    probe.args(["-c", "import test.test_dict, test._test_multiprocessing"]);
    if !command::captured(&mut probe, Duration::from_secs(60))?.success() {
        bail!("this python3 comes without its test suite: Debian has it in libpython3-testsuite");
    }
    write(
        folder,
        "python_tests.py",
        include_str!("inputs/python_tests.py"),
    )?;
    Ok([
        "test_dict",
        "test_json",
        "test_re",
        "test_thread",
        "test_threading",
        "test_subprocess",
        "multiprocessing",
    ]
    .into_iter()
    .map(|module| {
        step(["python3", "python_tests.py", module])
            .variable("PYTHONMALLOC", "malloc")
            .tries(3)
            .answers("(?m)^[a-z_]+: [0-9]+ tests, [0-9]+ skipped$")
    })
    .collect())
}

fn gplusplus(folder: &Path) -> Result<Vec<Step>> {
    write(
        folder,
        "templates.cpp",
        include_str!("inputs/templates.cpp"),
    )?;
    Ok(vec![
        step("g++ -std=c++17 -O2 -c templates.cpp -o templates.o".split(' ')).writes("templates.o"),
        step("g++ templates.o -pthread -o templates".split(' ')),
        step(["./templates"]),
    ])
}

fn gcc(folder: &Path) -> Result<Vec<Step>> {
    write(folder, "table.c", include_str!("inputs/table.c"))?;
    Ok(vec![
        step("gcc -O3 -funroll-loops -S table.c -o table.s".split(' ')).writes("table.s"),
        step("gcc table.s -o table".split(' ')),
        step(["./table"]),
    ])
}

fn perl(folder: &Path) -> Result<Vec<Step>> {
    write(folder, "text.pl", include_str!("inputs/text.pl"))?;
    Ok(vec![step(["perl", "text.pl"])])
}

fn git(folder: &Path) -> Result<Vec<Step>> {
    let source = if has_history(workspace::root()) {
        workspace::root().to_owned()
    } else {
        let source = folder.join("source");
        make_history(&source)?;
        source
    };
    let git = |arguments: &str| {
        let options = ["-c", "safe.directory=*", "-c", "gc.auto=0"];
        step(
            ["git"]
                .into_iter()
                .chain(options)
                .chain(arguments.split(' ')),
        )
    };
    Ok(vec![
        git(&format!("clone --quiet file://{} clone", source.display())),
        git("-C clone gc --quiet --aggressive --prune=now"),
        git("-C clone fsck --full --strict"),
        git("-C clone rev-list --objects --all"),
        git("-C clone log -p --stat --all"),
        git("-C clone archive --format=tar HEAD"),
    ])
}

fn has_history(folder: &Path) -> bool {
    Command::new("git")
        .args(["rev-parse", "--verify", "--quiet", "HEAD"])
        .current_dir(folder)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// A repository with a history, for a source tree that came without one.
fn make_history(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let git = |arguments: &[&str]| -> Result<()> {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=smoke", "-c", "user.email=smoke@localhost"]);
        git.args(arguments).current_dir(folder);
        for kind in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{kind}_DATE"), "2026-01-01T00:00:00Z");
        }
        let finished = command::captured(&mut git, Duration::from_secs(60))?;
        if !finished.success() {
            bail!("git {}: {}", arguments.join(" "), finished.text().trim());
        }
        Ok(())
    };
    git(&["init", "--quiet"])?;
    let text = inputs::text(4000);
    let lines: Vec<&str> = text.lines().collect();
    for commit in 0..40 {
        for file in 0..10 {
            let start = (commit * 37 + file * 211) % 3000;
            write(
                folder,
                &format!("file{file}.txt"),
                &lines[start..start + 700].join("\n"),
            )?;
        }
        git(&["add", "--all"])?;
        git(&[
            "commit",
            "--quiet",
            "--message",
            &format!("commit {commit}"),
        ])?;
    }
    Ok(())
}

fn node(folder: &Path) -> Result<Vec<Step>> {
    write(folder, "heap.js", include_str!("inputs/heap.js"))?;
    Ok(vec![step(["node", "heap.js"])])
}

fn cargo(folder: &Path) -> Result<Vec<Step>> {
    let manifest =
        "[package]\nname = \"words\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[workspace]\n";
    write(folder, "Cargo.toml", manifest)?;
    std::fs::create_dir_all(folder.join("src"))?;
    write(folder, "src/main.rs", include_str!("inputs/crate_main.rs"))?;
    write(folder, "src/shapes.rs", &shapes(400))?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let cargo = cargo.to_string_lossy().into_owned();
    Ok(vec![
        step([cargo.as_str(), "build", "--release", "--offline", "--quiet"])
            .variable("CARGO_TARGET_DIR", "build")
            .variable("RUSTFLAGS", "")
            .writes("build/release/words"),
        step(["./build/release/words"]),
    ])
}

/// Rust source that gives the compiler something to do.
fn shapes(count: usize) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("pub trait Shape { fn area(&self) -> u64; }\n");
    for shape in 0..count {
        write!(
            text,
            "#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]\n\
             pub struct Shape{shape} {{ sides: [u64; {0}], name: String }}\n\
             impl Shape for Shape{shape} {{\n\
             fn area(&self) -> u64 {{ self.clone().sides.iter().map(|s| s + {shape}).sum::<u64>() + self.name.len() as u64 }}\n\
             }}\n",
            shape % 9 + 1
        )
        .expect("a string takes any text");
    }
    text.push_str("pub fn total() -> u64 {\n    let all: Vec<Box<dyn Shape>> = vec![\n");
    for shape in 0..count {
        writeln!(text, "        Box::new(Shape{shape}::default()),").expect("as above");
    }
    text.push_str("    ];\n    all.iter().map(|shape| shape.area()).sum()\n}\n");
    text
}

fn redis(folder: &Path) -> Result<Vec<Step>> {
    write(
        folder,
        "session.sh",
        include_str!("inputs/redis_session.sh"),
    )?;
    Ok(vec![step(["bash", "session.sh"])])
}

fn xz(folder: &Path) -> Result<Vec<Step>> {
    write(folder, "text", &inputs::text(60_000))?;
    Ok(vec![
        step("xz --threads=2 --block-size=2MiB -6 --stdout text".split(' ')),
        step("xz --threads=1 -2 --keep text".split(' ')).writes("text.xz"),
        step("xz --decompress --stdout text.xz".split(' ')),
    ])
}

fn sort(folder: &Path) -> Result<Vec<Step>> {
    write(folder, "text", &inputs::text(600_000))?;
    Ok(vec![
        step("sort --parallel=4 --buffer-size=24M text".split(' ')),
        step("sort --parallel=2 --key=3,3 --key=1,1r --unique text".split(' ')),
    ])
}

fn awk(folder: &Path) -> Result<Vec<Step>> {
    write(folder, "text", &inputs::text(200_000))?;
    write(folder, "words.awk", include_str!("inputs/words.awk"))?;
    Ok(vec![step(["awk", "-f", "words.awk", "text"])])
}

fn bash(folder: &Path) -> Result<Vec<Step>> {
    write(folder, "lists.sh", include_str!("inputs/lists.sh"))?;
    Ok(vec![step(["bash", "lists.sh"])])
}

fn lua(folder: &Path) -> Result<Vec<Step>> {
    write(folder, "trees.lua", include_str!("inputs/trees.lua"))?;
    Ok(vec![step(["lua5.4", "trees.lua"])])
}

fn ruby(folder: &Path) -> Result<Vec<Step>> {
    write(folder, "objects.rb", include_str!("inputs/objects.rb"))?;
    Ok(vec![step(["ruby", "objects.rb"])])
}

fn jq(folder: &Path) -> Result<Vec<Step>> {
    write(folder, "records.json", &inputs::records(60_000))?;
    let filter = "group_by(.group) | map({group: .[0].group, count: length, \
                  sum: map(.values | add) | add, notes: map(.note) | add | length})";
    Ok(vec![
        step(["jq", filter, "records.json"]),
        step(["jq", "--sort-keys", ".", "records.json"]),
    ])
}

fn z3(folder: &Path) -> Result<Vec<Step>> {
    write(folder, "queens.smt2", &inputs::queens(9))?;
    Ok(vec![step(["z3", "queens.smt2"])])
}

fn minisat(folder: &Path) -> Result<Vec<Step>> {
    write(folder, "formula.cnf", &inputs::formula(220))?;
    // It says what it found by its status: 10 or 20.
    let line = "minisat -verb=0 formula.cnf answer > log; test $? -ge 10";
    Ok(vec![step(["sh", "-c", line]).writes("answer")])
}

fn java(folder: &Path) -> Result<Vec<Step>> {
    write(folder, "Words.java", include_str!("inputs/Words.java"))?;
    Ok(vec![
        step(["javac", "Words.java"]).writes("Words.class"),
        step(["java", "-Xmx512m", "Words"]),
    ])
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    std::fs::write(folder.join(name), text)
        .with_context(|| format!("{name} could not be written to {}", folder.display()))
}
