"""All scenarios. Importing a module declares its cases."""
from . import (admin, consume, frames, full_disk, groups, locks, mixed, namesrv, native_admin, offsets, overload, produce, pull, pulls,  # noqa: F401
               query, refusals, restarts, send, subscriptions, unsupported)
