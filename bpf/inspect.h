/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Which packets may carry a name (-DINSPECT): by what their payload begins with, hardly by ports. Without INSPECT nothing
 * of this is compiled.
 *
 * - DNS: a UDP payload that begins like a message with one question (NetBIOS's port, 137, apart), all of the ports of DNS,
 *   mDNS and LLMNR, and all of DNS's over TCP.
 * - TLS: a record with a ClientHello, in the first octets of any TCP connection; and its other segments, see `struct hello`.
 * - QUIC: an Initial packet, of a size that a client's datagram must have.
 * - HTTP: a request's method, likewise.
 * - The fragments of a datagram whose first one is any of these, see `struct datagram`. */
#ifndef AYAFLOW_INSPECT_H
#define AYAFLOW_INSPECT_H

#include "event.h"
#include "hash.h"
#include "parse.h"

#if INSPECT
#define PEEK 16 /* octets of a payload that say what it is */

union peek {
    u64 words[2];
    __be32 halves[4];
    u8 octets[PEEK];
};

#define TCP_FIN_SYN_RST 0x07
#define PORT_DNS 53
#define PORT_NETBIOS 137
#define PORT_MDNS 5353
#define PORT_LLMNR 5355
#define DNS_HEADER 12
#define DNS_SHORTEST 17  /* a question about the root */
#define DNS_NEVER 0x7840 /* flags: another opcode than QUERY, the reserved bit */
#define DNS_RESPONSE 0x8000
#define DNS_NOT_IN_A_QUERY 0x048f /* AA, RA, a response code */
#define DNS_MOST_ANSWERS 64
#define DNS_MOST_ADDITIONAL 2 /* of a query: OPT, TSIG */
#define DNS_LONGEST_LABEL 63
#define TLS_HANDSHAKE 0x1603 /* content type and major version */
#define TLS_CLIENT_HELLO 1
#define TLS_HEADERS 9 /* of the record, and of the handshake message */
#define QUIC_LONG 0xc0
#define QUIC_SHORTEST 1200 /* of a client's datagram with an Initial: RFC 9000, 14.1 */
#define QUIC_1 0x00000001
#define QUIC_2 0x6b3343cf
#define QUIC_DRAFTS 0xff0000 /* without the last octet, as the next one */
#define QUIC_MVFST 0xfaceb0
#define QUIC_GREASE_MASK 0x0f0f0f0f
#define QUIC_GREASE 0x0a0a0a0a /* a version that is none, so that the server says its own: RFC 9000, 15 */
#define QUIC_LONGEST_ID 20
#define METHOD(a, b, c, d) bpf_htonl((a) << 24 | (b) << 16 | (c) << 8 | (d))

/* Where a direction of a connection begins, and what is missing of a ClientHello that is not there whole. Its place is
 * made by the SYN, so that segments that overtake the first one are known; or by the first segment itself. Each octet of
 * 16 KiB counts: every TCP data packet looks here, and 8 of them an entry let the table stay in a CPU's first cache (four
 * times as many places cost 10 ns a packet with 16,000 flows). */
struct hello {
    u32 first; /* sequence number of its first octet */
    s16 left;  /* octets that are still to come; below 0: how many came before the first segment */
    u16 mark;  /* the flow's tag, and in HELLO_SEGMENTS how many more segments are copied */
};
#define HELLOS 2048
#define HELLO_SEGMENTS 7u
#define SOME_TAG 8u /* in each: a place that nobody took has none */
#define MOST_SEGMENTS 4
/* Octets, to either side of `first`, in which a payload is looked at, and how many of them a look takes that finds nothing.
 * It is the look that costs: 60 ns where the payload is not linear, and the helper that reads it then is in no cache. */
#define LOOKED_AT 0x10000u
#define LOOK 0x1000u
#define SELDOM 0xf00      /* bits of a time in ns that are all 0 once in 16 packets */
#define MOST_HELLO 0x4000 /* octets; a longer one is copied up to there */

/* A datagram of which more fragments come. */
struct datagram {
    u64 flow_hash; /* of its first fragment, which has the ports */
    u32 tag;       /* 0: none */
    u16 src_port, dst_port;
    u32 left; /* fragments that are still copied */
    u32 unused;
};
#define DATAGRAMS 256
#define MOST_FRAGMENTS 4

/* How many copies were made in this time. All CPUs share it; where two see a new time begin, a few more are made. */
struct budget {
    u64 time; /* in BUDGET_NS */
    u64 copies;
};

/* A packet that is one of those, and is not copied: too many parts, or its place in a table is another's. */
static __always_inline void skip_part(struct counters *counters)
{
    counters->inspected_packets++;
    counters->skipped_table_full_packets++;
}

/* Whether there may be another copy. */
static __always_inline int spend(struct budget *budget, u64 ktime_ns, u64 most)
{
    u64 time = ktime_ns / BUDGET_NS;
    if (budget->time != time) {
        budget->copies = 0;
        budget->time = time;
    }
    if (budget->copies >= most) /* who floods us only reads what the CPUs share */
        return 0;
    __sync_fetch_and_add(&budget->copies, 1);
    return 1;
}

/* Puts `bytes` octets of the packet, at least one, into room for `most`. The compiler must not know the bound, or it takes
 * away the comparison that tells it to the verifier. */
static __always_inline int load_octets(struct __sk_buff *skb, u32 offset, void *into, u32 bytes, const u32 most)
{
    u64 last = bytes - 1;
    asm volatile("if %0 < %1 goto +1\n%0 = 0" : "+r"(last) : "i"(most));
    return bpf_skb_load_bytes(skb, offset, into, last + 1);
}

/* What of a packet is copied. */
struct cut {
    u32 kind;
    u32 offset;  /* in the frame */
    u32 payload; /* octets from there on, by the IP header */
    u32 seq;
};

/* What lies behind the layer-4 header; nothing of what is not read up to there. */
static __always_inline u32 payload_of(const struct packet *p, u32 there)
{
    if (!p->layer4 || there <= p->offset)
        return 0;
    if (p->room == ROOM_UNKNOWN)
        return there - p->offset;
    return p->room > p->layer4 ? p->room - p->layer4 : 0;
}

/* What the payload begins with, the rest zeros if it is shorter. Not of a frame that was captured without it. */
static __always_inline int peek_at(struct __sk_buff *skb, const struct cut *cut, union peek *first)
{
    void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end, *at = data + (cut->offset & MAX_OFFSET);
    u32 bytes = cut->payload < PEEK ? cut->payload : PEEK;
    if (at + PEEK <= end) {
        __builtin_memcpy(first, at, PEEK);
        return 0;
    }
    return cut->offset + bytes > skb->len || load_octets(skb, cut->offset, first, bytes, PEEK);
}

static __always_inline void fill_copy(struct copy *copy, const struct packet *p, const struct cut *cut, u32 copied,
                                      u32 epoch)
{
    copy->ktime_ns = p->event.ktime_ns;
    copy->flow_hash = p->event.flow_hash;
    copy->src[0] = p->event.src[0];
    copy->src[1] = p->event.src[1];
    copy->dst[0] = p->event.dst[0];
    copy->dst[1] = p->event.dst[1];
    copy->seq = cut->seq;
    copy->epoch = epoch;
    copy->src_port = p->event.src_port;
    copy->dst_port = p->event.dst_port;
    copy->payload_bytes = cut->payload < 0xffff ? cut->payload : 0xffff;
    copy->copied = copied;
    copy->slot = p->event.slot;
    copy->fragment_offset = p->fragment << 3;
    copy->protocol = p->event.protocol;
    copy->kind = cut->kind;
    copy->direction = p->event.direction;
    copy->flags = p->fragment & FRAGMENT_MORE ? MORE_FRAGMENTS : 0;
}

static __always_inline int begins_dns(const union peek *first)
{
    u64 header = bpf_ntohll(first->words[0]); /* identification, flags, questions, answers */
    u32 flags = header >> 32 & 0xffff, questions = header >> 16 & 0xffff, answers = header & 0xffff;
    if (questions != 1 || flags & DNS_NEVER || first->octets[DNS_HEADER] > DNS_LONGEST_LABEL)
        return 0;
    if (flags & DNS_RESPONSE)
        return answers <= DNS_MOST_ANSWERS;
    /* the other two counts, authority and additional, as one number */
    return !answers && !(flags & DNS_NOT_IN_A_QUERY) && bpf_ntohl(first->halves[2]) <= DNS_MOST_ADDITIONAL;
}

static __always_inline int begins_quic(const union peek *first)
{
    u32 version = bpf_ntohll(first->words[0]) >> 24;
    u32 type = first->octets[0] >> 4 & 3;
    if (version == QUIC_1 || version == QUIC_2) /* an empty destination is a client's: a server's answer to it */
        return type == (version == QUIC_2) && (u8)(first->octets[5] - 1) < QUIC_LONGEST_ID;
    return !type
           && (version >> 8 == QUIC_DRAFTS || version >> 8 == QUIC_MVFST
               || (version & QUIC_GREASE_MASK) == QUIC_GREASE);
}

static __always_inline int is_dns_port(u16 port)
{
    return port == PORT_DNS || port == PORT_MDNS || port == PORT_LLMNR;
}

static __always_inline u32 udp_kind(const union peek *first, u32 payload, u16 src_port, u16 dst_port)
{
    if (is_dns_port(src_port) || is_dns_port(dst_port))
        return payload >= DNS_HEADER ? DNS : NO_COPY;
    if (first->octets[0] >= QUIC_LONG && payload >= QUIC_SHORTEST && begins_quic(first))
        return QUIC;
    if (payload >= DNS_SHORTEST && src_port != PORT_NETBIOS && dst_port != PORT_NETBIOS && begins_dns(first))
        return DNS;
    return NO_COPY;
}

static __always_inline u32 tcp_kind(const union peek *first, u32 payload)
{
    __be32 word = first->halves[0];
    if ((word & bpf_htonl(0xffff0000)) == bpf_htonl(TLS_HANDSHAKE << 16))
        return first->octets[2] <= 4 && (payload < 6 || first->octets[5] == TLS_CLIENT_HELLO) ? TLS : NO_COPY;
    if (word == METHOD('G', 'E', 'T', ' ') || word == METHOD('P', 'O', 'S', 'T') || word == METHOD('H', 'E', 'A', 'D')
        || word == METHOD('P', 'U', 'T', ' ') || word == METHOD('D', 'E', 'L', 'E')
        || word == METHOD('O', 'P', 'T', 'I') || word == METHOD('P', 'A', 'T', 'C')
        || word == METHOD('C', 'O', 'N', 'N') || word == METHOD('P', 'R', 'I', ' '))
        return HTTP;
    return NO_COPY;
}

static __always_inline u16 hello_tag(u64 flow_hash)
{
    return (flow_hash >> 48 & ~HELLO_SEGMENTS) | SOME_TAG;
}

static __always_inline int is_of(const struct hello *hello, u64 flow_hash)
{
    return (hello->mark & ~HELLO_SEGMENTS) == hello_tag(flow_hash);
}

/* Takes the place of another flow's. */
static __always_inline void take_place(struct hello *hello, u64 flow_hash, struct counters *counters)
{
    if (hello->left > 0 && hello->mark & HELLO_SEGMENTS && !is_of(hello, flow_hash))
        skip_part(counters);
}

/* No more of a hello is expected. */
static __always_inline void end_hello(struct hello *hello, u64 flow_hash)
{
    hello->left = 0;
    hello->mark = hello_tag(flow_hash);
}

/* A connection begins; with `segments`, in the direction that a hello takes. */
static __always_inline void begin_connection(struct hello *hello, u64 flow_hash, u32 first, u32 segments,
                                             struct counters *counters)
{
    take_place(hello, flow_hash, counters);
    hello->first = first;
    hello->left = 0;
    hello->mark = hello_tag(flow_hash) | segments;
}

/* A segment was looked at, and has no hello: one with a request is as good as the beginning. Of a connection whose
 * beginning we did not see, hardly each packet is remembered: CPUs share the table, and a place may be two's. */
static __always_inline void looked_at(struct hello *hello, u64 flow_hash, u32 seq, u32 kind, u64 ktime_ns)
{
    if (hello->left > 0 || hello->mark & HELLO_SEGMENTS) /* a hello is expected, perhaps another's */
        return;
    if (is_of(hello, flow_hash)) {
        hello->first = kind ? seq : hello->first - LOOK;
    } else if (!(ktime_ns & SELDOM)) {
        hello->first = seq;
        end_hello(hello, flow_hash);
    }
}

/* Whether a segment is so far from there that it is not looked at. */
static __always_inline int is_far_behind(const struct hello *hello, u64 flow_hash, u32 seq)
{
    return is_of(hello, flow_hash) && seq - hello->first + LOOKED_AT >= 2 * LOOKED_AT;
}

/* The first segment of a hello, or all of it. */
static __always_inline void begin_hello(struct hello *hello, const union peek *first, u64 flow_hash, u32 seq,
                                        u32 payload, struct counters *counters)
{
    s32 left = MOST_HELLO, known = is_of(hello, flow_hash);
    u32 segments = MOST_SEGMENTS;
    if (payload >= TLS_HEADERS && !first->octets[6])
        left = (first->octets[7] << 8 | first->octets[8]) + TLS_HEADERS;
    left = left < MOST_HELLO ? left - (s32)payload : MOST_HELLO - (s32)payload;
    if (known && hello->left < 0 && hello->first == seq) { /* others of it were here before */
        left += hello->left;
        segments = hello->mark & HELLO_SEGMENTS;
    }
    if (left <= 0) {
        if (known) {
            hello->first = seq;
            end_hello(hello, flow_hash);
        }
        return;
    }
    take_place(hello, flow_hash, counters);
    hello->first = seq;
    hello->left = left;
    hello->mark = hello_tag(flow_hash) | (segments ? segments - 1 : 0);
}

/* Another segment of a connection, which need not be one of a hello. Returns its kind. */
static __always_inline u32 more_of_hello(struct hello *hello, const union peek *first, u64 flow_hash, u32 seq,
                                         u32 payload, struct counters *counters)
{
    u32 segments = hello->mark & HELLO_SEGMENTS;
    s32 left = hello->left;
    if (!is_of(hello, flow_hash) || !(segments || left > 0) || seq - hello->first >= MOST_HELLO)
        return NO_COPY;
    if (left <= 0 && seq == hello->first && !(payload < 3 && first->octets[0] == TLS_HANDSHAKE >> 8)) {
        end_hello(hello, flow_hash); /* what the connection begins with is none */
        return NO_COPY;
    }
    s32 still = left - (s32)(payload < MOST_HELLO ? payload : MOST_HELLO);
    if (left > 0 && still <= 0) { /* that was the last one */
        end_hello(hello, flow_hash);
    } else {
        hello->left = still > -MOST_HELLO ? still : -MOST_HELLO;
        hello->mark -= segments ? 1 : 0;
    }
    if (segments)
        return CONTINUATION;
    skip_part(counters);
    return NO_COPY;
}

/* Where a datagram is in the table, and by what it is known there: whoever sends it does not know the key. */
static __always_inline u64 datagram_hash(const struct packet *p, const u64 *key)
{
    struct hash_state h;
    hash_begin(&h, key);
    hash_word(&h, (u64)p->identity << 32 | (u32)p->event.slot << 16 | p->event.direction << 8 | p->event.protocol);
    hash_word(&h, p->event.src[0]);
    hash_word(&h, p->event.src[1]);
    hash_word(&h, p->event.dst[0]);
    hash_word(&h, p->event.dst[1]);
    return hash_end(&h);
}

/* The first fragment of a datagram that is copied. */
static __always_inline void begin_datagram(struct datagram *datagram, const struct packet *p, u32 tag,
                                           struct counters *counters)
{
    if (datagram->left && datagram->tag != tag)
        skip_part(counters);
    datagram->flow_hash = p->event.flow_hash;
    datagram->tag = tag;
    datagram->src_port = p->event.src_port;
    datagram->dst_port = p->event.dst_port;
    datagram->left = MOST_FRAGMENTS - 1;
}

/* Another fragment, perhaps of one that is. Returns its kind; *p gets what the first one had. */
static __always_inline u32 more_of_datagram(struct datagram *datagram, struct packet *p, u32 tag,
                                            struct counters *counters)
{
    if (datagram->tag != tag)
        return NO_COPY;
    if (!datagram->left) {
        skip_part(counters);
        return NO_COPY;
    }
    p->event.flow_hash = datagram->flow_hash;
    p->event.src_port = datagram->src_port;
    p->event.dst_port = datagram->dst_port;
    datagram->left--;
    if (!(p->fragment & FRAGMENT_MORE))
        datagram->left = datagram->tag = 0;
    return FRAGMENT;
}

#endif
#endif
