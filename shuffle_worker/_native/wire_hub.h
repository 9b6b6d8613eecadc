/* All connections of a process without their sockets: who may come in, what is told of whom, and what an end means.
 *
 * Everything here runs on the I/O thread, but for the queries and commands marked as thread-safe.
 */
#ifndef SHUFFLE_WIRE_HUB_H
#define SHUFFLE_WIRE_HUB_H

#include <set>

#include "wire_connection.h"

namespace wire {

class Hub : public ConnectionHost {
  public:
    Hub(const Config &config, const ReceiverTable &receiver)
        : config_(config), receiver_(receiver), granter_(receiver_, config_.window_bytes, config_.max_shuffles),
          shared_{config_, receiver_, granter_, counters, *this} {}

    Counters counters;
    EventQueue events;
    Count progress{0}; /* what heartbeats carry */

    const Config &config() const { return config_; }
    Granter &granter() { return granter_; }

    /* ---- connections */

    Connection *add_inbound(const std::string &remote) {
        auto c = std::make_unique<Connection>(shared_, next_id_++, remote);
        add(counters.accepted, 1);
        strangers_.insert(c->id);
        inbound_ += 1;
        /* Who was here longest without a word makes room. */
        if ((int64_t)strangers_.size() > config_.max_strangers) {
            Connection *oldest = find(*strangers_.begin());
            add(counters.refusals[TOO_MANY], 1);
            oldest->end(REJECTED_HELLO, oldest->remote + " sent no HELLO before too many others knocked");
            ended_.push_back(oldest->id);
            strangers_.erase(strangers_.begin());
        }
        return keep(std::move(c));
    }

    Connection *add_outbound(const std::shared_ptr<Peer> &peer, Role role) {
        return keep(std::make_unique<Connection>(shared_, next_id_++, peer, role));
    }

    Connection *find(uint64_t id) {
        auto found = connections_.find(id);
        return found == connections_.end() ? nullptr : found->second.get();
    }

    bool full() const { return inbound_ >= config_.max_connections; }
    bool has_strangers() const { return !strangers_.empty(); }

    void set_now(int64_t now) { shared_.now = now; }
    int64_t now() const { return shared_.now; }

    /* Grant what can be granted: memory was freed, or it is time to look. */
    void serve_credit() {
        granter_.serve(now(), [this](const CreditAction &a) { on_credit_action(a); });
    }

    void send_heartbeats() {
        for (auto &entry : connections_) {
            Connection &c = *entry.second;
            /* A peer that does not read gets no pile of them. */
            if (c.state != Connection::OPEN || c.role != CONTROL_ROLE || c.outbox.size() > 8) continue;
            c.push(make_value_frame(FRAME_HEARTBEAT, Uid(), StreamKey(0, 0, 0), (uint64_t)get(progress)));
        }
    }

    /* Connections with something to write, each once. */
    std::vector<uint64_t> take_outputs() {
        std::vector<uint64_t> taken;
        taken.swap(outputs_);
        for (uint64_t id : taken) output_set_.erase(id);
        return taken;
    }
    bool has_outputs() const { return !outputs_.empty(); }

    /* Undo what an ended connection stands for, and tell. It is gone afterwards. */
    void remove(Connection *c) {
        strangers_.erase(c->id);
        if (c->inbound) inbound_ -= 1;
        if (c->facts) {
            add(counters.lost, 1);
            if (c->inbound) {
                add(c->facts->inbound, -1);
                auto holder = by_identity_.find(identity_of(*c));
                if (holder != by_identity_.end() && holder->second == c->id) by_identity_.erase(holder);
            } else {
                c->peer->on_lost(c->role, c->what);
            }
            tell_lost(*c, c->reason, c->what);
            release(c->facts);
        } else if (c->inbound) {
            Event e{};
            e.type = Event::HELLO_REJECTED;
            e.address = c->remote;
            e.text = c->what;
            tell(std::move(e));
        }
        output_set_.erase(c->id);
        connections_.erase(c->id);
    }

