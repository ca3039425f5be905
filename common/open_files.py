import logging
import resource

# What a process has open beside its clients' connections: the database's, the broker's and the cache's, logs.
_OTHERS = 200
_LOG = logging.getLogger(__name__)


def files_for(connections: int) -> int:
    """Ask the system for as many open files as so many connections want; how many of these can be had.

    A warning in the log says so when they are fewer. If more were let in, whatever else wants a file would
    have none.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHERS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    possible = max(1, soft - _OTHERS)
    _LOG.warning("fewer connections than asked for", extra={"connections_max": possible})
    return possible
