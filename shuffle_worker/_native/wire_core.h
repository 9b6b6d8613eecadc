/* The transport: one thread, one epoll, all sockets. Commands come from any thread through flags and a doorbell. */
#ifndef SHUFFLE_WIRE_CORE_H
#define SHUFFLE_WIRE_CORE_H

#include <signal.h>

#include <thread>

#include "wire_hub.h"
#include "wire_links.h"
#include "wire_sockets.h"

namespace wire {

constexpr int64_t READ_CHUNK = 256 * 1024;         /* read, then checksummed while in the cache */
constexpr int64_t READ_TURN = 1024 * 1024;         /* of one connection before the others have theirs */
constexpr int64_t WRITE_TURN = 2 * 1024 * 1024;
constexpr size_t SCRATCH = 64 * 1024;
constexpr int64_t SLOW_TICK_NS = 100 * 1000 * 1000;
constexpr int64_t FAST_TICK_NS = 5 * 1000 * 1000;  /* while something waits for the clock */
constexpr int64_t FAREWELL_NS = 1000 * 1000 * 1000;

class Wire : public Hub {
  public:
    Wire(const Config &config, const ReceiverTable &receiver, int listener)
        : Hub(config, receiver), listener_(listener), scratch_(SCRATCH) {}
    ~Wire() { close(0); }

    /* 0, or an errno. */
    int start() {
        epoll_ = epoll_create1(EPOLL_CLOEXEC);
        if (epoll_ < 0 || bell_.fd() < 0 || events.bell.fd() < 0) return errno ? errno : EMFILE;
        if (watch(EPOLL_CTL_ADD, bell_.fd(), BELL, EPOLLIN) != 0) return errno;
        if (watch(EPOLL_CTL_ADD, listener_, LISTENER, EPOLLIN) != 0) return errno;
        /* Signals are for Python's main thread. */
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        try {
            thread_ = std::thread([this] { run(); });
        } catch (const std::system_error &error) {
            pthread_sigmask(SIG_SETMASK, &before, nullptr);
            return error.code().value();
        }
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        return 0;
    }

    /* ---- commands, from any thread */

    /* Write out control messages for at most `timeout_ns`, close everything, end the thread. */
    void close(int64_t timeout_ns) {
        std::lock_guard<std::mutex> once(close_lock_);
        closed_ = true;
        for (auto &peer : all_peers()) peer->on_closed();
        if (thread_.joinable()) {
            stop_ns_.store(monotonic_ns() + timeout_ns);
            bell_.ring();
            thread_.join();
        }
        if (listener_ >= 0) ::close(listener_);
        if (epoll_ >= 0) ::close(epoll_);
        listener_ = epoll_ = -1;
        bell_.shut();
        events.bell.shut();
    }

    /* The peer's number. The same address again revives one that was given up. */
    int64_t connect(const std::string &name, const std::string &host, int port, uint64_t incarnation,
                    std::vector<SocketAddress> addresses) {
        std::shared_ptr<Peer> older, peer;
        {
            std::lock_guard<std::mutex> hold(peers_lock_);
            auto known = by_name_.find(name);
            if (known != by_name_.end()) {
                older = peers_[known->second];
                if (older->host == host && older->port == port && older->expect == incarnation) peer = older;
            }
            if (!peer) {
                peer = std::make_shared<Peer>(next_peer_++, name, host, port, incarnation, std::move(addresses));
                peer->wake_ = [](void *self, Peer *p) { ((Wire *)self)->look_at(p); };
                peer->wake_context_ = this;
                peers_[peer->number] = peer;
                by_name_[name] = peer->number;
                if (older) peers_.erase(older->number);
            }
        }
        if (older && older != peer) retire(older);
        if (peer == older) {
            peer->again = true;
            peer->on_again(); /* at once, so that who waits for it now does not see the old end */
        }
        if (closed_) peer->on_closed();
        look_at(peer.get());
        return peer->number;
    }

