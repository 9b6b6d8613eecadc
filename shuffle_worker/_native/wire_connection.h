/* One connection's protocol: handshake, which frames may come when, and what each of them does. No socket: bytes are
 * fed in, frames to be written are in `outbox`.
 */
#ifndef SHUFFLE_WIRE_CONNECTION_H
#define SHUFFLE_WIRE_CONNECTION_H

#include "wire_granter.h"
#include "wire_hello.h"
#include "wire_peer.h"

namespace wire {

class Connection;

/* What a connection needs of its surroundings. */
class ConnectionHost {
  public:
    virtual ~ConnectionHost() = default;
    /* An inbound HELLO. 0 to welcome it, else a Refusal with the sentence for the other side. */
    virtual int on_hello(Connection &c, const Hello &hello, std::string *why) = 0;
    /* An outbound connection was welcomed. The sentence why we do not want it, or an empty one. */
    virtual std::string on_welcome(Connection &c, const Hello &welcome) = 0;
    virtual void on_message(Connection &c, const std::string &text) = 0;
    virtual void on_heartbeat(Connection &c, uint64_t progress) = 0;
    virtual void on_credit_action(const CreditAction &action) = 0;
    virtual void on_rejected(Connection &c, const Uid &shuffle, const StreamKey &stream, int verdict) = 0;
    /* The outbox is no longer empty. */
    virtual void on_output(Connection &c) = 0;
};

/* What all connections of a process share. */
struct Shared {
    const Config &config;
    const ReceiverTable &receiver;
    Granter &granter;
    Counters &counters;
    ConnectionHost &host;
    int64_t now = 0; /* of this round of the loop */
};

class Connection : public FrameReader {
  public:
    enum State { HELLO_AWAITED, WELCOME_AWAITED, OPEN, REFUSING, ENDED };

    /* From them to us. */
    Connection(Shared &shared, uint64_t id_, const std::string &remote_)
        : id(id_), inbound(true), remote(remote_), shared_(shared) {}

    /* From us to them. */
    Connection(Shared &shared, uint64_t id_, const std::shared_ptr<Peer> &peer_, Role role_)
        : id(id_), inbound(false), remote(peer_->address()), peer(peer_), role(role_), state(WELCOME_AWAITED),
          shared_(shared) {
        Hello hello;
        hello.protocol = PROTOCOL;
        hello.role = role == DATA_ROLE ? "data" : "control";
        hello.name = shared.config.name;
        hello.incarnation = shared.config.incarnation;
        hello.address = own_address(shared.config);
        hello.expect = peer->expect;
        if (!shared.config.tokens.empty()) hello.token = shared.config.tokens[0];
        hello.max_frame_bytes = shared.config.max_frame_bytes;
        push(make_text_frame(FRAME_HELLO, encode_hello(hello)));
    }

    const uint64_t id;
    const bool inbound;
    const std::string remote;       /* the socket's other end, for messages */
    const std::shared_ptr<Peer> peer; /* of an outbound one */
    Role role = DATA_ROLE;
    State state = HELLO_AWAITED;
    FactsPtr facts;                 /* once OPEN */
    Outbox outbox;
    Reason reason = CLOSED;         /* why it ended */
    std::string what;

