"""Where the record batches of an Arrow IPC file are and how many rows each has, found without reading their bodies.

pyarrow counts rows only by loading every batch. The few fields needed here are read from the flatbuffers themselves:
https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format, format/File.fbs and format/Message.fbs.
"""

import struct
from dataclasses import dataclass

import pyarrow as pa

MAGIC = b"ARROW1"
FEATHER_V1 = b"FEA1"
CONTINUATION = 0xFFFFFFFF
MAX_METADATA_BYTES = 256 << 20
_BLOCK = struct.Struct("<qi4xq")

# Message.fbs: fields of Message, members of the union MessageHeader, fields of RecordBatch. File.fbs: of Footer.
_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_LENGTH, _COMPRESSION = 0, 3
_FOOTER_BATCHES = 3


class IpcFormatError(ValueError):
    """These bytes are not what the format prescribes."""


@dataclass(frozen=True)
class BatchPlace:
    """One record batch: where its message begins, and what it holds. `bytes` is of the body as stored."""

    offset: int
    rows: int
    bytes: int
    compressed: bool


@dataclass(frozen=True)
class IpcLayout:
    """All record batches of a file. In the stream format, `dictionaries` says that some batch depends on others."""

    is_file: bool
    batches: tuple[BatchPlace, ...]
    dictionaries: bool


def read_layout(file: pa.NativeFile) -> IpcLayout:
    """:raises IpcFormatError: the file is damaged, or is none."""
    size = file.size()
    start = _read(file, 0, min(size, 8))
    if start.startswith(FEATHER_V1):
        raise IpcFormatError("it is a Feather file of version 1: write it again with version 2")
    if start.startswith(MAGIC):
        return IpcLayout(True, tuple(_file_batches(file, size)), False)
    return _walk_stream(file, size)


def _file_batches(file: pa.NativeFile, size: int) -> list[BatchPlace]:
    tail = _read(file, max(0, size - 10), min(size, 10))
    if size < 18 or tail[4:] != MAGIC:
        raise IpcFormatError("it ends before its footer: it was not written to the end")
    length = struct.unpack_from("<i", tail)[0]
    if not 0 < length <= min(size - 18, MAX_METADATA_BYTES):
        raise IpcFormatError(f"its footer claims {length} bytes")
    footer = _Table.root(_read(file, size - 10 - length, length))
    places = []
    for offset, metadata_length, _ in footer.structs(_FOOTER_BATCHES, _BLOCK):
        if not 0 <= offset < size or not 8 <= metadata_length <= MAX_METADATA_BYTES:
            raise IpcFormatError(f"its footer puts a batch of {metadata_length} bytes at {offset}")
        place = _place(_message(file, offset, size), offset)
        if place is None:
            raise IpcFormatError(f"there is no record batch at {offset}, where the footer puts one")
        places.append(place)
    return places


def _walk_stream(file: pa.NativeFile, size: int) -> IpcLayout:
    places, dictionaries, offset = [], False, 0
    while offset + 8 <= size:
        found = _message(file, offset, size)
        if found is None:
            break
        place = _place(found, offset)
        if place is not None:
            places.append(place)
        header, end = found
        dictionaries = dictionaries or header.u8(_HEADER_TYPE) == _DICTIONARY_BATCH
        offset = end + header.i64(_BODY_LENGTH)
    if offset > size:
        raise IpcFormatError(f"it ends after {size} bytes, within a batch: it was not written to the end")
    if not offset:
        raise IpcFormatError("it does not begin as an Arrow IPC file or stream does")
    return IpcLayout(False, tuple(places), dictionaries)


def _message(file: pa.NativeFile, offset: int, size: int) -> "tuple[_Table, int] | None":
    """The message at an offset and where its body begins; None at the end-of-stream mark."""
    mark, length = struct.unpack("<Ii", _read(file, offset, 8))
    start = offset + 8
    if mark != CONTINUATION:  # before format version 0.15 there was no mark
        length, start = mark, offset + 4
    if length == 0:
        return None
    if not 8 <= length <= min(size - start, MAX_METADATA_BYTES):
        raise IpcFormatError(f"a message at {offset} claims {length} bytes of metadata")
    message = _Table.root(_read(file, start, length))
    if message.i64(_BODY_LENGTH) < 0:
        raise IpcFormatError(f"a message at {offset} claims a body of {message.i64(_BODY_LENGTH)} bytes")
    return message, start + length


def _place(found: "tuple[_Table, int] | None", offset: int) -> BatchPlace | None:
    if found is None or found[0].u8(_HEADER_TYPE) != _RECORD_BATCH:
        return None
    message = found[0]
    batch = message.table(_HEADER)
    return BatchPlace(offset, batch.i64(_LENGTH), message.i64(_BODY_LENGTH), batch.has(_COMPRESSION))


def _read(file: pa.NativeFile, offset: int, length: int) -> bytes:
    file.seek(offset)
    data: bytes = file.read(length)
    if len(data) != length:
        raise IpcFormatError(f"it ends before byte {offset + length}")
    return data


class _Table:
    """A flatbuffers table. Every read is checked against the buffer."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        self._vtable = at - self._unpack("<i", at)
        self._vtable_bytes = self._unpack("<H", self._vtable)

    @staticmethod
    def root(data: bytes) -> "_Table":
        return _Table(data, _unpack(data, "<I", 0))

    def has(self, field: int) -> bool:
        return self._offset(field) != 0

    def u8(self, field: int) -> int:
        return self._scalar("<B", field)

    def i64(self, field: int) -> int:
        return self._scalar("<q", field)

    def table(self, field: int) -> "_Table":
        at = self._place(field)
        return _Table(self._data, at + self._unpack("<I", at))

    def structs(self, field: int, layout: struct.Struct) -> list[tuple[int, ...]]:
        """The elements of a vector of structs; none if it is left out."""
        if not self.has(field):
            return []
        at = self._place(field)
        at += self._unpack("<I", at)
        count = self._unpack("<I", at)
        body = self._data[at + 4 : at + 4 + count * layout.size]
        if len(body) != count * layout.size:
            raise IpcFormatError(f"a vector of {count} elements goes beyond its buffer")
        return list(layout.iter_unpack(body))

    def _scalar(self, code: str, field: int) -> int:
        offset = self._offset(field)
        return self._unpack(code, self._at + offset) if offset else 0

    def _place(self, field: int) -> int:
        offset = self._offset(field)
        if not offset:
            raise IpcFormatError(f"a table lacks its field {field}")
        return self._at + offset

    def _offset(self, field: int) -> int:
        """Of a field within the table; 0 when it is left out."""
        slot = 4 + 2 * field
        return self._unpack("<H", self._vtable + slot) if slot + 2 <= self._vtable_bytes else 0

    def _unpack(self, code: str, at: int) -> int:
        return _unpack(self._data, code, at)


def _unpack(data: bytes, code: str, at: int) -> int:
    if not 0 <= at <= len(data) - struct.calcsize(code):
        raise IpcFormatError(f"an offset of {at} leaves a buffer of {len(data)} bytes")
    value: int = struct.unpack_from(code, data, at)[0]
    return value
