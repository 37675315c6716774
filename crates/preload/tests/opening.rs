//! Programs on the preloaded library that open libraries of their own.

mod support;

use support::{Run, plugin, program};

/// Makes a test of each case: it must end well on glibc and on hakmem when its
/// second argument is the library's path.
macro_rules! opens {
    ($($case:ident)*) => {$(
        #[test]
        fn $case() {
            let run = || program("opening.c").case(stringify!($case)).arg(plugin("plugin.c"));
            run().start().ends_well();
            run().on_hakmem().ends_well();
        }
    )*};
}

opens! {
    a_library_opened_with_deepbind_uses_the_programs_malloc
    a_library_opened_with_deepbind_by_namespace_uses_the_programs_malloc
    a_library_opened_in_a_new_namespace_has_its_own_malloc
    threads_open_and_close_libraries_at_once
}

statements_as_in_glibc! { "opening.c":
    dlopen_of_nothing_is_the_program
    dlopen_of_what_is_not_there_says_so
}

#[test]
fn dlopen_searches_where_its_caller_says() {
    let library = plugin("plugin.c");
    let name = library.file_name().expect("a file");
    let run = || -> Run {
        program("opening.c")
            .case("dlopen_searches_where_its_caller_says")
            .arg(name)
    };
    run().start().ends_well();
    run().on_hakmem().ends_well();
}
