"""Everything this package raises, by whose fault it is.

    ShuffleError
      UserError              the input, the manifest or a call is wrong; trying again changes nothing
        SpecError            the manifest: `at` is the path of the field
        InputError           the source: a file, a row group, a column
        OutputError          the sink: it exists, is not shared, is full
        AdmissionError       the job cannot fit: memory, disk, open files, with figures
      PeerError              another process or the machine: trying again elsewhere may work
        PeerLost             a member is gone or silent: names it and what was waited for
        DeadlineExceeded     a wait ended: names what was waited for and how long
        OutcomeUnknown       a send may or may not have been committed
        ShuffleLost          pushed data that cannot be read again was lost with its owner
        Fenced               an older epoch, generation or incarnation spoke
        Corrupted            bytes do not match their checksum: names the worker or the file and offset
        DiskFull             every spill directory is at its reserve
        Cancelled            somebody asked for the end
      InternalError          our own bug: a promise that the code makes to itself does not hold

A message names the fault, the place and the remedy, in one sentence a person understands.
"""


class ShuffleError(Exception):
    """Root of all errors of this package."""


class UserError(ShuffleError):
    """The caller can mend it; a retry of the same thing fails again."""


class SpecError(UserError):
    """A manifest or setting is wrong. `at` is the field's path, such as `spec.shuffle.keys[0]`."""

    def __init__(self, message: str, at: str = "") -> None:
        super().__init__(f"{at}: {message}" if at else message)
        self.at = at


class InputError(UserError):
    """The source cannot be read as the manifest says."""


class OutputError(UserError):
    """The sink refuses: it exists, is not shared by the members, or cannot be written."""


class AdmissionError(UserError):
    """The job cannot fit in what it was given; the message holds the figures."""


class PeerError(ShuffleError):
    """Another process, the network or a disk failed; the same thing may work elsewhere or later."""


class PeerLost(PeerError):
    """A member is gone, was restarted, or has been silent for too long."""


class DeadlineExceeded(PeerError):
    """A wait ended without what it waited for."""


class OutcomeUnknown(PeerError):
    """The answer to a commit did not come: it may have happened. Send again under the same map id."""


class ShuffleLost(PeerError):
    """A partition was lost with its only owner and its data cannot be read again."""


class Fenced(PeerError):
    """A command or frame of an older epoch, generation or incarnation, or of an unknown shuffle."""


class Corrupted(PeerError):
    """Bytes that do not match their checksum."""


class DiskFull(PeerError):
    """No spill directory has room above its reserve."""


class Cancelled(PeerError):
    """The work was cancelled."""


class InternalError(ShuffleError):
    """A promise of this package to itself is broken: please report it."""
