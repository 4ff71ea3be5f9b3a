"""All scenarios. Importing a module declares its cases."""
from . import acting, admin, clocks, compaction, consume, controllers, dedup, delays, directories, failover, frames, full_disk, groups, light, locks, mixed, mqadmin  # noqa: F401
from . import namesrv, native_admin, offsets, overload, pops, priorities, produce, proxies, pull, pulls, query, refusals, replicas, restarts, retries, rolling  # noqa: F401
from . import send, sql_filters, static_topics, subscriptions, takeovers, timers, tls, trace, transactions, unsupported  # noqa: F401
