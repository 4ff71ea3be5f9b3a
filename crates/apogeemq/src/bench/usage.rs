//! CPU time and memory of a process from Linux's /proc. On other systems, and for ended processes, there are no values.

use std::fs;

/// Clock ticks a second in /proc/PID/stat: fixed by Linux' user interface.
const TICKS_PER_SECOND: f64 = 100.0;
const KIB_PER_MB: f64 = 1024.0;

/// CPU seconds of a process, all threads, user and system.
pub(super) fn cpu_seconds(pid: u32) -> Option<f64> {
    cpu_of(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The command's name is in brackets and may contain anything, so fields are counted from the last bracket.
fn cpu_of(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

/// Memory of a process, in MiB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Memory {
    /// Resident memory, including mapped files.
    pub(super) resident: f64,
    /// Anonymous memory.
    pub(super) anonymous: f64,
}

/// Current memory of a process.
pub(super) fn memory(pid: u32) -> Option<Memory> {
    memory_of(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn memory_of(status: &str) -> Option<Memory> {
    let mib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<f64>().ok()? / KIB_PER_MB)
    };
    Some(Memory {
        resident: mib("VmRSS:")?,
        anonymous: mib("RssAnon:")?,
    })
}

/// Sets the timer slack of this thread, so that sleeps end on time instead of up to 50 µs late. If this fails, sleeps are late, which
/// the report shows.
pub(super) fn make_sleeps_precise() {
    let own = fs::read_link("/proc/thread-self").ok();
    if let Some(id) = own.as_deref().and_then(|path| path.file_name()).and_then(|name| name.to_str()) {
        // Best effort, see above.
        let _ = fs::write(format!("/proc/{id}/timerslack_ns"), "1");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_after_a_name_with_brackets() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_of(stat), Some(2.0));
        assert_eq!(cpu_of("7 (a"), None);
    }

    #[test]
    fn memory_is_reported_in_mib() {
        let status = "Name:\tx\nVmRSS:\t  2048 kB\nRssAnon:\t     512 kB\n";
        assert_eq!(
            memory_of(status),
            Some(Memory {
                resident: 2.0,
                anonymous: 0.5
            })
        );
        assert_eq!(memory_of("Name:\tx\n"), None);
    }

    #[test]
    fn a_missing_process_has_no_values() {
        assert_eq!(cpu_seconds(u32::MAX), None);
        assert_eq!(memory(u32::MAX), None);
        assert!(cpu_seconds(std::process::id()).is_some());
    }
}
