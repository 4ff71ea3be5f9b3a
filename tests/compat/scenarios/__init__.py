"""All scenarios. Importing a module declares its cases."""
from . import (admin, consume, delays, directories, frames, full_disk, groups, locks, mixed, mqadmin, namesrv, native_admin, offsets, overload,  # noqa: F401
               produce, pull, pulls, query, refusals, restarts, retries, send, subscriptions, unsupported)
