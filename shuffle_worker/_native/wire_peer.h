/* The sending half of one peer: its queues, the credit we have from it, and the threads that wait for credit.
 *
 * Thread-safe: any thread sends; the I/O thread moves what is queued into its sockets and brings credit. Its owner
 * is a shared pointer, so a waiting thread keeps it.
 */
#ifndef SHUFFLE_WIRE_PEER_H
#define SHUFFLE_WIRE_PEER_H

#include <netinet/in.h>
#include <sys/socket.h>

#include <list>
#include <map>
#include <set>
#include <unordered_map>

#include "wire_facts.h"
#include "wire_outbox.h"

namespace wire {

struct SocketAddress {
    sockaddr_storage storage;
    socklen_t size;
};

class Peer {
  public:
    Peer(int64_t number_, const std::string &name_, const std::string &host_, int port_, uint64_t expect_,
         std::vector<SocketAddress> addresses_)
        : number(number_), name(name_), host(host_), port(port_), expect(expect_), addresses(std::move(addresses_)) {
        monitor_init(&monitor_);
    }
    ~Peer() { monitor_destroy(&monitor_); }
    Peer(const Peer &) = delete;
    Peer &operator=(const Peer &) = delete;

    const int64_t number;
    const std::string name, host;
    const int port;
    const uint64_t expect;
    const std::vector<SocketAddress> addresses;
    std::atomic<bool> queued{false};  /* among those that the I/O thread is to look at */
    std::atomic<bool> removed{false}; /* disconnect was called, or another incarnation took its place */
    std::atomic<bool> again{false};   /* connect was called for one that was given up */

