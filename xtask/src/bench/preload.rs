//! Whole programs of the system, each run with every peer's library preloaded.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::catalog::Mode;
use super::peers::{Library, Peer};
use crate::{library, tools};

/// A program and what it is given to do.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The row's name.
    pub name: &'static str,
    /// The commands that will do, the first that exists is taken.
    pub commands: &'static [&'static str],
    /// Where Debian has it.
    pub package: &'static str,
    /// A variable set for it, as `NAME=value`.
    pub variable: Option<&'static str>,
    /// Arguments; `@` stands for the input file.
    args: &'static [&'static str],
    /// The input file's name and how it is made.
    input: (&'static str, fn(Mode) -> String),
}

/// The programs.
pub const PROGRAMS: [Program; 6] = [
    Program {
        name: "g++",
        commands: &["g++"],
        package: "g++",
        variable: None,
        args: &["-std=c++17", "-O0", "-S", "-o", "-", "@"],
        input: ("templates.cc", cxx_source),
    },
    Program {
        name: "python3",
        commands: &["/usr/bin/python3", "python3"],
        package: "python3",
        // Python has an allocator of its own for small objects; this takes it out of the way.
        variable: Some("PYTHONMALLOC=malloc"),
        args: &["-S", "@"],
        input: ("objects.py", python_source),
    },
    Program {
        name: "sqlite3",
        commands: &["sqlite3"],
        package: "sqlite3",
        variable: None,
        args: &["-batch", ":memory:", ".read '@'"],
        input: ("index.sql", sql_source),
    },
    Program {
        name: "z3",
        commands: &["z3"],
        package: "z3",
        variable: None,
        args: &["@"],
        input: ("queens.smt2", smt_source),
    },
    Program {
        name: "perl",
        commands: &["perl"],
        package: "perl-base",
        variable: None,
        args: &["@"],
        input: ("words.pl", perl_source),
    },
    Program {
        name: "lua",
        commands: &["lua5.4", "lua5.3", "lua"],
        package: "lua5.4",
        variable: None,
        args: &["@"],
        input: ("tables.lua", lua_source),
    },
];

impl Program {
    /// Where the program is, if it is installed.
    pub fn find(&self) -> Option<PathBuf> {
        self.commands
            .iter()
            .find_map(|command| tools::find(command))
    }

    /// The command line, with its input written under `folder`.
    ///
    /// # Errors
    /// Where the input cannot be written. `Ok(Err(sentence))` where the program is missing.
    pub fn command(&self, mode: Mode, folder: &Path) -> Result<Result<Vec<String>, String>> {
        let Some(program) = self.find() else {
            return Ok(Err(format!(
                "{} is not installed (Debian's package {} has it)",
                self.commands[self.commands.len() - 1],
                self.package
            )));
        };
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{} could not be made", folder.display()))?;
        let (name, text) = self.input;
        let input = folder.join(name);
        std::fs::write(&input, text(mode))
            .with_context(|| format!("{} cannot be written", input.display()))?;
        let mut command = vec![program.display().to_string()];
        let input = input.display().to_string();
        command.extend(
            self.args
                .iter()
                .map(|argument| argument.replace('@', &input)),
        );
        Ok(Ok(command))
    }
}

/// The library to preload for a peer: nothing for the system's own, the built
/// `libhakmem.so` for hakmem, Debian's for the others. The dynamic linker is known to take it.
///
/// # Errors
/// A sentence that says why there is none.
pub fn library(peer: &Peer) -> Result<Option<PathBuf>, String> {
    if peer.name == "system" {
        return Ok(None);
    }
    if peer.name == "hakmem" {
        return library::build()
            .map(Some)
            .map_err(|error| format!("{error:#}"));
    }
    let Some(library) = peer.library else {
        return Err("Debian has no library of it to preload".to_owned());
    };
    let path = find(&library).ok_or_else(|| {
        format!(
            "{} is not installed: `apt-get install {}` brings it",
            library.file, library.package
        )
    })?;
    library::ensure_taken(&path).map_err(|error| format!("{error:#}"))?;
    Ok(Some(path))
}

