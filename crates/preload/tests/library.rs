//! What the library shows to the loader: the malloc family, the operators,
//! `dlopen` and nothing else; libc and nothing else.

mod support;

use std::collections::BTreeSet;

use object::elf;
use object::read::elf::{Dyn, ElfFile64, FileHeader, Rela, SectionHeader, Sym};

const EXPORTED: [&str; 49] = [
    "_ZdaPv",
    "_ZdaPvRKSt9nothrow_t",
    "_ZdaPvSt11align_val_t",
    "_ZdaPvSt11align_val_tRKSt9nothrow_t",
    "_ZdaPvm",
    "_ZdaPvmSt11align_val_t",
    "_ZdlPv",
    "_ZdlPvRKSt9nothrow_t",
    "_ZdlPvSt11align_val_t",
    "_ZdlPvSt11align_val_tRKSt9nothrow_t",
    "_ZdlPvm",
    "_ZdlPvmSt11align_val_t",
    "_Znam",
    "_ZnamRKSt9nothrow_t",
    "_ZnamSt11align_val_t",
    "_ZnamSt11align_val_tRKSt9nothrow_t",
    "_Znwm",
    "_ZnwmRKSt9nothrow_t",
    "_ZnwmSt11align_val_t",
    "_ZnwmSt11align_val_tRKSt9nothrow_t",
    "__libc_calloc",
    "__libc_free",
    "__libc_malloc",
    "__libc_memalign",
    "__libc_pvalloc",
    "__libc_realloc",
    "__libc_valloc",
    "aligned_alloc",
    "calloc",
    "cfree",
    "dlmopen",
    "dlopen",
    "free",
    "free_aligned_sized",
    "free_sized",
    "mallinfo",
    "mallinfo2",
    "malloc",
    "malloc_info",
    "malloc_stats",
    "malloc_trim",
    "malloc_usable_size",
    "mallopt",
    "memalign",
    "posix_memalign",
    "pvalloc",
    "realloc",
    "reallocarray",
    "valloc",
];

/// What a program may replace and others must then reach.
const REPLACEABLE: [&str; 10] = [
    "_ZdaPv",
    "_ZdaPvSt11align_val_t",
    "_ZdlPv",
    "_ZdlPvSt11align_val_t",
    "_Znam",
    "_ZnamSt11align_val_t",
    "_Znwm",
    "_ZnwmSt11align_val_t",
    "free",
    "realloc",
];

fn bytes() -> Vec<u8> {
    std::fs::read(support::library()).expect("the library was just built")
}

fn dynamic_entries(file: &ElfFile64<'_>) -> Vec<(u32, u64)> {
    let endian = file.endian();
    let (entries, _) = file
        .elf_section_table()
        .dynamic(endian, file.data())
        .expect("a well-formed file")
        .expect("a shared library has a dynamic section");
    entries
        .iter()
        .filter_map(|entry| Some((entry.tag32(endian)?, entry.d_val(endian))))
        .collect()
}

#[test]
fn it_exports_what_it_is_to_replace_and_nothing_else() {
    let bytes = bytes();
    let file = ElfFile64::<object::Endianness>::parse(&*bytes).expect("a well-formed file");
    let table = file.elf_dynamic_symbol_table();
    let exported: BTreeSet<&str> = table
        .iter()
        .filter(|symbol| symbol.st_shndx(file.endian()) != elf::SHN_UNDEF)
        // On aarch64 the linker leaves two sections in the table, which nobody can name.
        .filter(|symbol| symbol.st_bind() != elf::STB_LOCAL)
        .map(|symbol| {
            let name = symbol.name(file.endian(), table.strings()).expect("a name");
            std::str::from_utf8(name).expect("a name in ASCII")
        })
        .collect();
    assert_eq!(exported, BTreeSet::from(EXPORTED));
}

#[test]
fn it_needs_libc_and_nothing_else() {
    let bytes = bytes();
    let file = ElfFile64::<object::Endianness>::parse(&*bytes).expect("a well-formed file");
    let strings = file.elf_dynamic_symbol_table().strings();
    for (tag, value) in dynamic_entries(&file) {
        if tag == elf::DT_NEEDED {
            let name = strings.get(value as u32).expect("a name");
            let name = std::str::from_utf8(name).expect("a name in ASCII");
            assert!(
                name == "libc.so.6" || name.starts_with("ld-linux"),
                "{name} is needed"
            );
        }
    }
}

