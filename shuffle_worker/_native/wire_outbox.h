/* Frames on their way into one socket: filled into an iovec, removed as bytes are written. One thread only. */
#ifndef SHUFFLE_WIRE_OUTBOX_H
#define SHUFFLE_WIRE_OUTBOX_H

#include <sys/uio.h>

#include <deque>

#include "wire_reader.h"

namespace wire {

/* A sealed frame; moves, and owns one reference to its buffer. */
struct OutFrame {
    frame_header_t header;
    buffer_t *payload = nullptr;
    std::string text;

    explicit OutFrame(const frame_header_t &h) : header(h) {}
    OutFrame(const frame_header_t &h, buffer_t *p) : header(h), payload(p) {}
    OutFrame(OutFrame &&o) noexcept : header(o.header), payload(o.payload), text(std::move(o.text)) { o.payload = nullptr; }
    OutFrame &operator=(OutFrame &&o) noexcept {
        buffer_unref(payload);
        header = o.header;
        payload = o.payload;
        o.payload = nullptr;
        text = std::move(o.text);
        return *this;
    }
    ~OutFrame() { buffer_unref(payload); }

    int64_t bytes() const { return FRAME_HEADER_BYTES + (int64_t)header.length; }
    const uint8_t *body() const { return payload != nullptr ? payload->data : (const uint8_t *)text.data(); }
};

inline OutFrame make_text_frame(int kind, std::string text) {
    OutFrame frame(make_header(kind));
    frame.text = std::move(text);
    wire_header_seal(&frame.header, frame.text.data(), frame.text.size());
    return frame;
}

inline OutFrame make_value_frame(int kind, const Uid &shuffle, const StreamKey &stream, uint64_t value) {
    OutFrame frame(make_header(kind));
    shuffle.put(frame.header.shuffle);
    frame.header.map = stream.map;
    frame.header.epoch = stream.epoch;
    frame.header.attempt = stream.attempt;
    frame.header.value = value;
    wire_header_seal(&frame.header, nullptr, 0);
    return frame;
}

class Outbox {
  public:
    bool empty() const { return frames_.empty(); }
    size_t size() const { return frames_.size(); }
    int64_t bytes() const { return bytes_; }

    void push(OutFrame &&frame) {
        bytes_ += frame.bytes();
        frames_.push_back(std::move(frame));
    }

    /* Pieces to write next, at most `most` of them and about `limit` bytes. */
    int fill(struct iovec *pieces, int most, int64_t limit) const {
        int n = 0;
        int64_t skip = written_;
        for (auto at = frames_.begin(); at != frames_.end() && n + 2 <= most && limit > 0; ++at) {
            int64_t head = FRAME_HEADER_BYTES;
            int64_t body = (int64_t)at->header.length;
            if (skip < head) {
                pieces[n++] = {(uint8_t *)&at->header + skip, (size_t)(head - skip)};
                limit -= head - skip;
                skip = 0;
            } else {
                skip -= head;
            }
            if (body > skip) {
                pieces[n++] = {const_cast<uint8_t *>(at->body()) + skip, (size_t)(body - skip)};
                limit -= body - skip;
            }
            skip = 0;
        }
        return n;
    }

    /* `n` bytes were written; `done(frame)` is called for each frame that is complete. */
    template <class Done> void advance(int64_t n, Done done) {
        bytes_ -= n;
        written_ += n;
        while (!frames_.empty() && written_ >= frames_.front().bytes()) {
            written_ -= frames_.front().bytes();
            done(frames_.front());
            frames_.pop_front();
        }
    }

    void clear() {
        frames_.clear();
        bytes_ = 0;
        written_ = 0;
    }

  private:
    std::deque<OutFrame> frames_;
    int64_t bytes_ = 0;    /* not yet written */
    int64_t written_ = 0;  /* of the first frame */
};

} // namespace wire
#endif