/// Where a shared library is, if it is installed.
pub fn find(library: &Library) -> Option<PathBuf> {
    let folders = [
        format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH),
        "/usr/lib64".to_owned(),
        "/usr/lib".to_owned(),
    ];
    folders
        .iter()
        .map(|folder| Path::new(folder).join(library.file))
        .find(|path| path.is_file())
}

/// The version of a preloaded library, as Debian's package database has it.
pub fn version(peer: &Peer) -> Option<String> {
    if peer.name == "hakmem" {
        return Some("libhakmem.so of the same sources".to_owned());
    }
    let library = peer.library?;
    let output = std::process::Command::new("dpkg-query")
        .args(["--showformat=${Version}", "--show", library.package])
        .output()
        .ok()?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !version.is_empty())
        .then(|| format!("{} {version}", library.package))
}

fn size(mode: Mode, quick: u32, full: u32) -> u32 {
    match mode {
        Mode::Quick => quick,
        Mode::Full => full,
    }
}

/// Many instantiations of the standard containers: the compiler allocates trees.
fn cxx_source(mode: Mode) -> String {
    use std::fmt::Write;
    let mut source = String::from(
        "#include <map>\n#include <memory>\n#include <string>\n#include <vector>\n\
         template <int N> struct Tag { int value = N; bool operator<(const Tag &o) const \
         { return value < o.value; } };\n\
         template <int N> int work() {\n\
           std::map<Tag<N>, std::vector<std::shared_ptr<Tag<N>>>> map;\n\
           std::map<std::string, int (*)(Tag<N>)> calls;\n\
           calls[std::to_string(N)] = [](Tag<N> tag) { return tag.value; };\n\
           map[Tag<N>{}].push_back(std::make_shared<Tag<N>>());\n\
           int sum = 0;\n\
           for (auto &entry : map) for (auto &tag : entry.second) \
           sum += calls[std::to_string(N)](*tag);\n\
           return sum;\n}\nint main() {\n  int sum = 0;\n",
    );
    for number in 0..size(mode, 2, 16) {
        let _ = writeln!(source, "  sum += work<{number}>();");
    }
    source.push_str("  return sum == 0;\n}\n");
    source
}

/// Objects, dictionaries, strings and closures; nothing imported that differs by version.
fn python_source(mode: Mode) -> String {
    let rounds = size(mode, 4, 20);
    format!(
        "class Node:\n    __slots__ = ('key', 'left', 'right', 'payload')\n\
         \x20   def __init__(self, key):\n        self.key = key\n        \
         self.left = self.right = None\n        self.payload = [str(key), {{'k': key}}]\n\
         def insert(node, key):\n    while True:\n        side = 'left' if key < node.key \
         else 'right'\n        below = getattr(node, side)\n        if below is None:\n            \
         setattr(node, side, Node(key))\n            return\n        node = below\n\
         total = 0\nseed = 1\nfor r in range({rounds}):\n    root = Node(1 << 30)\n    \
         words = {{}}\n    for i in range(8000):\n        seed = (seed * 1103515245 + 12345) \
         % (1 << 31)\n        insert(root, seed)\n        words.setdefault('w%d' % (seed % 997), \
         []).append('%x' % seed)\n    text = ' '.join(','.join(sorted(v)) for k, v in \
         sorted(words.items()))\n    total += sum(len(t) for t in text.split(',')) + \
         len(text.upper().replace('A', 'bb'))\nprint(total)\n"
    )
}

