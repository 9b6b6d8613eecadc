/* The transport's plain types: identities, limits, counters, the receiver as a table of functions. No behaviour. */
#ifndef SHUFFLE_WIRE_BASE_H
#define SHUFFLE_WIRE_BASE_H

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "buffer.h"
#include "crc32c.h"
#include "frame.h"
#include "monitor.h"
#include "wire_api.h"

namespace wire {

constexpr int PROTOCOL = 1;
constexpr int64_t HELLO_LIMIT = 4096;      /* payload of HELLO, WELCOME, REFUSE: the most a stranger makes us hold */
constexpr int64_t FRAME_CREDIT_MIN = 4096; /* receiver.pxd */
constexpr uint32_t ALL = 0xffffffffu;      /* map, epoch and attempt of a REJECT that means the whole shuffle */
constexpr int VERDICTS = 7;                /* receiver.pxd */
enum { TAKEN = 0, DUPLICATE = 1, FENCED = 2, GAP = 3, UNKNOWN = 4, NO_MEMORY = 5, TOO_LARGE = 6 };
enum { GRANT_LATER = -1, GRANT_FENCED = -2, GRANT_TOO_LARGE = -3 };

inline int64_t frame_credit(uint64_t length) {
    return length > (uint64_t)FRAME_CREDIT_MIN ? (int64_t)length : FRAME_CREDIT_MIN;
}

/* Why a connection ended, in the order of wire.types.Reason. */
enum Reason { REFUSED, RESET, TIMEOUT, CLOSED, REJECTED_HELLO, BROKE_PROTOCOL, CORRUPT, REPLACED, GAVE_UP };
/* Why a frame was refused: the faults of frame_header_check come first, under their own numbers. */
enum Fault {
    BAD_MAGIC = 1, BAD_VERSION, BAD_KIND, BAD_HEADER_CRC, TOO_LONG, BAD_PAYLOAD_CRC,
    UNEXPECTED_KIND, OVER_CREDIT, TOO_MANY_SHUFFLES, BAD_HELLO, FAULTS
};
/* Why a HELLO was refused. */
enum Refusal { WRONG_TOKEN = 1, WRONG_INCARNATION, WRONG_VERSION, MALFORMED, LATE, TOO_MANY, REFUSALS };
enum Role { DATA_ROLE = 0, CONTROL_ROLE = 1 };

struct Uid {
    uint64_t high = 0, low = 0;
    Uid() = default;
    explicit Uid(const uint8_t *bytes) { memcpy(&high, bytes, 8); memcpy(&low, bytes + 8, 8); }
    void put(uint8_t *bytes) const { memcpy(bytes, &high, 8); memcpy(bytes + 8, &low, 8); }
    bool operator==(const Uid &o) const { return high == o.high && low == o.low; }
    bool operator<(const Uid &o) const { return high != o.high ? high < o.high : low < o.low; }
};
struct UidHash {
    size_t operator()(const Uid &u) const { return (u.high ^ (u.low * 0x9e3779b97f4a7c15ull)) * 0xff51afd7ed558ccdull; }
};

/* One map attempt's frames to one owner, within a shuffle. */
struct StreamKey {
    uint32_t map = ALL, epoch = ALL, attempt = ALL;
    StreamKey() = default;
    StreamKey(uint32_t m, uint32_t e, uint32_t a) : map(m), epoch(e), attempt(a) {}
    explicit StreamKey(const frame_header_t &h) : map(h.map), epoch(h.epoch), attempt(h.attempt) {}
    bool all() const { return map == ALL && epoch == ALL && attempt == ALL; }
    bool operator==(const StreamKey &o) const { return map == o.map && epoch == o.epoch && attempt == o.attempt; }
    bool operator<(const StreamKey &o) const {
        return map != o.map ? map < o.map : epoch != o.epoch ? epoch < o.epoch : attempt < o.attempt;
    }
};

/* A Receiver (receiver.pxd) without Python. */
struct ReceiverTable {
    void *self;
    int64_t (*grant)(void *self, const uint8_t *shuffle, int64_t wanted, int alone);
    void (*ungrant)(void *self, const uint8_t *shuffle, int64_t bytes);
    buffer_t *(*obtain)(void *self, const frame_header_t *header);
    int (*deliver)(void *self, const frame_header_t *header, buffer_t *payload);
};

struct Config {
    std::string name, host, advertise_host;
    uint64_t incarnation = 0;
    int port = 0;
    std::vector<std::string> tokens;
    int64_t window_bytes = 0, max_frame_bytes = 0, max_control_bytes = 0, control_queue_bytes = 0;
    int64_t max_connections = 0, max_strangers = 0, max_shuffles = 0;
    int64_t hello_timeout_ns = 0, connect_timeout_ns = 0, user_timeout_ns = 0, heartbeat_ns = 0;
};

using Count = std::atomic<int64_t>;
inline void add(Count &c, int64_t n) { c.fetch_add(n, std::memory_order_relaxed); }
inline int64_t get(const Count &c) { return c.load(std::memory_order_relaxed); }

struct Counters {
    Count frames_in{0}, frames_out{0}, bytes_in{0}, bytes_out{0}, messages_in{0}, messages_out{0};
    Count accepted{0}, opened{0}, lost{0}, stalls{0}, stall_ns{0}, events_dropped{0};
    std::array<Count, FAULTS> faults{};
    std::array<Count, VERDICTS> verdicts{};
    std::array<Count, REFUSALS> refusals{};
};

inline std::string hex64(uint64_t value) {
    char text[17];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)value);
    return text;
}

} // namespace wire
#endif