    void disconnect(const std::string &name) {
        std::shared_ptr<Peer> peer;
        {
            std::lock_guard<std::mutex> hold(peers_lock_);
            auto known = by_name_.find(name);
            if (known == by_name_.end()) return;
            peer = peers_[known->second];
            peers_.erase(known->second);
            by_name_.erase(known);
        }
        retire(peer);
    }

    std::shared_ptr<Peer> peer(int64_t number) {
        std::lock_guard<std::mutex> hold(peers_lock_);
        auto found = peers_.find(number);
        return found == peers_.end() ? nullptr : found->second;
    }

    int64_t number_of(const std::string &name) {
        std::lock_guard<std::mutex> hold(peers_lock_);
        auto found = by_name_.find(name);
        return found == by_name_.end() ? -1 : found->second;
    }

    std::vector<std::shared_ptr<Peer>> all_peers() {
        std::lock_guard<std::mutex> hold(peers_lock_);
        std::vector<std::shared_ptr<Peer>> all;
        for (auto &entry : peers_) all.push_back(entry.second);
        return all;
    }

    int send(int64_t number, const frame_header_t *header, buffer_t *payload, int64_t deadline_ns) {
        std::shared_ptr<Peer> to = peer(number);
        bool ring = false;
        if (closed_) return SEND_CLOSED;
        if (!to) return SEND_NO_PEER;
        if (header->length > (uint64_t)config().max_frame_bytes) return SEND_TOO_LARGE;
        if (header->length > 0 && (payload == nullptr || (uint64_t)payload->capacity < header->length)) return SEND_TOO_LARGE;
        int fault = to->send(*header, payload, deadline_ns, &ring, counters);
        if (ring) look_at(to.get());
        return fault;
    }

    /* 0, 1: queue full, 2: given up, 3: no such peer, 4: closed, 5: too long. */
    int send_control(int64_t number, const char *payload, size_t size) {
        std::shared_ptr<Peer> to = peer(number);
        if (closed_) return 4;
        if (!to) return 3;
        if (size > (uint64_t)config().max_control_bytes) return 5;
        int fault = to->send_control(make_text_frame(FRAME_CONTROL, std::string(payload, size)),
                                     config().control_queue_bytes);
        if (fault == 0) {
            add(counters.messages_out, 1);
            look_at(to.get());
        }
        return fault;
    }

    void abort_stream(const Uid &shuffle, const StreamKey &stream) {
        for (auto &to : all_peers()) to->abort_stream(shuffle, stream);
    }

    void close_shuffle(const Uid &shuffle) {
        for (auto &to : all_peers()) {
            bool ring = false;
            to->close_shuffle(shuffle, &ring);
            if (ring) look_at(to.get());
        }
    }

    /* Memory was freed. Only rings: may be called with any lock held. */
    static void credit_available(void *self) {
        Wire *w = (Wire *)self;
        w->freed_.store(true);
        w->bell_.ring();
    }

    /* Messages were drained: connections that were not read for that may go on. */
    void resume_reading() {
        resume_.store(true);
        bell_.ring();
    }

    bool closed() const { return closed_; }
    int event_fd() { return events.bell.fd(); }

  private:
    enum : uint64_t { BELL = 0, LISTENER = 1 };
    struct Socket {
        int fd;
        uint32_t interest;
        bool connecting;
        int64_t deadline_ns; /* of the handshake or the farewell; 0: none */
    };

    int watch(int operation, int fd, uint64_t id, uint32_t interest) {
        epoll_event event{};
        event.events = interest;
        event.data.u64 = id;
        return epoll_ctl(epoll_, operation, fd, &event);
    }

    void look_at(Peer *p) {
        if (p->queued.exchange(true)) return;
        {
            std::lock_guard<std::mutex> hold(look_lock_);
            look_.push_back(p->number);
        }
        bell_.ring();
    }

