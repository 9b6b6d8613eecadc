/* The payload of HELLO and WELCOME: one flat JSON object of strings and whole numbers. No I/O, bounded work. */
#ifndef SHUFFLE_WIRE_HELLO_H
#define SHUFFLE_WIRE_HELLO_H

#include "wire_base.h"

namespace wire {

struct Hello {
    int64_t protocol = 0, max_frame_bytes = 0;
    std::string role, name, address, token;
    uint64_t incarnation = 0, expect = 0;
};

inline void put_text(std::string &out, const char *key, const std::string &value) {
    out += out.size() > 1 ? ",\"" : "\"";
    out += key;
    out += "\":\"";
    for (unsigned char c : value) {
        char escaped[8];
        if (c == '"' || c == '\\') { out += '\\'; out += (char)c; }
        else if (c < 0x20) { snprintf(escaped, sizeof escaped, "\\u%04x", c); out += escaped; }
        else out += (char)c;
    }
    out += '"';
}

inline void put_number(std::string &out, const char *key, int64_t value) {
    out += out.size() > 1 ? ",\"" : "\"";
    out += key;
    out += "\":" + std::to_string(value);
}

inline std::string encode_hello(const Hello &h) {
    std::string out = "{";
    put_number(out, "protocol", h.protocol);
    if (!h.role.empty()) put_text(out, "role", h.role);
    put_text(out, "name", h.name);
    put_text(out, "incarnation", hex64(h.incarnation));
    if (!h.address.empty()) put_text(out, "address", h.address);
    if (h.expect) put_text(out, "expect", hex64(h.expect));
    if (!h.token.empty()) put_text(out, "token", h.token);
    put_number(out, "max_frame_bytes", h.max_frame_bytes);
    return out + "}";
}

/* Reads what encode_hello writes, in any order, with white space and unknown keys of the two types. */
class HelloDecoder {
  public:
    HelloDecoder(const std::string &text) : at_(text.data()), end_(text.data() + text.size()) {}

    bool decode(Hello &h) {
        if (!token('{')) return false;
        if (token('}')) return finished();
        do {
            std::string key, text;
            int64_t number = 0;
            bool is_text = false;
            if (!read_text(key) || !token(':')) return false;
            skip();
            if (at_ < end_ && *at_ == '"') { is_text = true; if (!read_text(text)) return false; }
            else if (!read_number(number)) return false;
            if (!set(h, key, is_text, text, number)) return false;
        } while (token(','));
        return token('}') && finished();
    }

  private:
    void skip() { while (at_ < end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r')) at_++; }
    bool token(char c) { skip(); if (at_ >= end_ || *at_ != c) return false; at_++; return true; }
    bool finished() { skip(); return at_ == end_; }

    bool read_number(int64_t &to) {
        int digits = 0;
        for (to = 0; at_ < end_ && *at_ >= '0' && *at_ <= '9'; at_++, digits++) {
            if (digits == 18) return false;
            to = to * 10 + (*at_ - '0');
        }
        return digits > 0;
    }

    static int hex_digit(char c) {
        if (c >= '0' && c <= '9') return c - '0';
        if (c >= 'a' && c <= 'f') return c - 'a' + 10;
        if (c >= 'A' && c <= 'F') return c - 'A' + 10;
        return -1;
    }

    /* \uXXXX outside of the surrogates, as UTF-8; nobody needs more in a name. */
    bool read_escape(std::string &to) {
        unsigned code = 0;
        if (end_ - at_ < 4) return false;
        for (int i = 0; i < 4; i++, at_++) {
            int digit = hex_digit(*at_);
            if (digit < 0) return false;
            code = code * 16 + (unsigned)digit;
        }
        if (code >= 0xd800 && code < 0xe000) return false;
        if (code < 0x80) to += (char)code;
        else if (code < 0x800) { to += (char)(0xc0 | code >> 6); to += (char)(0x80 | (code & 63)); }
        else { to += (char)(0xe0 | code >> 12); to += (char)(0x80 | (code >> 6 & 63)); to += (char)(0x80 | (code & 63)); }
        return true;
    }

    bool read_text(std::string &to) {
        if (!token('"')) return false;
        while (at_ < end_ && *at_ != '"') {
            unsigned char c = (unsigned char)*at_++;
            if (c < 0x20) return false;
            if (c != '\\') { to += (char)c; continue; }
            if (at_ >= end_) return false;
            switch (*at_++) {
                case '"': to += '"'; break;
                case '\\': to += '\\'; break;
                case '/': to += '/'; break;
                case 'n': to += '\n'; break;
                case 't': to += '\t'; break;
                case 'r': to += '\r'; break;
                case 'b': to += '\b'; break;
                case 'f': to += '\f'; break;
                case 'u': if (!read_escape(to)) return false; break;
                default: return false;
            }
        }
        if (at_ >= end_) return false;
        at_++;
        return true;
    }

    static bool parse_hex(const std::string &text, uint64_t &to) {
        if (text.empty() || text.size() > 16) return false;
        to = 0;
        for (char c : text) {
            int digit = hex_digit(c);
            if (digit < 0) return false;
            to = to << 4 | (uint64_t)digit;
        }
        return true;
    }

    static bool set(Hello &h, const std::string &key, bool is_text, const std::string &text, int64_t number) {
        if (key == "protocol") { h.protocol = number; return !is_text; }
        if (key == "max_frame_bytes") { h.max_frame_bytes = number; return !is_text; }
        if (key == "role") { h.role = text; return is_text; }
        if (key == "name") { h.name = text; return is_text; }
        if (key == "address") { h.address = text; return is_text; }
        if (key == "token") { h.token = text; return is_text; }
        if (key == "incarnation") return is_text && parse_hex(text, h.incarnation);
        if (key == "expect") return is_text && parse_hex(text, h.expect);
        return true;
    }

    const char *at_, *end_;
};

/* Whether `shown` is one of the tokens. The time depends on the lengths only. */
inline bool token_proves(const std::vector<std::string> &tokens, const std::string &shown) {
    unsigned proven = tokens.empty();
    for (const std::string &token : tokens) {
        unsigned difference = (unsigned)(token.size() ^ shown.size()) != 0;
        for (size_t i = 0; i < shown.size(); i++) {
            unsigned char expected = token.empty() ? 0 : (unsigned char)token[i % token.size()];
            difference |= (unsigned)(expected ^ (unsigned char)shown[i]);
        }
        proven |= difference == 0;
    }
    return proven != 0;
}

/* Names come from outside and go into messages and logs. UTF-8 that is not well-formed is for Python to replace. */
inline bool sane_name(const std::string &name) {
    if (name.empty() || name.size() > 255) return false;
    for (unsigned char c : name) if (c < 0x20 || c == 0x7f) return false;
    return true;
}

} // namespace wire
#endif
