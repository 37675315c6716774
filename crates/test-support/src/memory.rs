//! The memory of the process.

use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Bytes that the test harness, which runs on the allocator under test too, may take
/// or give back meanwhile.
pub const HARNESS_BYTES: u64 = 64 << 10;

/// Bytes of address space that are in use.
pub fn address_space() -> usize {
    statm(0)
}

/// Resident bytes.
pub fn resident() -> usize {
    statm(1)
}

/// A field of `/proc/self/statm`, in bytes.
fn statm(field: usize) -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("procfs");
    let pages: usize = statm.split(' ').nth(field).unwrap().parse().unwrap();
    // SAFETY: asks for a number.
    pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize
}

/// How many of the `pages` from `address` on, which are mapped, have memory behind them.
pub fn resident_pages(address: usize, pages: usize) -> usize {
    let mut marks = vec![0_u8; pages];
    // SAFETY: the vector has a byte for each page; nothing else is written.
    let outcome = unsafe {
        let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
        let start = std::ptr::with_exposed_provenance_mut(address);
        libc::mincore(start, pages * page, marks.as_mut_ptr())
    };
    assert_eq!(outcome, 0, "mincore: {}", std::io::Error::last_os_error());
    marks.iter().filter(|&&mark| mark & 1 != 0).count()
}

/// The addresses of a mapping, by the line of `/proc/self/maps` or `smaps` that begins with them.
fn range_of(line: &str) -> Option<Range<usize>> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    let bound = |text| usize::from_str_radix(text, 16).ok();
    Some(bound(start)?..bound(end)?)
}

/// What stands at this address, if anything that can be read is mapped there. (Of what was unmapped that can
/// be what another thread has mapped since.)
pub fn word_at(address: usize) -> Option<u64> {
    let memory = std::fs::File::open("/proc/self/mem").expect("procfs");
    let mut word = [0; 8];
    memory.read_exact_at(&mut word, address as u64).ok()?;
    Some(u64::from_ne_bytes(word))
}

/// Whether the system is kept from making huge pages by itself at this address, which is mapped;
/// `None` if it makes none anyway (it was built so).
pub fn is_kept_small(address: usize) -> Option<bool> {
    if !std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
        return None;
    }
    let smaps = std::fs::read_to_string("/proc/self/smaps").expect("procfs");
    let mut is_inside = false;
    for line in smaps.lines() {
        if let Some(range) = range_of(line) {
            is_inside = range.contains(&address);
        } else if let Some(flags) = line.strip_prefix("VmFlags:")
            && is_inside
        {
            return Some(flags.split_whitespace().any(|flag| flag == "nh"));
        }
    }
    panic!("nothing is mapped at {address:#x}");
}

/// Whether this system puts a huge page of 2 MiB where it is allowed to, just now.
pub fn can_make_huge() -> bool {
    const HUGE: usize = 2 << 20;
    // SAFETY: the mapping is made, used and unmapped here; the chunk lies inside it.
    unsafe {
        let mapped = libc::mmap(
            std::ptr::null_mut(),
            2 * HUGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(mapped, libc::MAP_FAILED, "memory");
        let chunk = mapped.byte_add(mapped.addr().next_multiple_of(HUGE) - mapped.addr());
        libc::madvise(chunk, HUGE, libc::MADV_HUGEPAGE);
        chunk.cast::<u8>().write_volatile(1);
        let pages = HUGE / libc::sysconf(libc::_SC_PAGESIZE) as usize;
        let is_huge = resident_pages(chunk.expose_provenance(), pages) == pages;
        libc::munmap(mapped, 2 * HUGE);
        is_huge
    }
}

/// Runs `work` while the process has one mapping more than it may have, so that the system makes no
/// other; or where that takes more than two million, returns `None`. (Distributions allow 65,530 or 1,048,576.)
pub fn at_the_limit_of_mappings<R>(work: impl FnOnce() -> R) -> Option<R> {
    const MOST: usize = 1 << 21;
    const PAGE: usize = 64 << 10;
    let most = std::fs::read_to_string("/proc/sys/vm/max_map_count").expect("procfs");
    let most: usize = most.trim().parse().expect("a number");
    if most >= MOST {
        return None;
    }
    let mut mapped = Vec::with_capacity(MOST);
    while mapped.len() < MOST {
        // The system joins neighbours that are of one kind.
        let protection = match mapped.len() % 2 {
            0 => libc::PROT_NONE,
            _ => libc::PROT_READ,
        };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: nothing is replaced.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, protection, flags, -1, 0) };
        if page == libc::MAP_FAILED {
            break;
        }
        mapped.push(page);
    }
    let result = (mapped.len() < MOST).then(work);
    for page in mapped {
        // SAFETY: mapped above, and used by nobody.
        unsafe { libc::munmap(page, PAGE) };
    }
    result
}

/// Runs `work` while the address space has room for only so many `bytes` more. The
/// limit there was is put back.
pub fn with_room_for<R>(bytes: usize, work: impl FnOnce() -> R) -> R {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a valid place for the limit.
    let got = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) };
    assert_eq!(got, 0);
    let low = libc::rlimit {
        rlim_cur: (address_space() + bytes) as libc::rlim_t,
        ..limit
    };
    set_limit(low);
    let result = work();
    set_limit(limit);
    result
}

fn set_limit(limit: libc::rlimit) {
    // SAFETY: a valid limit.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) };
    assert_eq!(set, 0);
}

#[cfg(test)]
mod tests {
    use super::{address_space, resident, with_room_for};

    const BIG: usize = 1 << 30;

    #[test]
    fn the_limit_holds_for_the_work_and_not_after_it() {
        let can_reserve = || {
            let mut bytes = Vec::<u8>::new();
            let outcome = bytes.try_reserve_exact(BIG);
            std::hint::black_box(&bytes);
            outcome.is_ok()
        };
        assert!(!with_room_for(BIG / 2, can_reserve));
        assert!(can_reserve());
    }

    #[test]
    fn what_is_resident_is_part_of_the_address_space() {
        assert!(resident() > 0 && resident() < address_space());
    }
}
