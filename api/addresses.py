from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address

UNKNOWN = "unknown"


@lru_cache(maxsize=4096)
def network_of(host: str) -> str:
    """What counts as one address: for IPv6 its /64, which is the least that a customer is given (RFC 6177).

    What is no address counts as one and the same.
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return UNKNOWN
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Network((address, 64), strict=False).network_address)
    return str(address)
