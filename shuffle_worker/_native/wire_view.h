/* The transport's state as flat values, for the one place that turns them into Python objects. */
#ifndef SHUFFLE_WIRE_VIEW_H
#define SHUFFLE_WIRE_VIEW_H

#include "wire_core.h"

namespace wire {

struct PeerView {
    std::string name, address, gave_up;
    uint64_t incarnation;
    bool connected, connecting, reading_paused;
    int64_t inbound, heard_ns, progress, frames_out, bytes_out, frames_in, bytes_in, queued_bytes, credit_bytes, stalled;
};

inline void put_facts(PeerView &v, const Facts &f) {
    v.incarnation = f.incarnation;
    v.inbound = get(f.inbound);
    v.heard_ns = get(f.heard_ns);
    v.progress = get(f.progress);
    v.reading_paused = f.reading_paused;
    v.frames_out = get(f.frames_out);
    v.bytes_out = get(f.bytes_out);
    v.frames_in = get(f.frames_in);
    v.bytes_in = get(f.bytes_in);
}

/* Those we connect to, then those that only connect to us. */
inline std::vector<PeerView> view_peers(Wire &w) {
    std::vector<PeerView> views;
    std::map<std::pair<std::string, uint64_t>, FactsPtr> facts;
    for (auto &known : w.all_facts()) facts[{known->name, known->incarnation}] = known;
    for (auto &peer : w.all_peers()) {
        Peer::State s = peer->state();
        PeerView v{};
        v.name = peer->name;
        v.address = peer->address();
        v.incarnation = peer->expect;
        if (s.facts) {
            /* A newer record when all connections were lost and some came back. */
            auto current = facts.find({s.facts->name, s.facts->incarnation});
            put_facts(v, current == facts.end() ? *s.facts : *current->second);
            if (current != facts.end()) facts.erase(current);
        }
        v.connected = s.open[0] && s.open[1];
        v.connecting = !v.connected && !s.gone;
        v.gave_up = s.gone ? s.why : "";
        v.queued_bytes = s.queued_bytes;
        v.credit_bytes = s.credit_bytes;
        v.stalled = s.stalled;
        views.push_back(v);
    }
    for (auto &entry : facts) {
        PeerView v{};
        v.name = entry.second->name;
        v.address = entry.second->address;
        put_facts(v, *entry.second);
        views.push_back(v);
    }
    return views;
}

/* Take the events; what they held up may go on. */
inline std::deque<Event> drain_events(Wire &w) {
    std::deque<Event> events = w.events.take();
    bool resume = false;
    for (Event &e : events) {
        if (e.type == Event::HEARTBEAT) {
            e.facts->heartbeat_queued = false;
            e.progress = (uint64_t)get(e.facts->progress); /* the latest, not the one that queued it */
        } else if (e.type == Event::MESSAGE) {
            add(e.facts->undrained, -((int64_t)e.text.size() + MESSAGE_OVERHEAD));
            resume = resume || e.facts->reading_paused;
        }
    }
    if (resume) w.resume_reading();
    return events;
}

inline int64_t count_fault(const Counters &c, int number) { return get(c.faults[(size_t)number]); }
inline int64_t count_verdict(const Counters &c, int number) { return get(c.verdicts[(size_t)number]); }
inline int64_t count_refusal(const Counters &c, int number) { return get(c.refusals[(size_t)number]); }

} // namespace wire
#endif
