"""All scenarios. Importing a module declares its cases."""
from . import admin, clocks, compaction, consume, dedup, delays, directories, frames, full_disk, groups, locks, mixed, mqadmin, namesrv  # noqa: F401
from . import native_admin, offsets, overload, pops, produce, pull, pulls, query, refusals, restarts, retries, send, sql_filters  # noqa: F401
from . import subscriptions, timers, trace, transactions, unsupported  # noqa: F401
