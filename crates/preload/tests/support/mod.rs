//! Builds `libhakmem.so` and the programs in `tests/c`, and runs one on the other.
//!
//! Each program holds several cases, chosen by its first argument and named
//! after the statement that they check; `statements!` makes a test of each.

// Every file in `tests/` is a crate of its own and uses a part of this.
#![allow(dead_code)]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// How long a program may run before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(180);

/// Makes a test of each case of a program: it must end well on hakmem.
#[macro_export]
macro_rules! statements {
    ($source:literal: $($(#[$meta:meta])* $case:ident)*) => {$(
        #[test]
        $(#[$meta])*
        fn $case() {
            $crate::support::program($source).case(stringify!($case)).on_hakmem().ends_well();
        }
    )*};
}

/// As `statements!`, and what it prints must be what it prints on glibc alone.
#[macro_export]
macro_rules! statements_as_in_glibc {
    ($source:literal: $($(#[$meta:meta])* $case:ident)*) => {$(
        #[test]
        $(#[$meta])*
        fn $case() {
            let run = || $crate::support::program($source).case(stringify!($case));
            let glibc = run().start().ends_well();
            let hakmem = run().on_hakmem().ends_well();
            assert_eq!(hakmem.stdout, glibc.stdout, "hakmem (left) and glibc (right) differ");
        }
    )*};
}

/// The folder that cargo builds into.
fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("cargo puts the folder for temporary files into the target folder")
}

/// The release build of `libhakmem.so`, brought up to date first.
pub fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let status = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--release",
                "--package",
                "hakmem-preload",
            ])
            .arg("--target-dir")
            .arg(target())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env_remove("CARGO_BUILD_TARGET")
            .status()
            .expect("cargo must start");
        assert!(
            status.success(),
            "the release build of hakmem-preload failed: {status}"
        );
        target().join("release/libhakmem.so")
    })
}

/// A compiled program of `tests/c`.
#[derive(Clone)]
pub struct Program {
    path: PathBuf,
}

/// Compiles `tests/c/<source>` to a program.
pub fn program(source: &str) -> Program {
    Program {
        path: compiled(source, &[]),
    }
}

/// Compiles `tests/c/<source>` to a program that is linked with `libhakmem.so`.
pub fn linked_program(source: &str) -> Program {
    let folder = library().parent().expect("the library is in a folder");
    let folder = folder.to_str().expect("a path in UTF-8");
    Program {
        path: compiled(
            source,
            &[
                "-Wl,--no-as-needed",
                &format!("-L{folder}"),
                "-lhakmem",
                &format!("-Wl,-rpath,{folder}"),
            ],
        ),
    }
}

/// Compiles `tests/c/<source>` to a shared library.
pub fn plugin(source: &str) -> PathBuf {
    compiled(source, &["-shared", "-fPIC"])
}

fn compiled(source: &str, options: &[&str]) -> PathBuf {
    static DONE: OnceLock<Mutex<HashMap<String, PathBuf>>> = OnceLock::new();
    let mut done = DONE
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(path) = done.get(source) {
        return path.clone();
    }

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c");
    let input = folder.join(source);
    let output_folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("preload");
    std::fs::create_dir_all(&output_folder).expect("the folder for compiled programs");
    let output = output_folder.join(source.replace('.', "-"));
    let newest_input = newest(&[&input, &folder.join("case.h")]);
    let up_to_date = modified(&output).is_some_and(|time| time > newest_input);
    if !up_to_date {
        // Another test process may be compiling the same program: each writes
        // its own file and moves it into place whole.
        let own = output.with_extension(std::process::id().to_string());
        let (compiler, standard) = match input.extension().and_then(OsStr::to_str) {
            Some("cpp") => ("c++", "-std=c++17"),
            _ => ("cc", "-std=gnu11"),
        };
        let compile = Command::new(compiler)
            // Unoptimised, so that every allocation of the source is made.
            .args([
                standard,
                "-O0",
                "-g",
                "-fno-builtin",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-pthread",
            ])
            .args(options)
            .arg(&input)
            .arg("-o")
            .arg(&own)
            .args(["-ldl", "-lm", "-Wl,-rpath,$ORIGIN"])
            .output()
            .unwrap_or_else(|error| {
                panic!(
                    "`{compiler}` cannot be run ({error}): these tests need a C and C++ compiler"
                )
            });
        assert!(
            compile.status.success(),
            "{source} does not compile:\n{}",
            String::from_utf8_lossy(&compile.stderr)
        );
        std::fs::rename(&own, &output).expect("moving the compiled program into place");
    }
    done.insert(source.to_owned(), output.clone());
    output
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|data| data.modified()).ok()
}