    void tell_lost(const Connection &c, Reason reason, const std::string &what) {
        Event e{};
        e.type = Event::LOST;
        e.peer = c.facts ? c.facts->name : c.peer ? c.peer->name : "";
        e.incarnation = c.facts ? c.facts->incarnation : c.peer ? c.peer->expect : 0;
        e.address = c.facts ? c.facts->address : c.remote;
        e.role = c.role;
        e.inbound = c.inbound;
        e.reason = reason;
        e.text = what;
        tell(std::move(e));
    }

    /* Whether the peer's messages wait for somebody to drain them. Its control connection to us is not read meanwhile. */
    bool must_pause(Connection &c) {
        if (!c.facts || !c.inbound || c.role != CONTROL_ROLE) return false;
        bool pause = get(c.facts->undrained) > config_.control_queue_bytes;
        c.facts->reading_paused = pause;
        return pause;
    }

    /* ---- thread-safe */

    std::vector<FactsPtr> all_facts() {
        std::lock_guard<std::mutex> hold(facts_lock_);
        std::vector<FactsPtr> all;
        for (auto &entry : facts_) all.push_back(entry.second.facts);
        return all;
    }

    /* ---- ConnectionHost */

    int on_hello(Connection &c, const Hello &hello, std::string *why) override {
        strangers_.erase(c.id);
        if (!token_proves(config_.tokens, hello.token)) {
            *why = "the token is wrong: give " + hello.name + " and " + config_.name + " the same token";
            return WRONG_TOKEN;
        }
        if (hello.protocol != PROTOCOL) {
            *why = config_.name + " speaks protocol " + std::to_string(PROTOCOL) + ", and " + hello.name + " speaks "
                + std::to_string(hello.protocol) + ": run the same version everywhere";
            return WRONG_VERSION;
        }
        if (hello.expect != 0 && hello.expect != config_.incarnation) {
            *why = "the member at " + Connection::own_address(config_) + " is another incarnation ("
                + hex64(config_.incarnation) + "), not " + hex64(hello.expect) + ": it was restarted";
            return WRONG_INCARNATION;
        }
        c.facts = facts_of(hello.name, hello.incarnation, hello.address);
        add(c.facts->inbound, 1);
        uint64_t &holder = by_identity_[identity_of(c)];
        if (Connection *older = holder ? find(holder) : nullptr) {
            older->end(REPLACED, older->label() + " opened a new connection in place of this one");
            ended_.push_back(older->id);
        }
        holder = c.id;
        opened(c);
        return 0;
    }

    std::string on_welcome(Connection &c, const Hello &welcome) override {
        /* A peer that is only known by its address goes by it until it has said its name. */
        if (welcome.name != c.peer->name && c.peer->name != c.peer->address())
            return "the member at " + c.remote + " is " + welcome.name + ", not " + c.peer->name;
        if (c.peer->expect != 0 && welcome.incarnation != c.peer->expect)
            return "the member at " + c.remote + " is another incarnation (" + hex64(welcome.incarnation) + "), not "
                + hex64(c.peer->expect) + ": it was restarted";
        c.facts = facts_of(welcome.name, welcome.incarnation, c.remote);
        c.peer->on_open(c.role, welcome.max_frame_bytes, c.facts);
        opened(c);
        on_link_open(c);
        on_output(c); /* what was queued meanwhile */
        return "";
    }

    void on_message(Connection &c, const std::string &text) override {
        Event e{};
        e.type = Event::MESSAGE;
        e.peer = c.facts->name;
        e.incarnation = c.facts->incarnation;
        e.text = text;
        e.facts = c.facts;
        add(c.facts->undrained, (int64_t)text.size() + MESSAGE_OVERHEAD);
        tell(std::move(e));
    }

