"""All scenarios. Importing a module declares its cases."""
from . import (admin, consume, frames, full_disk, groups, locks, mixed, namesrv, offsets, overload, produce, pull, pulls, query, refusals, restarts, send,  # noqa: F401
               subscriptions, unsupported)
