//! Requests to the operating system: descriptor limit, free memory, signals.
//!
//! The only file of this crate with `unsafe`: a few calls of libc that std does not offer. Signals are blocked before the first
//! thread starts and then received by `sigwait` on the main thread, so there is no handler that must be async-signal-safe.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;

/// Raises the limit of open descriptors to the hard limit, and returns it. Every connection and every file of the
/// store needs a descriptor, so the usual soft limit of 1,024 is too low.
pub(crate) fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid, exclusively borrowed rlimit for the call to fill.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is a valid rlimit that the call only reads.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    }
    Ok(limit.rlim_cur)
}

/// Returns free memory to the system. The allocator caches freed memory, up to some 100 MiB with a few threads.
pub(crate) fn give_back_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes no pointer, and locks what it looks at.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Ignores SIGXFSZ, so that a limit on the size of files (`ulimit -f`) becomes an error of the write or allocation, which the store
/// handles like a full disk. Otherwise the signal ends the process.
pub(crate) fn survive_file_size_limit() -> io::Result<()> {
    // SAFETY: no handler is installed; ignoring a signal is async-signal-safe by nature.
    let before = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    if before == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sends SIGTERM to a process of this user. One that has ended is left alone.
pub(crate) fn terminate(process: u32) {
    if let Ok(process) = libc::pid_t::try_from(process) {
        // SAFETY: the call takes no pointer; the caller names a child of its own that it has not waited for.
        unsafe {
            libc::kill(process, libc::SIGTERM);
        }
    }
}

/// The signals that stop this process, blocked in every thread that starts later.
pub(crate) struct StopSignals(libc::sigset_t);

impl StopSignals {
    /// Blocks SIGTERM and SIGINT. Must be called before any other thread exists.
    pub(crate) fn block() -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set it is given; sigaddset then changes an initialised set with valid signal numbers.
        let set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
            libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
            set.assume_init()
        };
        let signals = Self(set);
        signals.mask(libc::SIG_BLOCK)?;
        Ok(signals)
    }

    /// Waits for one of them. Afterwards they have their default effect again: a second one ends the process at once.
    pub(crate) fn wait(self) -> io::Result<()> {
        let mut signal = 0;
        // SAFETY: the set is initialised and blocked, `signal` is a valid place for the number.
        let error = unsafe { libc::sigwait(&self.0, &mut signal) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        self.mask(libc::SIG_UNBLOCK)
    }

    /// Sends one of them to this process, so that it stops as if it was told to.
    pub(crate) fn send() {
        // SAFETY: the call takes no pointer; the signal is blocked in every thread and received by `wait`, or ends the process.
        unsafe {
            libc::kill(libc::getpid(), libc::SIGTERM);
        }
    }

    fn mask(&self, how: libc::c_int) -> io::Result<()> {
        // SAFETY: the set is initialised; the call only reads it, and a null old set is allowed.
        let error = unsafe { libc::pthread_sigmask(how, &self.0, std::ptr::null_mut()) };
        if error == 0 {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(error))
        }
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptor_limit_ends_at_what_is_allowed() {
        let first = raise_descriptor_limit().unwrap();
        assert!(first > 0);
        assert_eq!(raise_descriptor_limit().unwrap(), first);
    }
}
