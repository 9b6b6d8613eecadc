/* What the I/O thread tells other threads: facts of one incarnation of a peer, and the queue of events. */
#ifndef SHUFFLE_WIRE_FACTS_H
#define SHUFFLE_WIRE_FACTS_H

#include <sys/eventfd.h>
#include <unistd.h>

#include <deque>
#include <memory>

#include "wire_base.h"

namespace wire {

/* One incarnation of a peer, over all its connections. */
struct Facts {
    std::string name, address;
    uint64_t incarnation = 0;
    Count heard_ns{0};      /* 0: never */
    Count progress{0};
    Count inbound{0};       /* its connections to us */
    Count undrained{0};     /* bytes of its control messages in the event queue */
    std::atomic<bool> reading_paused{false};
    std::atomic<bool> heartbeat_queued{false};
    Count frames_in{0}, bytes_in{0}, frames_out{0}, bytes_out{0};
};
using FactsPtr = std::shared_ptr<Facts>;

struct Event {
    enum Type { CONNECTED, LOST, REJECTED, HELLO_REJECTED, HEARTBEAT, MESSAGE } type;
    std::string peer, address, text; /* text: the payload of MESSAGE, else what happened */
    uint64_t incarnation = 0;
    uint64_t progress = 0;
    int role = 0, reason = 0, verdict = 0;
    bool inbound = false;
    Uid shuffle;
    StreamKey stream;
    FactsPtr facts; /* of HEARTBEAT and MESSAGE */
};

/* Bytes that a message counts for in its queue, beside its own: what the queue itself needs. */
constexpr int64_t MESSAGE_OVERHEAD = 256;

/* An eventfd that is written at most once until it is read. */
class Doorbell {
  public:
    Doorbell() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}
    ~Doorbell() { shut(); }
    Doorbell(const Doorbell &) = delete;
    Doorbell &operator=(const Doorbell &) = delete;

    void ring() {
        if (rung_.exchange(true)) return;
        std::lock_guard<std::mutex> hold(lock_);
        uint64_t one = 1;
        while (fd_ >= 0 && ::write(fd_, &one, sizeof one) < 0 && errno == EINTR) {}
    }
    void answer() {
        std::lock_guard<std::mutex> hold(lock_);
        uint64_t count;
        while (fd_ >= 0 && ::read(fd_, &count, sizeof count) < 0 && errno == EINTR) {}
        rung_.exchange(false);
    }
    /* Rings are in vain from now on. */
    void shut() {
        std::lock_guard<std::mutex> hold(lock_);
        if (fd_ >= 0) ::close(fd_);
        fd_ = -1;
    }
    int fd() {
        std::lock_guard<std::mutex> hold(lock_);
        return fd_;
    }

  private:
    std::mutex lock_;
    int fd_;
    std::atomic<bool> rung_{false};
};

class EventQueue {
  public:
    /* Facts that nobody drains pile up no further than this; messages are bounded by who sends them. */
    static constexpr size_t LIMIT = 65536;
    /* What strangers cause must not crowd out what members do. */
    static constexpr size_t STRANGERS_LIMIT = 1024;

    /* False when it was dropped. */
    bool push(Event &&event) {
        {
            std::lock_guard<std::mutex> hold(lock_);
            bool stranger = event.type == Event::HELLO_REJECTED;
            if (event.type != Event::MESSAGE && events_.size() >= (stranger ? STRANGERS_LIMIT : LIMIT)) return false;
            events_.push_back(std::move(event));
        }
        bell.ring();
        return true;
    }

    std::deque<Event> take() {
        std::deque<Event> taken;
        bell.answer();
        std::lock_guard<std::mutex> hold(lock_);
        taken.swap(events_);
        return taken;
    }

    Doorbell bell;

  private:
    std::mutex lock_;
    std::deque<Event> events_;
};

} // namespace wire
#endif