    /* `peer` is no longer among the peers. */
    void retire(const std::shared_ptr<Peer> &p) {
        p->removed = true;
        p->on_gone("it was disconnected");
        {
            std::lock_guard<std::mutex> hold(look_lock_);
            retired_.push_back(p->number);
        }
        bell_.ring();
    }

    /* ---- the thread */

    void run() {
        epoll_event ready[128];
        int64_t next_tick = monotonic_ns(), next_heartbeat = next_tick;
        for (;;) {
            int64_t now = monotonic_ns();
            int64_t wait_ns = has_outputs() ? 0 : std::max<int64_t>(next_tick - now, 0);
            int n = epoll_wait(epoll_, ready, 128, (int)((wait_ns + 999999) / 1000000));
            set_now(monotonic_ns());
            for (int i = 0; i < n; i++) on_ready(ready[i].data.u64, ready[i].events);
            if (freed_.exchange(false) && granter().waiting()) serve_credit();
            if (resume_.exchange(false)) resume_paused();
            look();
            flush_outputs();
            reap();
            if (this->now() >= next_heartbeat) {
                send_heartbeats();
                next_heartbeat = this->now() + config().heartbeat_ns;
            }
            if (this->now() >= next_tick) {
                tick();
                bool hurry = granter().waiting() || has_strangers() || dialling_ > 0 || stop_ns_.load() > 0;
                next_tick = this->now() + std::min(hurry ? FAST_TICK_NS : SLOW_TICK_NS, config().heartbeat_ns);
                flush_outputs();
                reap();
            }
            int64_t stop = stop_ns_.load();
            if (stop > 0 && (this->now() >= stop || all_written())) break;
        }
        end_all();
    }

