/* Bytes to frames: an incremental parser, fed with any pieces. No socket, no policy.
 *
 * The header is checked before anything is allocated for the payload. A subclass says where a payload goes: into a
 * buffer (bytes may then be read straight into it), into a text that grows only as bytes arrive, or nowhere.
 */
#ifndef SHUFFLE_WIRE_READER_H
#define SHUFFLE_WIRE_READER_H

#include <algorithm>

#include "wire_base.h"

extern "C" {
/* frame.pyx has the same for Cython; this is the wire's, so that no function pointer is imported at run time. */
static inline int wire_header_check(const frame_header_t *h) {
    if (h->magic != FRAME_MAGIC) return wire::BAD_MAGIC;
    if (h->header_crc != crc32c(0, h, FRAME_HEADER_BYTES - 4)) return wire::BAD_HEADER_CRC;
    if (h->version != FRAME_VERSION) return wire::BAD_VERSION;
    if (h->kind == 0 || h->kind >= FRAME_KINDS) return wire::BAD_KIND;
    return 0;
}
static inline void wire_header_seal(frame_header_t *h, const void *payload, uint64_t length) {
    h->length = length;
    h->payload_crc = crc32c(0, payload, length);
    h->header_crc = crc32c(0, h, FRAME_HEADER_BYTES - 4);
}
}

namespace wire {

inline frame_header_t make_header(int kind) {
    frame_header_t h;
    memset(&h, 0, sizeof h);
    h.magic = FRAME_MAGIC;
    h.version = FRAME_VERSION;
    h.kind = (uint8_t)kind;
    return h;
}

class FrameReader {
  public:
    FrameReader() = default;
    FrameReader(const FrameReader &) = delete;
    FrameReader &operator=(const FrameReader &) = delete;
    virtual ~FrameReader() { buffer_unref(payload_); }

    /* Take all of `size` bytes; false when the stream is broken: nothing may be fed any more. */
    bool feed(const uint8_t *bytes, size_t size) {
        while (size > 0 && !broken_) {
            size_t n;
            if (have_ < FRAME_HEADER_BYTES) {
                n = std::min(size, FRAME_HEADER_BYTES - have_);
                memcpy((uint8_t *)&header_ + have_, bytes, n);
                have_ += n;
                if (have_ == FRAME_HEADER_BYTES) begin();
            } else {
                n = (size_t)std::min<uint64_t>(size, remaining());
                if (payload_ != nullptr) memcpy(payload_->data + filled_, bytes, n);
                else if (!skip_) text_.append((const char *)bytes, n);
                crc_ = crc32c(crc_, bytes, n);
                filled_ += n;
                if (remaining() == 0) finish();
            }
            bytes += n;
            size -= n;
        }
        return !broken_;
    }

    /* Where the next payload bytes may be put without a copy; 0 when feed must be used. */
    size_t space(uint8_t **to, size_t most) {
        if (have_ < FRAME_HEADER_BYTES || payload_ == nullptr) return 0;
        *to = payload_->data + filled_;
        return (size_t)std::min<uint64_t>(most, remaining());
    }

    /* `n` bytes were put there. */
    bool filled(size_t n) {
        crc_ = crc32c(crc_, payload_->data + filled_, n);
        filled_ += n;
        if (remaining() == 0) finish();
        return !broken_;
    }

    /* Whether a frame has begun and not ended. */
    bool within_frame() const { return have_ > 0; }

  protected:
    /* The header is well-formed. 0 to go on; else a Fault, and the stream is broken. May call `into` or `skip`. */
    virtual int on_header(const frame_header_t &header) = 0;
    /* The frame is whole and its checksum right. `payload` (or NULL) is handed over with its reference. */
    virtual int on_frame(const frame_header_t &header, buffer_t *payload, std::string &text, bool skipped) = 0;
    /* The stream broke; called once. */
    virtual void on_broken(int fault) = 0;

    void into(buffer_t *payload) { payload_ = payload; }
    void skip() { skip_ = true; }
    /* No more bytes are taken, whatever the reason. */
    void stop() { broken_ = true; }

  private:
    uint64_t remaining() const { return header_.length - filled_; }

    void break_with(int fault) {
        broken_ = true;
        on_broken(fault);
    }

    void begin() {
        int fault = wire_header_check(&header_);
        if (fault == 0) fault = on_header(header_);
        if (fault != 0) { break_with(fault); return; }
        if (!broken_ && header_.length == 0) finish();
    }

    void finish() {
        if (crc_ != header_.payload_crc) { break_with(BAD_PAYLOAD_CRC); return; }
        buffer_t *payload = payload_;
        payload_ = nullptr;
        if (payload != nullptr) payload->size = (int64_t)header_.length;
        int fault = on_frame(header_, payload, text_, skip_);
        have_ = 0;
        filled_ = 0;
        crc_ = 0;
        skip_ = false;
        text_.clear();
        if (text_.capacity() > 65536) text_.shrink_to_fit();
        if (fault != 0) break_with(fault);
    }

    frame_header_t header_;
    size_t have_ = 0;       /* bytes of the header */
    uint64_t filled_ = 0;   /* bytes of the payload */
    uint32_t crc_ = 0;
    buffer_t *payload_ = nullptr;
    std::string text_;
    bool skip_ = false;
    bool broken_ = false;
};

} // namespace wire
#endif