/// A table with text, an index, joins and an aggregate, all in memory.
fn sql_source(mode: Mode) -> String {
    let rows = size(mode, 40_000, 200_000);
    format!(
        "create table t(id integer primary key, name text, size integer);\n\
         insert into t with recursive c(x) as (select 1 union all select x+1 from c where \
         x<{rows}) select x, printf('name-%d-%s', (x*7919)%{rows}, hex(x*x)), (x*31)%1009 \
         from c;\n\
         create index t_name on t(name);\ncreate index t_size on t(size, name);\n\
         update t set name = name || '-' || size where id % 3 = 0;\n\
         delete from t where id % 7 = 0;\n\
         select count(*), sum(length(name)), min(name), max(name) from t;\n\
         select size, count(*), group_concat(substr(name, 6, 4)) from t group by size \
         order by 2 desc, 1 limit 5;\n\
         select count(*) from t a join t b on a.size = b.size and a.id < b.id \
         where a.id < 2000;\n"
    )
}

/// Queens on a board, as integers that must all differ: a search with much learning.
fn smt_source(mode: Mode) -> String {
    use std::fmt::Write;
    let queens = size(mode, 9, 12);
    let mut source = String::new();
    for queen in 0..queens {
        let _ = writeln!(
            source,
            "(declare-const q{queen} Int)\n(assert (and (>= q{queen} 0) (< q{queen} {queens})))"
        );
    }
    let all = |shift: &dyn Fn(u32) -> String| (0..queens).map(shift).collect::<Vec<_>>().join(" ");
    let _ = writeln!(
        source,
        "(assert (distinct {}))",
        all(&|queen| format!("q{queen}"))
    );
    let _ = writeln!(
        source,
        "(assert (distinct {}))",
        all(&|queen| format!("(+ q{queen} {queen})"))
    );
    let _ = writeln!(
        source,
        "(assert (distinct {}))",
        all(&|queen| format!("(- q{queen} {queen})"))
    );
    source.push_str("(check-sat)\n");
    source
}

/// Hashes of arrays of strings, split, joined and sorted.
fn perl_source(mode: Mode) -> String {
    let rounds = size(mode, 6, 20);
    format!(
        "use strict;\nmy $seed = 1;\nmy $total = 0;\nfor my $round (1 .. {rounds}) {{\n\
         \x20 my %words;\n  for my $i (1 .. 20000) {{\n    $seed = ($seed * 1103515245 + 12345) \
         % 2147483648;\n    push @{{$words{{'w' . ($seed % 2003)}}}}, sprintf('%x-%d', $seed, \
         $i);\n  }}\n  for my $key (sort keys %words) {{\n    my $line = join(',', sort \
         @{{$words{{$key}}}});\n    my @parts = split(/[-,]/, $line);\n    $total += \
         scalar(@parts) + length($line);\n    delete $words{{$key}} if $total % 3 == 0;\n  }}\n\
         }}\nprint \"$total\\n\";\n"
    )
}

/// Tables, closures and strings; the collector frees what the script drops.
fn lua_source(mode: Mode) -> String {
    let rounds = size(mode, 4, 20);
    format!(
        "local total, seed = 0, 1\nfor round = 1, {rounds} do\n  local words, calls = {{}}, {{}}\n\
         \x20 for i = 1, 20000 do\n    seed = (seed * 1103515245 + 12345) % 2147483648\n    \
         local key = 'w' .. (seed % 2003)\n    local list = words[key]\n    if not list then \
         list = {{}} words[key] = list end\n    list[#list + 1] = string.format('%x-%d', seed, \
         i)\n    calls[i % 500 + 1] = function() return #list + i end\n  end\n  \
         for _, list in pairs(words) do\n    table.sort(list)\n    total = total + \
         #table.concat(list, ',')\n  end\n  for _, call in ipairs(calls) do total = total + \
         call() end\nend\nprint(total)\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_are_there_do_their_work_without_us() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("a folder with spaces");
        for program in PROGRAMS {
            let Ok(command) = program.command(Mode::Quick, &folder).unwrap() else {
                continue;
            };
            let output = std::process::Command::new(&command[0])
                .args(&command[1..])
                .output()
                .unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {told}", program.name);
        }
    }
}