    static std::string own_address(const Config &config) {
        const std::string &host = config.advertise_host.empty() ? config.host : config.advertise_host;
        return (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" + std::to_string(config.port);
    }

    std::string label() const { return facts ? facts->name + " at " + remote : remote; }

    void push(OutFrame &&frame) {
        outbox.push(std::move(frame));
        shared_.host.on_output(*this);
    }

    /* No more is read or written. The owner closes the socket and calls on_close of what it told before. */
    void end(Reason why, const std::string &text) {
        if (state == ENDED) return;
        reason = why;
        what = text;
        state = ENDED;
        stop();
        shared_.granter.on_close(id);
    }

    /* Say a sentence, then end once it is written. */
    void refuse(Reason why, const std::string &text) {
        if (state == ENDED || state == REFUSING) return;
        reason = why;
        what = text;
        state = REFUSING;
        stop();
        shared_.granter.on_close(id);
        push(make_text_frame(FRAME_REFUSE, text.substr(0, HELLO_LIMIT)));
    }

  protected:
    int on_header(const frame_header_t &h) override {
        switch (state) {
            case HELLO_AWAITED:
                if (h.kind != FRAME_HELLO) return UNEXPECTED_KIND;
                return h.length > (uint64_t)HELLO_LIMIT ? TOO_LONG : 0;
            case WELCOME_AWAITED:
                if (h.kind != FRAME_WELCOME && h.kind != FRAME_REFUSE) return UNEXPECTED_KIND;
                return h.length > (uint64_t)HELLO_LIMIT ? TOO_LONG : 0;
            case OPEN:
                return on_open_header(h);
            default:
                return UNEXPECTED_KIND;
        }
    }

    int on_frame(const frame_header_t &h, buffer_t *payload, std::string &text, bool skipped) override {
        add(shared_.counters.bytes_in, FRAME_HEADER_BYTES + (int64_t)h.length);
        if (facts) {
            facts->heard_ns.store(shared_.now, std::memory_order_relaxed);
            add(facts->bytes_in, FRAME_HEADER_BYTES + (int64_t)h.length);
        }
        Uid shuffle(h.shuffle);
        switch (h.kind) {
            case FRAME_HELLO: return on_hello(text);
            case FRAME_WELCOME: return on_welcome(text);
            case FRAME_REFUSE: end(state == WELCOME_AWAITED ? REJECTED_HELLO : RESET, text); return 0;
            case FRAME_DATA: return on_data(h, payload, skipped);
            case FRAME_CREDIT: return on_credit(shuffle, h.value);
            case FRAME_NEED: return on_need(h, shuffle);
            case FRAME_REJECT:
                if (h.value >= VERDICTS) return BAD_KIND;
                shared_.host.on_rejected(*this, shuffle, StreamKey(h), (int)h.value);
                return 0;
            case FRAME_CONTROL:
                add(shared_.counters.messages_in, 1);
                shared_.host.on_message(*this, text);
                return 0;
            case FRAME_HEARTBEAT: shared_.host.on_heartbeat(*this, h.value); return 0;
            default: return BAD_KIND;
        }
    }

    void on_broken(int fault) override {
        add(shared_.counters.faults[fault], 1);
        static const char *const TEXTS[FAULTS] = {
            "", "the bytes are no frame", "the frame's version is not known", "the frame's kind is not known",
            "a header does not match its checksum", "a frame is longer than allowed",
            "a payload does not match its checksum", "a frame came that is not allowed here",
            "more was sent than credit was granted for", "too many shuffles on one connection", "HELLO is malformed"};
        std::string text = label() + " broke the protocol: " + TEXTS[fault];
        Reason why = fault == BAD_PAYLOAD_CRC || fault == BAD_HEADER_CRC ? CORRUPT : BROKE_PROTOCOL;
        /* A stranger that does not even speak the protocol gets no answer. */
        if (inbound && state == OPEN) refuse(why, text);
        else end(why, text);
    }

  private:
    /* The kinds that may come over an open connection, and how long they may be. */
    int on_open_header(const frame_header_t &h) {
        bool allowed = role == DATA_ROLE
            ? (inbound ? h.kind == FRAME_DATA || h.kind == FRAME_NEED || h.kind == FRAME_CREDIT
                       : h.kind == FRAME_CREDIT || h.kind == FRAME_REJECT)
            : h.kind == FRAME_HEARTBEAT || (inbound && h.kind == FRAME_CONTROL);
        if (!inbound && h.kind == FRAME_REFUSE) return h.length > (uint64_t)HELLO_LIMIT ? TOO_LONG : 0;
        if (!allowed) return UNEXPECTED_KIND;
        if (h.kind == FRAME_CONTROL) return h.length > (uint64_t)shared_.config.max_control_bytes ? TOO_LONG : 0;
        if (h.kind != FRAME_DATA) return h.length > 0 ? TOO_LONG : 0;
        return begin_data(h);
    }

    int begin_data(const frame_header_t &h) {
        if (h.length > (uint64_t)shared_.config.max_frame_bytes) return TOO_LONG;
        int64_t cost = frame_credit(h.length);
        int fault = shared_.granter.on_frame(id, Uid(h.shuffle), cost, shared_.now);
        if (fault != 0) return fault;
        buffer_t *buffer = h.length == 0 ? nullptr : shared_.receiver.obtain(shared_.receiver.self, &h);
        if (buffer == nullptr) shared_.receiver.ungrant(shared_.receiver.self, h.shuffle, cost);
        if (buffer != nullptr) into(buffer);
        else if (h.length > 0) skip();
        return 0;
    }

    int on_data(const frame_header_t &h, buffer_t *payload, bool skipped) {
        add(shared_.counters.frames_in, 1);
        add(facts->frames_in, 1);
        int verdict = skipped ? NO_MEMORY : shared_.receiver.deliver(shared_.receiver.self, &h, payload);
        if (verdict < 0 || verdict >= VERDICTS) verdict = UNKNOWN;
        if (verdict != TAKEN) {
            add(shared_.counters.verdicts[verdict], 1);
            if (verdict != DUPLICATE)
                push(make_value_frame(FRAME_REJECT, Uid(h.shuffle), StreamKey(h), (uint64_t)verdict));
        }
        ConnectionHost &host = shared_.host;
        shared_.granter.refill(id, Uid(h.shuffle), [&host](const CreditAction &a) { host.on_credit_action(a); });
        return 0;
    }

    int on_need(const frame_header_t &h, const Uid &shuffle) {
        ConnectionHost &host = shared_.host;
        if (h.value == 0 || h.value > (uint64_t)frame_credit((uint64_t)shared_.config.max_frame_bytes)) return TOO_LONG;
        return shared_.granter.on_need(id, shuffle, StreamKey(h), (int64_t)h.value, shared_.now,
                                       [&host](const CreditAction &a) { host.on_credit_action(a); });
    }

    int on_credit(const Uid &shuffle, uint64_t value) {
        ConnectionHost &host = shared_.host;
        if (value > (uint64_t)INT64_MAX / 4) return OVER_CREDIT;
        if (inbound)
            return shared_.granter.on_returned(id, shuffle, (int64_t)value, shared_.now,
                                               [&host](const CreditAction &a) { host.on_credit_action(a); });
        if (value == 0) peer->on_recall(shuffle);
        else peer->on_credit(shuffle, (int64_t)value);
        shared_.host.on_output(*this); /* credit may have been given back */
        return 0;
    }

    int on_hello(const std::string &text) {
        Hello hello;
        std::string why;
        if (!HelloDecoder(text).decode(hello) || !sane_name(hello.name) || hello.address.size() > 300
            || (hello.role != "data" && hello.role != "control")) {
            add(shared_.counters.refusals[MALFORMED], 1);
            return BAD_HELLO;
        }
        role = hello.role == "data" ? DATA_ROLE : CONTROL_ROLE;
        int refusal = shared_.host.on_hello(*this, hello, &why);
        if (refusal != 0) {
            add(shared_.counters.refusals[refusal], 1);
            refuse(REJECTED_HELLO, why);
            return 0;
        }
        state = OPEN;
        Hello welcome;
        welcome.protocol = PROTOCOL;
        welcome.name = shared_.config.name;
        welcome.incarnation = shared_.config.incarnation;
        welcome.max_frame_bytes = shared_.config.max_frame_bytes;
        push(make_text_frame(FRAME_WELCOME, encode_hello(welcome)));
        return 0;
    }

    int on_welcome(const std::string &text) {
        Hello welcome;
        if (!HelloDecoder(text).decode(welcome) || !sane_name(welcome.name)) return BAD_HELLO;
        state = OPEN;
        std::string why = shared_.host.on_welcome(*this, welcome);
        if (!why.empty()) end(REJECTED_HELLO, why);
        return 0;
    }

    Shared &shared_;
};

} // namespace wire
#endif
