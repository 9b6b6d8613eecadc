/* Our two connections to one peer: when to dial, when to try again, when to give up. Pure: time comes in. */
#ifndef SHUFFLE_WIRE_LINKS_H
#define SHUFFLE_WIRE_LINKS_H

#include "wire_peer.h"

namespace wire {

constexpr int64_t FIRST_RETRY_NS = 10 * 1000 * 1000;
constexpr int64_t LAST_RETRY_NS = 1000 * 1000 * 1000;

struct Link {
    enum State { IDLE, DIALLING, OPEN, STOPPED } state = IDLE;
    uint64_t connection = 0;
    int64_t retry_ns = 0;       /* when IDLE: dial then */
    int64_t backoff_ns = FIRST_RETRY_NS;
    int64_t give_up_ns = 0;
    size_t turn = 0;            /* of the peer's addresses */
    int told = -1;              /* the Reason told last: each is told once in a row */

    /* Begin to try, for at most `patience_ns`. */
    void start(int64_t now, int64_t patience_ns) {
        state = IDLE;
        retry_ns = now;
        backoff_ns = FIRST_RETRY_NS;
        give_up_ns = now + patience_ns;
        told = -1;
    }

    bool due(int64_t now) const { return state == IDLE && now >= retry_ns; }

    void on_dial(uint64_t id) {
        state = DIALLING;
        connection = id;
        turn += 1;
    }

    void on_open() {
        state = OPEN;
        told = -1;
    }

    /* An open connection ended. */
    void on_lost(int64_t now, int64_t patience_ns, Reason reason) {
        start(now, patience_ns);
        told = reason;
    }

    /* An attempt failed. Whether to try again. */
    bool on_failed(int64_t now) {
        if (now + backoff_ns >= give_up_ns) {
            state = STOPPED;
            return false;
        }
        state = IDLE;
        retry_ns = now + backoff_ns;
        backoff_ns = std::min(backoff_ns * 2, LAST_RETRY_NS);
        return true;
    }

    void stop() { state = STOPPED; }
};

struct Links {
    std::shared_ptr<Peer> peer;
    Link link[2];
};

} // namespace wire
#endif