fn newest(paths: &[&Path]) -> SystemTime {
    paths
        .iter()
        .filter_map(|path| modified(path))
        .max()
        .expect("the source exists")
}

impl Program {
    /// Prepares a run of one case.
    pub fn case(&self, case: &str) -> Run {
        let mut run = Run::of(&self.path);
        run.command.arg(case);
        run
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A run being prepared.
pub struct Run {
    command: Command,
    text: String,
}

impl Run {
    /// A run of any program.
    pub fn of(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command
            .stdin(Stdio::null())
            .env_remove("LD_PRELOAD")
            .env("LC_ALL", "C");
        Self {
            command,
            text: String::new(),
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Limits a resource of the program before it starts.
    pub fn limit(mut self, resource: libc::__rlimit_resource_t, bytes: u64) -> Self {
        let limit = libc::rlimit {
            rlim_cur: bytes,
            rlim_max: bytes,
        };
        let apply = move || {
            // SAFETY: `limit` is initialised; the call is async-signal-safe.
            if unsafe { libc::setrlimit(resource, &raw const limit) } == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        };
        // SAFETY: `apply` makes one async-signal-safe call and does not allocate.
        unsafe { self.command.pre_exec(apply) };
        self
    }

    /// Has root start it as a user without rights starts a program whose set-user-ID bit gives him
    /// root's: to the system both are the same.
    pub fn by_another_user(mut self) -> Self {
        /// Whom nothing belongs to, as a rule.
        const NOBODY: libc::uid_t = 65534;
        let apply = || {
            // SAFETY: the call is async-signal-safe.
            if unsafe { libc::setresuid(NOBODY, 0, 0) } == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        };
        // SAFETY: `apply` makes one async-signal-safe call and does not allocate.
        unsafe { self.command.pre_exec(apply) };
        self
    }

    /// Starts it with `libhakmem.so` preloaded.
    pub fn on_hakmem(self) -> Running {
        self.env("LD_PRELOAD", library()).start()
    }

    /// Starts it as it is.
    pub fn start(mut self) -> Running {
        self.text = format!("{:?}", self.command);
        let child = self
            .command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", self.text));
        Running {
            child,
            text: self.text,
        }
    }
}

/// A run under way.
pub struct Running {
    child: Child,
    text: String,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    text: String,
}

impl Running {
    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        fn reader<R: Read + Send + 'static>(source: Option<R>) -> thread::JoinHandle<String> {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                // A stream that breaks off leaves what was read before.
                let _ = source.expect("the stream is piped").read_to_end(&mut bytes);
                String::from_utf8_lossy(&bytes).into_owned()
            })
        }

        let stdout = reader(self.child.stdout.take());
        let stderr = reader(self.child.stderr.take());
        let started = Instant::now();
        let mut hung = false;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("waiting for the program") {
                break status;
            }
            if started.elapsed() > PATIENCE {
                hung = true;
                // SAFETY: the child leads a process group of its own and has
                // not been waited for, so its number is still its own.
                unsafe { libc::kill(-self.child.id().cast_signed(), libc::SIGKILL) };
                break self.child.wait().expect("waiting for the program");
            }
            thread::sleep(Duration::from_millis(5));
        };
        let ended = Ended {
            status,
            stdout: stdout.join().expect("reading standard output"),
            stderr: stderr.join().expect("reading standard error"),
            text: self.text,
        };
        assert!(!hung, "no end after {PATIENCE:?}: {ended}");
        ended
    }

    /// Waits for its end, which must be exit status 0.
    pub fn ends_well(self) -> Ended {
        let ended = self.end();
        assert!(ended.status.success(), "{ended}");
        ended
    }

    /// Waits for its end, which must be an abort with `message` on a line of
    /// hakmem's.
    pub fn aborts_with(self, message: &str) -> Ended {
        let ended = self.end();
        assert_eq!(ended.status.signal(), Some(libc::SIGABRT), "{ended}");
        let said = ended.stderr.lines().any(|line| {
            line.strip_prefix("hakmem: ")
                .is_some_and(|line| line.contains(message))
        });
        assert!(said, "no line `hakmem: ...{message}...`: {ended}");
        ended
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n{}\n--- standard output\n{}--- standard error\n{}---",
            self.text, self.status, self.stdout, self.stderr
        )
    }
}
