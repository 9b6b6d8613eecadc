"""Types of receiver.pyx."""

class Receiver:
    """What a transport hands frames to. Only native subclasses do anything: the contract is in receiver.pxd."""
