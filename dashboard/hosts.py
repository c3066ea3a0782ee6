"""The names that the dashboard is asked under, and the pages that may ask.

A browser sends every page's cookies and every reader's rights along, whichever page it was that
asked. Two headers, which no script can write, say whom the reader meant:

- `Host` is the name in the address bar. Anyone can have a name of their own lead to 127.0.0.1
  ("DNS rebinding"), and their page then counts as ours; but its Host stays that name.
- `Origin` is the page that asks, also where it asks across ports: each other server on this
  machine is another origin.

So a name must be one that is known, and the page must be of that very name and port.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::([0-9]{1,5}))?")
_ORIGIN = re.compile(r"(https?)://(.{1,300})", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Host:
    """As in a Host header or a URL. `port`: None stands for the default of http or https."""

    name: str  # in small letters; an IPv6 address without its brackets
    port: int | None = None

    @property
    def is_loopback(self) -> bool:
        """Never a name that someone else could have lead here."""
        return self.name == "localhost" or is_loopback(self.name)

    def port_or(self, scheme: str) -> int:
        return _DEFAULT_PORTS[scheme] if self.port is None else self.port


def parse_host(text: str) -> Host | None:
    """None where it is no host, or no host:port."""
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        return None
    address, name, port = found.groups()
    if address is not None and _address(address) is None:
        return None
    number = None if port is None else int(port)
    if number is not None and not 0 < number < 65_536:
        return None
    return Host((address or name).lower(), number)


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches what listens there."""
    found = _address(address)
    return address == "localhost" or (found is not None and found.is_loopback)


def same_origin(origin: str, host: Host) -> str | None:
    """The scheme of the page that asks, where it is a page of that host; else None."""
    found = _ORIGIN.fullmatch(origin)
    page = None if found is None else parse_host(found[2])
    if found is None or page is None:
        return None
    scheme = found[1].lower()
    return (
        scheme if (page.name, page.port_or(scheme)) == (host.name, host.port_or(scheme)) else None
    )


def is_this_machine(headers: Mapping[str, str], port: int) -> bool:
    """Whether the reader sits at this machine, with the dashboard's own page before them.

    `headers` of the request, by lower-case name; `port`: that the dashboard listens on.
    """
    host = parse_host(headers.get("host", ""))
    if host is None or not host.is_loopback:
        return False
    scheme = same_origin(headers.get("origin", ""), host)
    return scheme is not None and host.port_or(scheme) == port


@dataclass(frozen=True, slots=True)
class KnownHosts:
    """`named`: by the operator, each with its port. `only_here`: it listens on loopback alone."""

    named: frozenset[Host]
    only_here: bool

    def __contains__(self, asked: tuple[Host, str, int]) -> bool:
        """Asked: the Host, and the address and port that the request came in by.

        An address cannot be made to lead elsewhere, so the one that was called is known. Loopback
        may have another port in front (a port-forward) where the port of all is open anyway.
        """
        host, address, port = asked
        if _plain(host) in self.named:
            return True
        if host.is_loopback:
            return not self.only_here or host.port_or("http") == port
        called, named = _address(address), _address(host.name)
        return named is not None and named == called and host.port_or("http") == port


def known_hosts(named: frozenset[Host], listening: str | None) -> KnownHosts:
    """`listening`: the address that the dashboard is bound to; None: all."""
    return KnownHosts(frozenset(map(_plain, named)), is_loopback(listening or ""))


def _plain(host: Host) -> Host:
    """Names with and without the default port are one."""
    return Host(host.name) if host.port in _DEFAULT_PORTS.values() else host


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
