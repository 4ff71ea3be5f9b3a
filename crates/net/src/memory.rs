//! Returns free memory to the system. An allocator may keep what was freed; a process that grew because peers did not read should shrink
//! again.

use std::sync::OnceLock;
use std::time::Duration;

/// Time for connections that have just closed to free the rest of their memory.
const SETTLE: Duration = Duration::from_millis(500);

static TRIM: OnceLock<fn()> = OnceLock::new();

/// Registers the function that returns free memory to the system. It is called on a thread of its own whenever much was unread by peers
/// of a server of this process and little is now. Only the first call has an effect.
pub fn when_relieved(trim: fn()) {
    // There is one allocator, so a later caller has the same function.
    let _ = TRIM.set(trim);
}

/// Calls the function of [`when_relieved`], if there is one, without waiting for it.
pub(crate) fn trim() {
    if let Some(trim) = TRIM.get() {
        // If no thread can be started, memory is returned the next time.
        let _ = std::thread::Builder::new().name("trim".to_owned()).spawn(move || {
            std::thread::sleep(SETTLE);
            trim();
        });
    }
}
