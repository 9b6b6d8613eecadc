"""Contents of recode.pyx: what pyarrow does to a frame that was encoded natively."""
from libc.stdint cimport int64_t

from shuffle_worker._native.buffer cimport BufferPool
from shuffle_worker._native.frame cimport Frame


cdef Frame recode(Frame frame, int64_t start, object schema, dict nested, str codec, BufferPool pool)
