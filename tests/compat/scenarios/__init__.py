"""All scenarios. Importing a module declares its cases."""
from . import (admin, consume, frames, groups, locks, mixed, namesrv, offsets, produce, pull, pulls, query, refusals, restarts, send,  # noqa: F401
               subscriptions, unsupported)