    void on_heartbeat(Connection &c, uint64_t value) override {
        c.facts->progress.store((int64_t)value, std::memory_order_relaxed);
        if (c.facts->heartbeat_queued.exchange(true)) return;
        Event e{};
        e.type = Event::HEARTBEAT;
        e.peer = c.facts->name;
        e.incarnation = c.facts->incarnation;
        e.facts = c.facts;
        FactsPtr facts = c.facts;
        if (!tell(std::move(e))) facts->heartbeat_queued = false;
    }

    void on_credit_action(const CreditAction &a) override {
        Connection *c = find(a.connection);
        if (c == nullptr || c->state != Connection::OPEN) return;
        bool reject = a.kind == CreditAction::REJECT;
        if (reject) add(counters.verdicts[a.value], 1);
        c->push(make_value_frame(reject ? FRAME_REJECT : FRAME_CREDIT, a.shuffle, reject ? a.stream : StreamKey(0, 0, 0),
                                 (uint64_t)a.value));
    }

    void on_rejected(Connection &c, const Uid &shuffle, const StreamKey &stream, int verdict) override {
        if (!c.peer->on_reject(shuffle, stream, verdict)) return;
        Event e{};
        e.type = Event::REJECTED;
        e.peer = c.facts->name;
        e.incarnation = c.facts->incarnation;
        e.shuffle = shuffle;
        e.stream = stream;
        e.verdict = verdict;
        tell(std::move(e));
    }

    void on_output(Connection &c) override {
        if (output_set_.insert(c.id).second) outputs_.push_back(c.id);
    }

  protected:
    /* An outbound connection was welcomed. */
    virtual void on_link_open(Connection &) {}

    bool tell(Event &&event) {
        if (events.push(std::move(event))) return true;
        add(counters.events_dropped, 1);
        return false;
    }

    std::unordered_map<uint64_t, std::unique_ptr<Connection>> connections_;
    std::vector<uint64_t> ended_; /* that ended without being the one at hand */

  private:
    using Identity = std::pair<std::string, std::pair<uint64_t, int>>;
    struct Held { FactsPtr facts; int64_t connections = 0; };

    static Identity identity_of(const Connection &c) {
        return {c.facts->name, {c.facts->incarnation, (int)c.inbound * 2 + c.role}};
    }

    Connection *keep(std::unique_ptr<Connection> c) {
        Connection *raw = c.get();
        connections_[raw->id] = std::move(c);
        return raw;
    }

    FactsPtr facts_of(const std::string &name, uint64_t incarnation, const std::string &address) {
        std::lock_guard<std::mutex> hold(facts_lock_);
        Held &held = facts_[{name, incarnation}];
        if (!held.facts) {
            held.facts = std::make_shared<Facts>();
            held.facts->name = name;
            held.facts->incarnation = incarnation;
            held.facts->address = address;
        }
        held.facts->heard_ns.store(now(), std::memory_order_relaxed);
        held.connections += 1;
        return held.facts;
    }

    void release(const FactsPtr &facts) {
        std::lock_guard<std::mutex> hold(facts_lock_);
        auto found = facts_.find({facts->name, facts->incarnation});
        if (found != facts_.end() && --found->second.connections == 0) facts_.erase(found);
    }

    void opened(Connection &c) {
        add(counters.opened, 1);
        if (c.role != CONTROL_ROLE) return;
        Event e{};
        e.type = Event::CONNECTED;
        e.peer = c.facts->name;
        e.incarnation = c.facts->incarnation;
        e.address = c.facts->address;
        e.inbound = c.inbound;
        tell(std::move(e));
    }

    const Config config_;
    const ReceiverTable receiver_;
    Granter granter_;
    Shared shared_;
    uint64_t next_id_ = 16; /* smaller ones are the loop's own */
    int64_t inbound_ = 0;
    std::set<uint64_t> strangers_; /* by age */
    std::map<Identity, uint64_t> by_identity_;
    std::vector<uint64_t> outputs_;
    std::set<uint64_t> output_set_;
    std::mutex facts_lock_;
    std::map<std::pair<std::string, uint64_t>, Held> facts_;
};

} // namespace wire
#endif
