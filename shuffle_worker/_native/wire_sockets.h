/* Socket addresses and options. */
#ifndef SHUFFLE_WIRE_SOCKETS_H
#define SHUFFLE_WIRE_SOCKETS_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "wire_peer.h"

namespace wire {

/* The addresses of a host; an error's text otherwise. May ask a name server: not for the I/O thread. */
inline std::string resolve(const std::string &host, int port, bool passive, std::vector<SocketAddress> *to) {
    addrinfo hints{}, *found = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0);
    int fault = getaddrinfo(host.empty() ? nullptr : host.c_str(), std::to_string(port).c_str(), &hints, &found);
    if (fault != 0) return gai_strerror(fault);
    for (addrinfo *at = found; at != nullptr; at = at->ai_next) {
        SocketAddress address{};
        memcpy(&address.storage, at->ai_addr, at->ai_addrlen);
        address.size = at->ai_addrlen;
        to->push_back(address);
    }
    freeaddrinfo(found);
    return to->empty() ? "no address" : "";
}

inline std::string text_of(const sockaddr_storage &storage) {
    char text[INET6_ADDRSTRLEN] = "?";
    if (storage.ss_family == AF_INET6) {
        const sockaddr_in6 *v6 = (const sockaddr_in6 *)&storage;
        inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
        return "[" + std::string(text) + "]:" + std::to_string(ntohs(v6->sin6_port));
    }
    const sockaddr_in *v4 = (const sockaddr_in *)&storage;
    inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
    return std::string(text) + ":" + std::to_string(ntohs(v4->sin_port));
}

inline int port_of(int fd) {
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    if (getsockname(fd, (sockaddr *)&storage, &size) != 0) return -1;
    return storage.ss_family == AF_INET6 ? ntohs(((sockaddr_in6 *)&storage)->sin6_port)
                                         : ntohs(((sockaddr_in *)&storage)->sin_port);
}

/* Options are wishes: a kernel that knows one of them less still moves bytes. */
inline void tune(int fd, int64_t user_timeout_ns) {
    int on = 1, idle_s = 5, interval_s = 5, probes = 3;
    unsigned timeout_ms = (unsigned)std::min<int64_t>(user_timeout_ns / 1000000, 1 << 30);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
}

/* A listening socket, or -1 with errno. */
inline int listen_on(const SocketAddress &address) {
    int fd = socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    int on = 1, fault;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (const sockaddr *)&address.storage, address.size) == 0 && listen(fd, 512) == 0) return fd;
    fault = errno;
    ::close(fd);
    errno = fault;
    return -1;
}

/* A socket that is connecting, or -1 with errno. */
inline int dial(const SocketAddress &address, int64_t user_timeout_ns) {
    int fd = socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    tune(fd, user_timeout_ns);
    if (connect(fd, (const sockaddr *)&address.storage, address.size) == 0 || errno == EINPROGRESS) return fd;
    int fault = errno;
    ::close(fd);
    errno = fault;
    return -1;
}

inline Reason reason_of(int error) {
    switch (error) {
        case ECONNREFUSED: return REFUSED;
        case ETIMEDOUT: case EHOSTUNREACH: case ENETUNREACH: return TIMEOUT;
        default: return RESET;
    }
}

} // namespace wire
#endif
