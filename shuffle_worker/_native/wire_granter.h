/* The receiving half of credit: who may send how much, in what order. Pure: time comes in, frames go out by `emit`.
 *
 * An account is one connection and shuffle. A sender that lacks credit says NEED and stands in one queue with all
 * others; the first is served first, exactly its need when others wait, a window when nobody does. Who is refused for
 * lack of memory blocks those behind, and credit that lies idle or is too little to be used is called back (RECALL),
 * so that no set of half-served senders can wait for each other.
 */
#ifndef SHUFFLE_WIRE_GRANTER_H
#define SHUFFLE_WIRE_GRANTER_H

#include <list>
#include <unordered_map>

#include "wire_base.h"

namespace wire {

constexpr int64_t IDLE_CREDIT_NS = 20 * 1000 * 1000; /* unspent for so long, it may be called back */

struct CreditAction {
    enum Kind { CREDIT, RECALL, REJECT } kind;
    uint64_t connection;
    Uid shuffle;
    StreamKey stream; /* of REJECT */
    int64_t value;    /* bytes of CREDIT, verdict of REJECT */
};

class Granter {
  public:
    Granter(const ReceiverTable &receiver, int64_t window, int64_t max_shuffles)
        : receiver_(receiver), window_(window), max_shuffles_(max_shuffles) {}

    /* A sender waits with a frame that costs `bytes`. 0, or a Fault. */
    template <class Emit>
    int on_need(uint64_t connection, const Uid &shuffle, const StreamKey &stream, int64_t bytes, int64_t now, Emit emit) {
        Account *a = account(connection, shuffle);
        if (a == nullptr) return TOO_MANY_SHUFFLES;
        a->need = bytes;
        a->stream = stream;
        a->recalled = false;
        if (a->outstanding >= bytes) { leave(a); return 0; } /* the credit is on its way */
        if (!a->queued) {
            a->place = queue_.insert(queue_.end(), a);
            a->queued = true;
        }
        serve(now, emit);
        return 0;
    }

    /* A frame that costs `bytes` has begun. 0, or OVER_CREDIT. */
    int on_frame(uint64_t connection, const Uid &shuffle, int64_t bytes, int64_t now) {
        Account *a = find(connection, shuffle);
        if (a == nullptr || a->outstanding < bytes) return OVER_CREDIT;
        a->outstanding -= bytes;
        a->spent_ns = now;
        a->recalled = false;
        return 0;
    }

    /* Keep a busy sender's window open, when nobody waits. */
    template <class Emit> void refill(uint64_t connection, const Uid &shuffle, Emit emit) {
        Account *a = find(connection, shuffle);
        if (a == nullptr || !queue_.empty() || a->outstanding > window_ / 2) return;
        int64_t granted = receiver_.grant(receiver_.self, bytes_of(shuffle).data(), window_ - a->outstanding, 0);
        if (granted > 0) give(a, granted, emit);
    }

    /* The sender gave credit back. 0, or OVER_CREDIT when it never had so much. */
    template <class Emit> int on_returned(uint64_t connection, const Uid &shuffle, int64_t bytes, int64_t now, Emit emit) {
        Account *a = find(connection, shuffle);
        if (a == nullptr || bytes <= 0 || a->outstanding < bytes) return OVER_CREDIT;
        a->outstanding -= bytes;
        a->recalled = false;
        add(returned, bytes);
        receiver_.ungrant(receiver_.self, bytes_of(shuffle).data(), bytes);
        serve(now, emit);
        return 0;
    }

    /* The connection died: what it did not spend goes back. */
    void on_close(uint64_t connection) {
        auto found = accounts_.find(connection);
        if (found == accounts_.end()) return;
        for (auto &entry : found->second) {
            Account &a = entry.second;
            leave(&a);
            if (a.outstanding > 0) receiver_.ungrant(receiver_.self, bytes_of(a.shuffle).data(), a.outstanding);
        }
        accounts_.erase(found);
    }