    std::string address() const {
        return (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" + std::to_string(port);
    }

    /* ---- sending threads */

    /* Queue a frame when there is credit for it. A SEND_ code. Adds to `stall_ns` when it had to wait. */
    int send(const frame_header_t &header, buffer_t *payload, int64_t deadline_ns, bool *ring, Counters &counters) {
        Hold hold(monitor_);
        std::shared_ptr<Shuffle> shuffle = shuffle_of(Uid(header.shuffle));
        StreamKey stream(header);
        int64_t cost = frame_credit(header.length);
        int fault = fault_of(*shuffle, stream, session_);
        if (fault != SEND_OK) return fault;
        if (max_frame_ > 0 && header.length > (uint64_t)max_frame_) return SEND_TOO_LARGE;
        if (!shuffle->waiters.empty() || !open_[DATA_ROLE] || shuffle->available < cost)
            fault = wait(Uid(header.shuffle), *shuffle, Waiter{cost, stream}, deadline_ns, ring, counters);
        if (fault != SEND_OK) return fault;
        if (max_frame_ > 0 && header.length > (uint64_t)max_frame_) return SEND_TOO_LARGE;
        shuffle->available -= cost;
        if (header.length > 0) buffer_ref(payload);
        push_data(OutFrame(header, header.length > 0 ? payload : nullptr));
        *ring = true;
        return SEND_OK;
    }

    /* 0, 1: the queue is full, 2: given up. */
    int send_control(OutFrame &&frame, int64_t queue_limit) {
        Hold hold(monitor_);
        if (gone_) return 2;
        int64_t bytes = frame.bytes() + MESSAGE_OVERHEAD;
        if (control_bytes_ + bytes > queue_limit && control_bytes_ > 0) return 1;
        control_bytes_ += bytes;
        control_.push_back(std::move(frame));
        return 0;
    }

    /* Fail sends of that stream, now and later. Frames still queued are dropped, and their credit used anew. */
    void abort_stream(const Uid &uid, const StreamKey &stream) {
        Hold hold(monitor_);
        std::shared_ptr<Shuffle> shuffle = shuffle_of(uid);
        shuffle->aborted.insert(stream);
        drop_queued(uid, &stream, *shuffle);
        monitor_notify(&monitor_);
    }

    void close_shuffle(const Uid &uid, bool *ring) {
        Hold hold(monitor_);
        auto found = shuffles_.find(uid);
        if (found == shuffles_.end()) return;
        std::shared_ptr<Shuffle> shuffle = found->second;
        shuffles_.erase(found);
        drop_queued(uid, nullptr, *shuffle);
        shuffle->cancelled = true;
        give_back(uid, *shuffle);
        *ring = true;
        monitor_notify(&monitor_);
    }

    /* Wait until both connections are open. 0, 1: the deadline passed, 2: given up. */
    int wait_open(int64_t deadline_ns) {
        Hold hold(monitor_);
        while (!(open_[DATA_ROLE] && open_[CONTROL_ROLE])) {
            if (gone_) return 2;
            if (monitor_wait(&monitor_, deadline_ns)) return open_[DATA_ROLE] && open_[CONTROL_ROLE] ? 0 : gone_ ? 2 : 1;
        }
        return 0;
    }

    std::string why() {
        Hold hold(monitor_);
        return why_;
    }

    struct State {
        bool open[2];
        bool gone;
        std::string why;
        int64_t queued_bytes, credit_bytes, stalled;
        int64_t max_frame;
        FactsPtr facts;
    };
    State state() {
        Hold hold(monitor_);
        State s{{open_[0], open_[1]}, gone_, why_, queued_bytes_, 0, stalled_, max_frame_, facts_};
        for (auto &entry : shuffles_) s.credit_bytes += entry.second->available;
        return s;
    }

    /* ---- the I/O thread */

    void on_open(int role, int64_t max_frame, const FactsPtr &facts) {
        Hold hold(monitor_);
        open_[role] = true;
        max_frame_ = max_frame;
        facts_ = facts;
        if (role == DATA_ROLE)
            for (auto &entry : shuffles_) ask(entry.first, *entry.second);
        monitor_notify(&monitor_);
    }

    /* The open connection broke. What was queued for it is dropped; threads that wait are told. */
    void on_lost(int role, const std::string &what) {
        Hold hold(monitor_);
        open_[role] = false;
        why_ = what;
        if (role == CONTROL_ROLE) {
            control_.clear();
            control_bytes_ = 0;
        } else {
            session_ += 1;
            data_.clear();
            queued_bytes_ = 0;
            for (auto &entry : shuffles_) {
                entry.second->available = 0;
                entry.second->asked = 0;
            }
        }
        monitor_notify(&monitor_);
    }

    void on_failed_attempt(const std::string &what) {
        Hold hold(monitor_);
        why_ = what;
    }

    void on_gone(const std::string &why) {
        Hold hold(monitor_);
        gone_ = true;
        why_ = why;
        control_.clear();
        control_bytes_ = 0;
        monitor_notify(&monitor_);
    }

    void on_again() {
        Hold hold(monitor_);
        gone_ = false;
    }

    void on_closed() {
        Hold hold(monitor_);
        closed_ = true;
        monitor_notify(&monitor_);
    }

    void on_credit(const Uid &uid, int64_t bytes) {
        Hold hold(monitor_);
        auto found = shuffles_.find(uid);
        if (found == shuffles_.end()) { /* closed here meanwhile */
            push_data(make_value_frame(FRAME_CREDIT, uid, StreamKey(0, 0, 0), (uint64_t)bytes));
            return;
        }
        Shuffle &s = *found->second;
        s.available += bytes;
        if (!s.waiters.empty()) monitor_notify(&monitor_);
    }

    /* The owner wants back what is not used. */
    void on_recall(const Uid &uid) {
        Hold hold(monitor_);
        auto found = shuffles_.find(uid);
        if (found == shuffles_.end()) return;
        Shuffle &s = *found->second;
        if (s.waiters.empty() ? s.available > 0 : s.available > 0 && s.available < s.waiters.front()->cost) {
            give_back(uid, s);
            s.asked = 0;
            ask(uid, s);
        }
    }

    /* Whether this is news. */
    bool on_reject(const Uid &uid, const StreamKey &stream, int verdict) {
        Hold hold(monitor_);
        auto found = shuffles_.find(uid);
        if (found == shuffles_.end()) return false; /* closed here meanwhile */
        std::shared_ptr<Shuffle> shuffle = found->second;
        bool news = shuffle->rejected.emplace(stream, verdict).second;
        drop_queued(uid, stream.all() ? nullptr : &stream, *shuffle);
        shuffle->asked = 0;
        monitor_notify(&monitor_);
        return news;
    }

    int verdict_of(const Uid &uid, const StreamKey &stream) {
        Hold hold(monitor_);
        auto found = shuffles_.find(uid);
        if (found == shuffles_.end()) return UNKNOWN;
        auto &rejected = found->second->rejected;
        auto at = rejected.find(stream);
        if (at == rejected.end()) at = rejected.find(StreamKey());
        return at == rejected.end() ? UNKNOWN : at->second;
    }

    /* Move queued frames of a role to the socket's outbox, until that holds about `limit` bytes. */
    void move_to(int role, Outbox &outbox, int64_t limit) {
        Hold hold(monitor_);
        std::deque<OutFrame> &from = role == DATA_ROLE ? data_ : control_;
        while (!from.empty() && outbox.bytes() < limit) {
            outbox.push(std::move(from.front()));
            from.pop_front();
        }
    }

    void on_written(int role, int64_t frames, int64_t bytes) {
        Hold hold(monitor_);
        if (role == DATA_ROLE) queued_bytes_ -= bytes;
        else control_bytes_ -= bytes + frames * MESSAGE_OVERHEAD;
    }

    bool control_pending() {
        Hold hold(monitor_);
        return open_[CONTROL_ROLE] && control_bytes_ > 0;
    }

  private:
    struct Hold {
        explicit Hold(monitor_t &m) : monitor(m) { monitor_lock(&monitor); }
        ~Hold() { monitor_unlock(&monitor); }
        monitor_t &monitor;
    };
    struct Waiter { int64_t cost; StreamKey stream; };
    struct Shuffle {
        int64_t available = 0;
        int64_t asked = 0;      /* the NEED that was sent and not yet answered in full */
        bool cancelled = false;
        std::list<Waiter *> waiters;
        std::map<StreamKey, int> rejected;
        std::set<StreamKey> aborted;
    };

    std::shared_ptr<Shuffle> &shuffle_of(const Uid &uid) {
        std::shared_ptr<Shuffle> &shuffle = shuffles_[uid];
        if (!shuffle) shuffle = std::make_shared<Shuffle>();
        return shuffle;
    }

    int fault_of(const Shuffle &s, const StreamKey &stream, int64_t session) const {
        if (closed_) return SEND_CLOSED;
        if (s.cancelled || s.aborted.count(stream)) return SEND_CANCELLED;
        if (s.rejected.count(stream) || s.rejected.count(StreamKey())) return SEND_REJECTED;
        if (gone_ || session != session_) return SEND_LOST;
        return SEND_OK;
    }

    void push_data(OutFrame &&frame) {
        queued_bytes_ += frame.bytes();
        data_.push_back(std::move(frame));
    }

    /* Say what the first waiter needs, unless that was said. */
    bool ask(const Uid &uid, Shuffle &s) {
        if (!open_[DATA_ROLE] || s.waiters.empty()) return false;
        const Waiter &first = *s.waiters.front();
        if (s.available >= first.cost || s.asked >= first.cost) return false;
        s.asked = first.cost;
        push_data(make_value_frame(FRAME_NEED, uid, first.stream, (uint64_t)first.cost));
        return true;
    }

    void give_back(const Uid &uid, Shuffle &s) {
        if (open_[DATA_ROLE] && s.available > 0)
            push_data(make_value_frame(FRAME_CREDIT, uid, StreamKey(0, 0, 0), (uint64_t)s.available));
        s.available = 0;
    }

    void drop_queued(const Uid &uid, const StreamKey *stream, Shuffle &s) {
        std::deque<OutFrame> kept;
        for (OutFrame &frame : data_) {
            const frame_header_t &h = frame.header;
            if (h.kind == FRAME_DATA && Uid(h.shuffle) == uid && (stream == nullptr || StreamKey(h) == *stream)) {
                s.available += frame_credit(h.length);
                queued_bytes_ -= frame.bytes();
            } else {
                kept.push_back(std::move(frame));
            }
        }
        data_.swap(kept);
    }

    /* The lock is held, and given up while waiting. */
    int wait(const Uid &uid, Shuffle &s, Waiter self, int64_t deadline_ns, bool *ring, Counters &counters) {
        int fault = SEND_OK;
        int64_t since = monotonic_ns(), session = session_;
        auto place = s.waiters.insert(s.waiters.end(), &self);
        stalled_ += 1;
        add(counters.stalls, 1);
        for (bool late = false;;) {
            fault = fault_of(s, self.stream, session);
            if (fault != SEND_OK) break;
            if (s.waiters.front() == &self) {
                if (open_[DATA_ROLE] && s.available >= self.cost) break;
                if (ask(uid, s) && wake_) wake_(wake_context_, this);
            }
            if (late) { fault = SEND_DEADLINE; break; }
            late = monitor_wait(&monitor_, deadline_ns);
        }
        bool first = place == s.waiters.begin();
        s.waiters.erase(place);
        if (first) {
            s.asked = fault == SEND_OK ? 0 : s.asked;
            if (!s.waiters.empty()) monitor_notify(&monitor_);
        }
        stalled_ -= 1;
        add(counters.stall_ns, monotonic_ns() - since);
        *ring = true;
        return fault;
    }

  public:
    /* Called, with the lock held, when a waiting thread queued something. Set once, before the peer is shared. */
    void (*wake_)(void *context, Peer *peer) = nullptr;
    void *wake_context_ = nullptr;

  private:
    monitor_t monitor_;
    std::unordered_map<Uid, std::shared_ptr<Shuffle>, UidHash> shuffles_;
    std::deque<OutFrame> data_, control_;
    int64_t queued_bytes_ = 0;   /* data frames not written, here and in the outbox */
    int64_t control_bytes_ = 0;  /* control messages not written, with their overhead */
    int64_t stalled_ = 0, session_ = 0, max_frame_ = 0;
    bool open_[2] = {false, false};
    bool gone_ = false, closed_ = false;
    std::string why_;
    FactsPtr facts_;
};

} // namespace wire
#endif
