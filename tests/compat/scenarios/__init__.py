"""All scenarios. Importing a module declares its cases."""
from . import (admin, consume, frames, groups, locks, mixed, offsets, produce, pull, query, refusals, restarts, send, subscriptions)  # noqa: F401
