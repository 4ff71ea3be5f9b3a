"""All scenarios. Importing a module declares its cases."""
from . import (admin, consume, frames, full_disk, groups, locks, mixed, mqadmin, namesrv, native_admin, offsets, overload,  # noqa: F401
               produce, pull, pulls, query, refusals, restarts, send, subscriptions, unsupported)
