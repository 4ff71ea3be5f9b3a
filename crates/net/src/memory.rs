//! Memory that was needed for a while: when it is gone, an allocator may keep it for the next time. A process that was made large by
//! peers that did not read should be small again afterwards.

use std::sync::OnceLock;
use std::time::Duration;

/// What connections that have just closed need to free the rest of their memory.
const SETTLE: Duration = Duration::from_millis(500);

static GIVE_BACK: OnceLock<fn()> = OnceLock::new();

/// Has `give_back` called whenever much had waited for peers of a server of this process, and little does now. It is to return free
/// memory to the system, and runs on a thread of its own. The first call of this counts.
pub fn when_relieved(give_back: fn()) {
    // A second allocator cannot be: whoever comes later wants the same.
    let _ = GIVE_BACK.set(give_back);
}

/// Calls what [`when_relieved`] named, if anything, without waiting for it.
pub(crate) fn give_back() {
    if let Some(give_back) = GIVE_BACK.get() {
        // Without a thread the memory stays for the next time.
        let _ = std::thread::Builder::new().name("trim".to_owned()).spawn(move || {
            std::thread::sleep(SETTLE);
            give_back();
        });
    }
}
