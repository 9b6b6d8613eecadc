"""Addresses as people write them, and as names of peers that have not said theirs. Pure."""

from shuffle_worker.errors import UserError


def door_of(host: str, port: int) -> str:
    """The name under which the transport knows a peer of which only the address is known."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[host]:port". :raises UserError: it is neither."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(f"{address!r} is not an address: expected host:port, such as 127.0.0.1:7070")
    return host, int(port)
