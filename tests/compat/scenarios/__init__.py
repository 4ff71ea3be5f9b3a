"""All scenarios. Importing a module declares its cases."""
from . import admin, compaction, consume, dedup, delays, directories, frames, full_disk, groups, locks, mixed, mqadmin, namesrv, native_admin  # noqa: F401
from . import offsets, overload, pops, priorities, produce, pull, pulls, query, refusals, restarts, retries, send, sql_filters, subscriptions  # noqa: F401
from . import timers, trace, transactions, unsupported  # noqa: F401
