/* What native callers in C or C++ see of the transport: a handle and the codes of a send. */
#ifndef SHUFFLE_WIRE_API_H
#define SHUFFLE_WIRE_API_H

#ifdef __cplusplus
namespace wire { class Wire; }
typedef wire::Wire wire_t;
#else
typedef struct wire wire_t;
#endif

enum {
    SEND_OK = 0,
    SEND_LOST = 1,      /* the peer is gone, or its connection broke while the frame waited */
    SEND_DEADLINE = 2,
    SEND_REJECTED = 3,  /* the owner refused an earlier frame of this stream */
    SEND_CANCELLED = 4, /* abort_stream or close_shuffle */
    SEND_CLOSED = 5,    /* the transport was closed */
    SEND_TOO_LARGE = 6, /* above what the peer takes */
    SEND_NO_PEER = 7
};

#endif
