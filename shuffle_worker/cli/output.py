"""Results on standard output."""

import msgspec


def print_json(value: object) -> None:
    """An object of the model, as JSON for people and machines."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