/// The loader refuses a library that refers to a version which its C library does not have, however
/// weak the reference is.
#[test]
fn it_needs_no_newer_glibc_than_2_34() {
    let bytes = bytes();
    let file = ElfFile64::<object::Endianness>::parse(&*bytes).expect("a well-formed file");
    let endian = file.endian();
    let strings = file.elf_dynamic_symbol_table().strings();
    let (needed, _) = file
        .elf_section_table()
        .gnu_verneed(endian, file.data())
        .expect("a well-formed file")
        .expect("it needs libc");
    let mut versions = 0;
    for library in needed {
        let (_, of_library) = library.expect("a well-formed file");
        for version in of_library {
            let version = version.expect("a well-formed file");
            let name = version.name(endian, strings).expect("a name");
            let name = std::str::from_utf8(name).expect("a name in ASCII");
            let number = name.strip_prefix("GLIBC_2.").and_then(|number| {
                let minor = number.split('.').next()?;
                minor.parse::<u32>().ok()
            });
            assert!(number.is_some_and(|minor| minor <= 34), "{name} is needed");
            versions += 1;
        }
    }
    assert!(versions > 0);
}

#[test]
fn it_is_bound_when_loaded_and_stays_when_closed() {
    let bytes = bytes();
    let file = ElfFile64::<object::Endianness>::parse(&*bytes).expect("a well-formed file");
    let flags = |wanted| {
        dynamic_entries(&file)
            .iter()
            .filter(|(tag, _)| *tag == wanted)
            .fold(0, |flags, (_, value)| flags | *value as u32)
    };
    let flags_1 = flags(elf::DT_FLAGS_1);
    assert_ne!(flags_1 & elf::DF_1_NOW, 0, "not bound at load");
    assert_ne!(flags_1 & elf::DF_1_NODELETE, 0, "goes at dlclose");
    // With this mark the loader would not look for a program's own operators.
    assert_eq!(
        flags(elf::DT_FLAGS) & elf::DF_SYMBOLIC,
        0,
        "bound to itself by the loader"
    );
    assert_eq!(
        flags(elf::DT_FLAGS) & elf::DF_TEXTREL,
        0,
        "code that the loader writes to"
    );
}

#[test]
fn it_reaches_its_own_functions_without_the_loader() {
    let bytes = bytes();
    let file = ElfFile64::<object::Endianness>::parse(&*bytes).expect("a well-formed file");
    let endian = file.endian();
    let symbols = file.elf_dynamic_symbol_table();
    let mut through_the_loader = BTreeSet::new();
    for section in file.elf_section_table().iter() {
        let Some((relocations, _)) = section.rela(endian, file.data()).expect("well-formed") else {
            continue;
        };
        for relocation in relocations {
            let Some(index) = relocation.symbol(endian, false) else {
                continue;
            };
            let symbol = symbols.symbol(index).expect("a symbol");
            let name = symbol.name(endian, symbols.strings()).expect("a name");
            let name = std::str::from_utf8(name).expect("a name in ASCII");
            if symbol.st_shndx(endian) != elf::SHN_UNDEF {
                through_the_loader.insert(name.to_owned());
            }
        }
    }
    let replaceable = REPLACEABLE.map(str::to_owned);
    assert_eq!(through_the_loader, BTreeSet::from(replaceable));
}

#[test]
fn its_thread_local_storage_fits_a_running_program() {
    // glibc keeps little static room for libraries that are opened later.
    let bytes = bytes();
    let file = ElfFile64::<object::Endianness>::parse(&*bytes).expect("a well-formed file");
    let endian = file.endian();
    let size: u64 = file
        .elf_header()
        .program_headers(endian, file.data())
        .expect("well-formed")
        .iter()
        .filter(|header| object::read::elf::ProgramHeader::p_type(*header, endian) == elf::PT_TLS)
        .map(|header| object::read::elf::ProgramHeader::p_memsz(header, endian))
        .sum();
    assert!(
        (8..=64).contains(&size),
        "{size} bytes of thread-local storage"
    );
}
