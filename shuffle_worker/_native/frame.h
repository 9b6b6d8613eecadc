/* The frame header as it is on the wire and in a segment file: 96 bytes, little-endian. docs/protocol.md says what each
 * field means. This file is the layout only. */
#ifndef SHUFFLE_FRAME_H
#define SHUFFLE_FRAME_H

#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the frame header is read in place: only little-endian machines are supported"
#endif

#define FRAME_MAGIC 0x31464853u /* "SHF1" */
#define FRAME_VERSION 1
#define FRAME_HEADER_BYTES 96

/* kinds */
#define FRAME_HELLO 1      /* first on a connection: payload is JSON, who speaks and to whom */
#define FRAME_WELCOME 2    /* the answer to HELLO */
#define FRAME_REFUSE 3     /* payload is a sentence; the connection is closed after it */
#define FRAME_DATA 4       /* payload: index of a partition group, then an Arrow IPC stream of one batch */
#define FRAME_CREDIT 5     /* `length` is 0; `rows` holds nothing; `value` bytes more may be sent for `shuffle` */
#define FRAME_NEED 6       /* the sender waits with a frame of `value` bytes for `shuffle` */
#define FRAME_REJECT 7     /* a DATA frame of (map, epoch, attempt) was not taken; `value` is the verdict */
#define FRAME_CONTROL 8    /* payload is a message for the other process's Python */
#define FRAME_HEARTBEAT 9  /* `value` is a progress counter */
#define FRAME_KINDS 10

/* flags */
#define FRAME_CODEC_MASK 0x000f
#define FRAME_CODEC_NONE 0   /* buffers as they are */
#define FRAME_CODEC_LZ4 1    /* Arrow IPC body compression, LZ4_FRAME */
#define FRAME_CODEC_ZSTD 2   /* Arrow IPC body compression, ZSTD */
#define FRAME_CODEC_SNAPPY 3 /* the whole IPC stream, raw Snappy */
#define FRAME_GROUPED 0x0010 /* rows of several partitions: the payload opens with an index */

typedef struct __attribute__((packed)) frame_header {
    uint32_t magic;
    uint8_t version;
    uint8_t kind;
    uint16_t flags;
    uint8_t shuffle[16];     /* the job's or shuffle's UID */
    uint64_t incarnation;    /* of the process that made the frame */
    uint32_t map;
    uint32_t epoch;          /* (epoch, attempt) is the attempt's name, never reused */
    uint32_t attempt;
    uint32_t generation;     /* of the group's placement */
    uint32_t group;          /* partition group; the partition itself where groups hold one */
    uint32_t number;         /* 0, 1, 2, ... in the stream (shuffle, map, epoch, attempt) to one owner */
    uint32_t rows;
    uint32_t partitions;     /* entries of the index; 0 unless FRAME_GROUPED */
    uint64_t value;          /* CREDIT, NEED, REJECT, HEARTBEAT; DATA: sum of mixed key hashes of the rows */
    uint64_t length;         /* bytes of payload that follow */
    uint32_t payload_crc;    /* CRC32C of the payload */
    uint32_t reserved;       /* 0 */
    uint32_t reserved2;      /* 0 */
    uint32_t header_crc;     /* CRC32C of the 92 bytes before */
} frame_header_t;

#ifdef __cplusplus
static_assert(sizeof(frame_header_t) == FRAME_HEADER_BYTES, "frame header layout");
#else
_Static_assert(sizeof(frame_header_t) == FRAME_HEADER_BYTES, "frame header layout");
#endif

#endif
