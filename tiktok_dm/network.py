"""Links that strangers give reach public addresses only: nothing of the machine, its network or its cloud is asked.

Inside `public_only()` a name is resolved once, each of its addresses must be public, and the connection goes to the
very addresses that were checked, also after a redirect: the check stands in `socket.getaddrinfo`, from which Python's
own HTTP client and yt-dlp's take the addresses that they connect to. Other threads are not touched. A proxy that the
environment names is asked as always; it resolves names by itself, so that what it reaches is its own matter.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

_here = threading.local()
_resolve = socket.getaddrinfo
# IPv4 addresses inside IPv6 ones: NAT64 (well-known and local prefixes), 6to4, Teredo and IPv4-compatible.
_WRAPPED = [ipaddress.IPv6Network(net) for net in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")]


class NotPublic(OSError):
    """A link that leads to an address which is not public."""


def is_public(address: str) -> bool:
    """Whether an IPv4 or IPv6 address, as text, is one of the public internet."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif any(ip in net for net in _WRAPPED):
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def _proxies() -> set[str | None]:
    return {urlsplit(url if "//" in url else f"//{url}").hostname for url in getproxies().values()} - {None}


def _checked(*args: Any, **kwargs: Any) -> Any:
    found = _resolve(*args, **kwargs)
    if getattr(_here, "only", False) and args[0] not in _proxies():
        for *_, place in found:
            if not is_public(str(place[0])):
                raise NotPublic("the link leads to an address that is not public")
    return found


@contextlib.contextmanager
def public_only(allow_private: bool = False) -> Iterator[None]:
    """Let this thread connect to public addresses only, unless `allow_private`.

    Raises:
        NotPublic: by whatever connects inside, for any other address.
    """
    if allow_private:
        yield
        return
    before = getattr(_here, "only", False)
    if socket.getaddrinfo is not _checked:
        socket.getaddrinfo = _checked
    _here.only = True
    try:
        yield
    finally:
        _here.only = before