    void on_ready(uint64_t id, uint32_t what) {
        if (id == BELL) { bell_.answer(); return; }
        if (id == LISTENER) { accept_some(); return; }
        Connection *c = find(id);
        auto at = sockets_.find(id);
        if (c == nullptr || at == sockets_.end() || c->state == Connection::ENDED) return;
        Socket &s = at->second;
        if (s.connecting) {
            int error = 0;
            socklen_t size = sizeof error;
            if (getsockopt(s.fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
            if (error != 0) { fail(c, error, "cannot be connected to"); return; }
            if (!(what & EPOLLOUT)) return;
            s.connecting = false;
        }
        if (what & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_some(c, s);
        if (what & EPOLLOUT && c->state != Connection::ENDED) write_some(c, s);
    }

    void accept_some() {
        for (int i = 0; i < 64; i++) {
            sockaddr_storage from{};
            socklen_t size = sizeof from;
            int fd = accept4(listener_, (sockaddr *)&from, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd < 0) {
                if (errno == EINTR || errno == ECONNABORTED) continue;
                /* Out of descriptors: level-triggered readiness would spin, so look again at the next tick. */
                if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) listen_paused_ = pause_listening();
                return;
            }
            if (full()) {
                add(counters.refusals[TOO_MANY], 1);
                ::close(fd);
                continue;
            }
            tune(fd, config().user_timeout_ns);
            Connection *c = add_inbound(text_of(from));
            adopt(c, fd, EPOLLIN, false, now() + config().hello_timeout_ns);
        }
    }

    bool pause_listening() {
        watch(EPOLL_CTL_MOD, listener_, LISTENER, 0);
        return true;
    }

    void adopt(Connection *c, int fd, uint32_t interest, bool connecting, int64_t deadline_ns) {
        sockets_[c->id] = Socket{fd, interest, connecting, deadline_ns};
        if (watch(EPOLL_CTL_ADD, fd, c->id, interest) != 0) fail(c, errno, "cannot be watched");
    }

    void set_interest(Connection *c, Socket &s, uint32_t interest) {
        if (interest == s.interest) return;
        s.interest = interest;
        watch(EPOLL_CTL_MOD, s.fd, c->id, interest);
    }

    void fail(Connection *c, int error, const char *text) {
        char reason[128];
        const char *said = strerror_r(error, reason, sizeof reason);
        c->end(reason_of(error), c->label() + " " + text + ": " + said);
        ended_.push_back(c->id);
    }

    void check_ended(Connection *c) {
        if (c->state == Connection::ENDED) ended_.push_back(c->id);
    }

    void read_some(Connection *c, Socket &s) {
        for (int64_t budget = READ_TURN; budget > 0;) {
            if (c->state == Connection::REFUSING || c->state == Connection::ENDED) break;
            if (must_pause(*c)) { set_interest(c, s, s.interest & ~(uint32_t)EPOLLIN); break; }
            struct iovec pieces[2];
            uint8_t *direct = nullptr;
            size_t space = c->space(&direct, READ_CHUNK);
            pieces[0] = {direct, space};
            pieces[1] = {scratch_.data(), SCRATCH};
            ssize_t n = readv(s.fd, space ? pieces : pieces + 1, space ? 2 : 1);
            if (n < 0) {
                if (errno == EINTR) continue;
                if (errno != EAGAIN && errno != EWOULDBLOCK) { fail(c, errno, "broke the connection"); return; }
                break;
            }
            if (n == 0) {
                c->end(c->within_frame() ? RESET : CLOSED,
                       c->label() + " closed the connection" + (c->within_frame() ? " within a frame" : ""));
                break;
            }
            if (c->facts) c->facts->heard_ns.store(now(), std::memory_order_relaxed);
            size_t straight = std::min((size_t)n, space);
            if (straight > 0 && !c->filled(straight)) break;
            if ((size_t)n > straight && !c->feed(scratch_.data(), (size_t)n - straight)) break;
            budget -= n;
            /* Less than asked for: the socket is empty, as far as we know. */
            if ((size_t)n < space + SCRATCH) break;
        }
        check_ended(c);
    }

    void write_some(Connection *c, Socket &s) {
        struct iovec pieces[64];
        bool blocked = false;
        int64_t budget = WRITE_TURN;
        for (; budget > 0;) {
            if (!c->inbound && c->state == Connection::OPEN) c->peer->move_to(c->role, c->outbox, WRITE_TURN);
            int n = c->outbox.fill(pieces, 64, budget);
            if (n == 0) break;
            struct msghdr message{};
            message.msg_iov = pieces;
            message.msg_iovlen = (size_t)n;
            ssize_t sent = sendmsg(s.fd, &message, MSG_NOSIGNAL);
            if (sent < 0) {
                if (errno == EINTR) continue;
                if (errno == EAGAIN || errno == EWOULDBLOCK) { blocked = true; break; }
                fail(c, errno, "broke the connection");
                return;
            }
            budget -= sent;
            on_written(c, sent);
        }
        /* The turn is over, and there may be more, here or in the peer's queue. */
        if (!blocked && budget <= 0) on_output(*c);
        set_interest(c, s, blocked ? s.interest | EPOLLOUT : s.interest & ~(uint32_t)EPOLLOUT);
        if (c->state == Connection::REFUSING && c->outbox.empty()) farewell(c, s);
    }

    void on_written(Connection *c, int64_t bytes) {
        int64_t frames = 0, frame_bytes = 0, data = 0;
        c->outbox.advance(bytes, [&](const OutFrame &f) {
            bool ours = c->role == DATA_ROLE ? f.header.kind != FRAME_HELLO : f.header.kind == FRAME_CONTROL;
            data += f.header.kind == FRAME_DATA;
            if (ours) { frames += 1; frame_bytes += f.bytes(); }
        });
        add(counters.bytes_out, bytes);
        add(counters.frames_out, data);
        if (c->facts) {
            add(c->facts->bytes_out, bytes);
            add(c->facts->frames_out, data);
        }
        if (!c->inbound && frames > 0) c->peer->on_written(c->role, frames, frame_bytes);
    }

    /* The refusal is written: unread bytes would turn the close into a reset that overtakes it. */
    void farewell(Connection *c, Socket &s) {
        shutdown(s.fd, SHUT_WR);
        for (int i = 0; i < 16 && recv(s.fd, scratch_.data(), SCRATCH, MSG_DONTWAIT) > 0; i++) {}
        c->end(c->reason, c->what);
        ended_.push_back(c->id);
    }

    void flush_outputs() {
        for (uint64_t id : take_outputs()) {
            Connection *c = find(id);
            auto at = sockets_.find(id);
            if (c == nullptr || at == sockets_.end() || c->state == Connection::ENDED || at->second.connecting) continue;
            if (at->second.interest & EPOLLOUT) continue; /* epoll will say when */
            if (c->state == Connection::REFUSING && at->second.deadline_ns == 0)
                at->second.deadline_ns = now() + FAREWELL_NS;
            write_some(c, at->second);
        }
    }

    /* Peers with something queued or commanded. */
    void look() {
        std::vector<int64_t> numbers, retired;
        {
            std::lock_guard<std::mutex> hold(look_lock_);
            numbers.swap(look_);
            retired.swap(retired_);
        }
        for (int64_t number : retired) drop_links(number);
        for (int64_t number : numbers) {
            std::shared_ptr<Peer> p = peer(number);
            if (!p) continue;
            p->queued = false;
            auto at = links_.find(number);
            if (at == links_.end()) {
                at = links_.emplace(number, Links{p, {}}).first;
                start_links(at->second);
            }
            Links &links = at->second;
            if (p->again.exchange(false) && links.link[0].state == Link::STOPPED) {
                p->on_again();
                start_links(links);
            }
            for (Link &link : links.link)
                if (link.state == Link::OPEN)
                    if (Connection *c = find(link.connection)) on_output(*c);
        }
    }

    void start_links(Links &links) {
        for (Link &link : links.link) link.start(now(), config().connect_timeout_ns);
        dial_due(links);
    }

    void dial_due(Links &links) {
        if (stop_ns_.load() > 0) return;
        for (int role = 0; role < 2; role++) {
            Link &link = links.link[role];
            if (!link.due(now())) continue;
            const SocketAddress &to = links.peer->addresses[link.turn % links.peer->addresses.size()];
            Connection *c = add_outbound(links.peer, (Role)role);
            link.on_dial(c->id);
            dialling_ += 1;
            int fd = dial(to, config().user_timeout_ns);
            if (fd < 0) fail(c, errno, "cannot be connected to");
            else adopt(c, fd, EPOLLIN | EPOLLOUT, true, now() + config().hello_timeout_ns);
        }
    }

    void on_link_open(Connection &c) override {
        auto at = links_.find(c.peer->number);
        if (at == links_.end()) return;
        at->second.link[c.role].on_open();
        dialling_ -= 1;
        sockets_[c.id].deadline_ns = 0;
    }

    /* Close what has ended, and say so. */
    void reap() {
        while (!ended_.empty()) {
            std::vector<uint64_t> ended;
            ended.swap(ended_);
            for (uint64_t id : ended) {
                Connection *c = find(id);
                if (c == nullptr) continue;
                close_socket(id);
                std::shared_ptr<Peer> p = c->peer;
                bool was_open = c->facts != nullptr;
                Role role = c->role;
                Reason reason = c->reason;
                std::string what = c->what;
                if (p && !was_open) on_attempt_failed(*c);
                remove(c);
                if (p && was_open) on_link_lost(p, role, reason);
            }
        }
    }

    void on_link_lost(const std::shared_ptr<Peer> &p, Role role, Reason reason) {
        auto at = links_.find(p->number);
        if (at == links_.end() || at->second.link[role].state != Link::OPEN) return;
        at->second.link[role].on_lost(now(), config().connect_timeout_ns, reason);
        dial_due(at->second);
    }

    void on_attempt_failed(const Connection &c) {
        dialling_ -= 1;
        auto at = links_.find(c.peer->number);
        if (at == links_.end()) return;
        Link &link = at->second.link[c.role];
        if (link.state != Link::DIALLING || link.connection != c.id) return;
        if (link.told != c.reason) tell_lost(c, c.reason, c.what);
        link.told = c.reason;
        c.peer->on_failed_attempt(c.what);
        bool refused = c.reason == REJECTED_HELLO;
        if (!refused && link.on_failed(now())) return;
        /* For good: the other connection is of no use alone. */
        std::string why = refused ? c.what
            : c.what + " (tried for " + std::to_string(config().connect_timeout_ns / 1000000) + " ms)";
        give_up(at->second, why);
        tell_lost(c, GAVE_UP, why);
    }

    void give_up(Links &links, const std::string &why) {
        links.peer->on_gone(why);
        for (Link &link : links.link) {
            Link::State before = link.state;
            link.stop();
            Connection *c = find(link.connection);
            if (c != nullptr && (before == Link::OPEN || before == Link::DIALLING) && c->state != Connection::ENDED) {
                c->end(CLOSED, why);
                ended_.push_back(c->id);
            }
        }
    }

    void drop_links(int64_t number) {
        auto at = links_.find(number);
        if (at == links_.end()) return;
        give_up(at->second, "it was disconnected");
        links_.erase(at);
    }

    void close_socket(uint64_t id) {
        auto at = sockets_.find(id);
        if (at == sockets_.end()) return;
        ::close(at->second.fd);
        sockets_.erase(at);
        if (listen_paused_) {
            watch(EPOLL_CTL_MOD, listener_, LISTENER, EPOLLIN);
            listen_paused_ = false;
        }
    }

    void resume_paused() {
        for (auto &entry : sockets_) {
            Connection *c = find(entry.first);
            if (c == nullptr || (entry.second.interest & EPOLLIN) || entry.second.connecting) continue;
            if (!must_pause(*c)) set_interest(c, entry.second, entry.second.interest | EPOLLIN);
        }
    }

    void tick() {
        for (auto &entry : sockets_) {
            Connection *c = find(entry.first);
            Socket &s = entry.second;
            if (c == nullptr || s.deadline_ns == 0 || c->state == Connection::ENDED) continue;
            if (c->state == Connection::OPEN) { s.deadline_ns = 0; continue; }
            if (now() < s.deadline_ns) continue;
            if (c->state == Connection::HELLO_AWAITED) add(counters.refusals[LATE], 1);
            if (c->state == Connection::REFUSING) c->end(c->reason, c->what);
            else c->end(TIMEOUT, c->remote + (c->inbound ? " sent no HELLO in time" : " did not answer in time"));
            ended_.push_back(c->id);
        }
        for (auto &entry : links_) dial_due(entry.second);
        if (granter().waiting()) serve_credit();
        resume_paused();
        if (listen_paused_) {
            watch(EPOLL_CTL_MOD, listener_, LISTENER, EPOLLIN);
            listen_paused_ = false;
        }
    }

    bool all_written() {
        for (auto &p : all_peers()) if (p->control_pending()) return false;
        return true;
    }

    void end_all() {
        for (auto &entry : connections_) {
            entry.second->end(CLOSED, "the transport was closed");
            ended_.push_back(entry.first);
        }
        links_.clear();
        reap();
    }

    int epoll_ = -1, listener_ = -1;
    Doorbell bell_;
    std::thread thread_;
    std::mutex close_lock_, look_lock_, peers_lock_;
    std::vector<int64_t> look_, retired_;
    std::unordered_map<int64_t, std::shared_ptr<Peer>> peers_;
    std::map<std::string, int64_t> by_name_;
    int64_t next_peer_ = 1;
    std::atomic<bool> freed_{false}, resume_{false}, closed_{false};
    std::atomic<int64_t> stop_ns_{0};
    std::unordered_map<int64_t, Links> links_;
    std::unordered_map<uint64_t, Socket> sockets_;
    std::vector<uint8_t> scratch_;
    int dialling_ = 0;
    bool listen_paused_ = false;
};

} // namespace wire
#endif
