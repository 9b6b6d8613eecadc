/* A hub driven by hand: for tests of the protocol without sockets and clock. */
#ifndef SHUFFLE_WIRE_HARNESS_H
#define SHUFFLE_WIRE_HARNESS_H

#include "wire_hub.h"

namespace wire {

inline Config harness_config(const std::vector<std::string> &tokens, uint64_t incarnation, int64_t window,
                             int64_t max_frame, int64_t max_control) {
    Config c;
    c.name = "harness";
    c.host = "127.0.0.1";
    c.port = 1;
    c.tokens = tokens;
    c.incarnation = incarnation;
    c.window_bytes = window;
    c.max_frame_bytes = max_frame;
    c.max_control_bytes = max_control;
    c.control_queue_bytes = 16 * max_control;
    c.max_connections = 1024;
    c.max_strangers = 64;
    c.max_shuffles = 64;
    return c;
}

class Harness : private Hub {
  public:
    Harness(const ReceiverTable &receiver, const std::vector<std::string> &tokens, uint64_t incarnation, int64_t window,
            int64_t max_frame, int64_t max_control)
        : Hub(harness_config(tokens, incarnation, window, max_frame, max_control), receiver) { set_now(1); }
    ~Harness() { while (!connections_.empty()) remove(connections_.begin()->second.get()); }

    uint64_t accept() {
        uint64_t id = add_inbound("test")->id;
        reap();
        return id;
    }

    uint64_t dial(const std::string &name, uint64_t expect, bool data) {
        auto peer = std::make_shared<Peer>(1, name, "test", 1, expect, std::vector<SocketAddress>());
        return add_outbound(peer, data ? DATA_ROLE : CONTROL_ROLE)->id;
    }

    bool feed(uint64_t id, const uint8_t *bytes, size_t size) {
        Connection *c = find(id);
        bool reads = c != nullptr && c->feed(bytes, size);
        settle(id);
        return reads;
    }

    bool feed_straight(uint64_t id, const uint8_t *bytes, size_t size) {
        Connection *c = find(id);
        bool reads = c != nullptr;
        while (reads && size > 0) {
            uint8_t *to = nullptr;
            size_t n = c->space(&to, size);
            if (n > 0) {
                memcpy(to, bytes, n);
                reads = c->filled(n);
            } else {
                n = std::min<size_t>(size, 32);
                reads = c->feed(bytes, n);
            }
            bytes += n;
            size -= n;
        }
        settle(id);
        return reads;
    }

    std::string output(uint64_t id) {
        Connection *c = find(id);
        std::string out;
        if (c == nullptr) return out;
        struct iovec pieces[16];
        while (int n = c->outbox.fill(pieces, 16, INT64_MAX)) {
            int64_t bytes = 0;
            for (int i = 0; i < n; i++) {
                out.append((const char *)pieces[i].iov_base, pieces[i].iov_len);
                bytes += (int64_t)pieces[i].iov_len;
            }
            c->outbox.advance(bytes, [](const OutFrame &) {});
        }
        if (c->state == Connection::REFUSING) c->end(c->reason, c->what);
        settle(id);
        return out;
    }

    void end(uint64_t id) {
        Connection *c = find(id);
        if (c != nullptr) c->end(RESET, "ended by the test");
        settle(id);
    }

    std::string reason(uint64_t id) {
        auto found = reasons_.find(id);
        if (found != reasons_.end()) return found->second;
        Connection *c = find(id);
        return c != nullptr && c->state == Connection::REFUSING ? c->what : "";
    }

    void advance(int64_t ns) {
        set_now(now() + ns);
        serve_credit();
        take_outputs();
    }

    int64_t outstanding(uint64_t id, const uint8_t *shuffle) { return granter().outstanding(id, Uid(shuffle)); }
    int64_t waiting() { return (int64_t)granter().waiting_count(); }
    int64_t live() const { return (int64_t)connections_.size(); }
    int64_t events() { return (int64_t)Hub::events.take().size(); }

  private:
    void settle(uint64_t id) {
        Connection *c = find(id);
        if (c != nullptr && c->state == Connection::ENDED) ended_.push_back(id);
        reap();
        take_outputs();
    }

    void reap() {
        std::vector<uint64_t> ended;
        ended.swap(ended_);
        for (uint64_t id : ended) {
            Connection *c = find(id);
            if (c == nullptr) continue;
            reasons_[id] = c->what.empty() ? "ended" : c->what;
            remove(c);
        }
    }

    std::map<uint64_t, std::string> reasons_;
};

} // namespace wire
#endif