    /* Serve who waits, in order. Call when memory was freed, and now and then. */
    template <class Emit> void serve(int64_t now, Emit emit) {
        for (auto at = queue_.begin(); at != queue_.end();) {
            Account *a = *at;
            ++at;
            int64_t missing = a->need - a->outstanding;
            int64_t granted = receiver_.grant(receiver_.self, bytes_of(a->shuffle).data(), missing, 1);
            if (granted == GRANT_LATER) continue;
            if (granted == GRANT_FENCED || granted == GRANT_TOO_LARGE) {
                refuse(a, granted == GRANT_FENCED ? FENCED : TOO_LARGE, emit);
                continue;
            }
            if (granted < missing) {
                if (granted > 0) receiver_.ungrant(receiver_.self, bytes_of(a->shuffle).data(), granted);
                recall(now, emit);
                return;
            }
            leave(a);
            int64_t more = window_ - a->outstanding - granted;
            if (queue_.empty() && more > 0) {
                more = receiver_.grant(receiver_.self, bytes_of(a->shuffle).data(), more, 0);
                if (more > 0) granted += more;
            }
            a->spent_ns = now;
            give(a, granted, emit);
        }
    }

    bool waiting() const { return !queue_.empty(); }
    size_t waiting_count() const { return queue_.size(); }

    int64_t outstanding(uint64_t connection, const Uid &shuffle) {
        Account *a = find(connection, shuffle);
        return a == nullptr ? 0 : a->outstanding;
    }

    Count granted_total{0}, returned{0}, recalls{0};

  private:
    struct Account {
        uint64_t connection;
        Uid shuffle;
        StreamKey stream;           /* which waits */
        int64_t outstanding = 0;    /* granted; neither spent nor given back */
        int64_t need = 0;           /* cost of the frame that waits; 0: none does */
        int64_t spent_ns = 0;
        bool queued = false;
        bool recalled = false;
        std::list<Account *>::iterator place;
    };
    using Accounts = std::unordered_map<Uid, Account, UidHash>;

    static std::array<uint8_t, 16> bytes_of(const Uid &uid) {
        std::array<uint8_t, 16> bytes;
        uid.put(bytes.data());
        return bytes;
    }

    Account *find(uint64_t connection, const Uid &shuffle) {
        auto accounts = accounts_.find(connection);
        if (accounts == accounts_.end()) return nullptr;
        auto found = accounts->second.find(shuffle);
        return found == accounts->second.end() ? nullptr : &found->second;
    }

    Account *account(uint64_t connection, const Uid &shuffle) {
        Accounts &accounts = accounts_[connection];
        auto found = accounts.find(shuffle);
        if (found != accounts.end()) return &found->second;
        if ((int64_t)accounts.size() >= max_shuffles_) forget_unused(accounts);
        if ((int64_t)accounts.size() >= max_shuffles_) return nullptr;
        Account &a = accounts[shuffle];
        a.connection = connection;
        a.shuffle = shuffle;
        return &a;
    }

    static void forget_unused(Accounts &accounts) {
        for (auto at = accounts.begin(); at != accounts.end();) {
            if (at->second.outstanding == 0 && !at->second.queued) at = accounts.erase(at);
            else ++at;
        }
    }

    void leave(Account *a) {
        if (a->queued) queue_.erase(a->place);
        a->queued = false;
        a->need = 0;
    }

    template <class Emit> void give(Account *a, int64_t bytes, Emit emit) {
        a->outstanding += bytes;
        add(granted_total, bytes);
        emit(CreditAction{CreditAction::CREDIT, a->connection, a->shuffle, {}, bytes});
    }

    template <class Emit> void refuse(Account *a, int verdict, Emit emit) {
        StreamKey stream = verdict == FENCED ? StreamKey() : a->stream;
        leave(a);
        emit(CreditAction{CreditAction::REJECT, a->connection, a->shuffle, stream, verdict});
    }

    /* Ask back what is idle, and what those who wait cannot use. */
    template <class Emit> void recall(int64_t now, Emit emit) {
        for (auto &accounts : accounts_) {
            for (auto &entry : accounts.second) {
                Account &a = entry.second;
                if (a.outstanding == 0 || a.recalled) continue;
                if (!a.queued && now - a.spent_ns < IDLE_CREDIT_NS) continue;
                a.recalled = true;
                add(recalls, 1);
                emit(CreditAction{CreditAction::RECALL, a.connection, a.shuffle, {}, 0});
            }
        }
    }

    ReceiverTable receiver_;
    int64_t window_, max_shuffles_;
    std::unordered_map<uint64_t, Accounts> accounts_; /* nodes stay in place: the queue points to them */
    std::list<Account *> queue_;
};

} // namespace wire
#endif
