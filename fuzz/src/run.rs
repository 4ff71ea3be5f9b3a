//! Running a target: the corpus, then changes of it, and what is done when one fails.

use crate::Target;
use crate::mutate::{Random, mutate};
use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

/// No input of [`crate::mutate::MAX_LEN`] may take longer.
const SLOWEST: Duration = Duration::from_secs(5);
/// Bytes of memory that the process may have at the end of a run.
const MEMORY_MAX: u64 = 1 << 30;

/// An input on which a target failed.
#[derive(Debug)]
pub struct Failed {
    /// The target.
    pub target: &'static str,
    /// What it said.
    pub why: String,
    /// The input.
    pub input: Vec<u8>,
}

/// The corpus of a target.
///
/// # Errors
/// The directory of found inputs cannot be read.
pub fn corpus(target: &Target) -> io::Result<Vec<Vec<u8>>> {
    let mut seeds = (target.seeds)();
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    if found.exists() {
        for entry in fs::read_dir(found)? {
            seeds.push(fs::read(entry?.path())?);
        }
    }
    Ok(seeds)
}

/// Runs a target on its corpus as it is.
///
/// # Errors
/// The first input it fails on.
pub fn replay(target: &Target, corpus: &[Vec<u8>]) -> Result<(), Failed> {
    corpus.iter().try_for_each(|input| once(target, input))
}

/// Runs a target on changed inputs until `more` says that it is enough. How many.
///
/// # Errors
/// The first input it fails on, or too much memory.
pub fn random(target: &Target, corpus: &[Vec<u8>], seed: u64, mut more: impl FnMut(u64) -> bool) -> Result<u64, Failed> {
    let mut random = Random(seed);
    let mut count = 0;
    while more(count) {
        once(target, &mutate(corpus, &mut random))?;
        count += 1;
    }
    match memory() {
        Some(bytes) if bytes > MEMORY_MAX => Err(Failed {
            target: target.name,
            why: format!("{bytes} bytes of memory after {count} inputs"),
            input: Vec::new(),
        }),
        _ => Ok(count),
    }
}

thread_local! {
    /// Whether a target is at work on this thread.
    static AT_WORK: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics of a target are told with its input; all others as ever.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if AT_WORK.get() {
                PANIC.set(Some(info.to_string()));
            } else {
                usual(info);
            }
        }));
    });
}

fn once(target: &Target, input: &[u8]) -> Result<(), Failed> {
    keep_panics();
    let begun = Instant::now();
    AT_WORK.set(true);
    let outcome = panic::catch_unwind(|| (target.run)(input));
    AT_WORK.set(false);
    let took = begun.elapsed();
    let why = match outcome {
        Ok(()) if took <= SLOWEST => return Ok(()),
        Ok(()) => format!("it took {took:?}"),
        Err(_) => PANIC.take().unwrap_or_else(|| "it panicked".to_owned()),
    };
    Err(Failed {
        target: target.name,
        why,
        input: input.to_vec(),
    })
}

/// Resident memory of this process; `None` where the machine does not say.
fn memory() -> Option<u64> {
    let pages: u64 = fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// Keeps an input for whoever mends what it found, and says where.
///
/// # Errors
/// It cannot be written.
pub fn keep(failed: &Failed, dir: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(dir)?;
    let hash = failed.input.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    let path = dir.join(format!("{}-{hash:016x}", failed.target));
    fs::write(&path, &failed.input)?;
    Ok(path)
}
