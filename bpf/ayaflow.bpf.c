/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Counts every packet that passes an interface and sends one event for each IP packet; where there is no room, or when it
 * is told so, it adds the packet to a flow's sums instead. Two programs, for ingress and egress: what is attached to an
 * interface is a few instructions that say which one it is and go on in one of these (producer/interfaces/entry.py). Both
 * always return TC_ACT_UNSPEC, which TCX calls TCX_NEXT, so that traffic and other programs go on as without us.
 *
 * Compiled by bcc with -DRING_PAGES=n, -DFLOW_ENTRIES=n, -DDECAPSULATE=mask, -DINSPECT=octets (see event.h), with the
 * latter -DCOPY_PAGES=n, and -I of this folder; or beforehand by clang with -DOBJECT (see object.h), for any of these
 * numbers. producer/kernel/load/ does either. */
#include "object.h"

#include "event.h"
#include "hash.h"
#include "inspect.h"
#include "parse.h"
#include "tunnel.h"

#define MORE_BYTES 128 /* made linear behind what was read, when a header is not */
#define VLAN_TAG_BYTES 4

#ifdef REPLAY
#include "replay.h"
#else
#define WIRE_BYTES(skb) ((skb)->len)
#define CAME_BY(skb) ((skb)->ingress_ifindex)
#define IS_SECONDARY(skb) 0
#define SLOT(skb) entered_by()
#define IS_ALIVE(settings, now) ((now) < (settings)->alive_until_ns)

/* The slot of the interface, as its entry program said on this CPU just before: nothing that passes a hook comes between
 * the two. In the skb there is no room that is not somebody's. */
BPF_PERCPU_ARRAY(entered, u32, 1);
BPF_PROG_ARRAY(programs, 2); /* by direction: where entry programs go on */

static __always_inline u32 entered_by(void)
{
    int zero = 0;
    u32 *slot = entered.lookup(&zero);
    return slot ? *slot : MAX_INTERFACES;
}
#endif

BPF_RINGBUF_OUTPUT(events, RING_PAGES);

/* The open epoch's counters are one of two per-CPU arrays. To close an epoch user space puts the other into `open_epoch`;
 * that system call returns when no program still runs that has seen the old one, which can then be read at leisure. */
BPF_PERCPU_ARRAY(counters_a, struct counters, MAX_INTERFACES * 4);
BPF_PERCPU_ARRAY(counters_b, struct counters, MAX_INTERFACES * 4);
BPF_ARRAY_OF_MAPS(open_epoch, "counters_a", 1);

BPF_ARRAY(interfaces, struct interface, MAX_INTERFACES); /* by slot */
BPF_TABLE("hash", struct watched, u8, watched, MAX_INTERFACES);
BPF_F_TABLE("array", int, struct config, config, 1, BPF_F_MMAPABLE);

/* For user space alone: they are here so that they live, pinned, as long as the ring does. */
BPF_F_TABLE("array", int, struct state, state, 1, BPF_F_MMAPABLE);

/* What the headers say. The verifier knows nothing of what is read from a map, so it need not follow what comes behind a
 * header anew for each way that leads there: on the stack these were 300,000 instructions to it, here they are 11,000. */
BPF_PERCPU_ARRAY(parsed, struct packet, 1);

static __always_inline void fill(struct event *event, const struct packet *p)
{
    event->packet = p->event;
#if DECAPSULATE
    event->tunnel = p->tunnel;
#endif
}

#include "coalesce.h"

#ifndef REPLAY
BPF_TABLE("hash", struct coalesced_key, struct coalesced, flows_a, FLOW_ENTRIES); /* of odd epochs */
BPF_TABLE("hash", struct coalesced_key, struct coalesced, flows_b, FLOW_ENTRIES);
BPF_ARRAY_OF_MAPS(flow_tables, "flows_a", 2); /* by the epoch's lowest bit */
BPF_PERCPU_ARRAY(fresh_flow, struct coalesced, 1);
#endif

/* Returns whether the packet is in its flow's sums. */
static __always_inline int add_up(const struct packet *p, const struct config *settings)
{
#ifndef REPLAY
    int zero = 0, odd = p->event.epoch & 1;
    void *table = flow_tables.lookup(&odd);
    struct coalesced *fresh = fresh_flow.lookup(&zero);
    return table && fresh && coalesce(table, fresh, p, settings);
#else
    return 0;
#endif
}

static __always_inline u64 flow_hash(const struct packet *p, u32 passage, const u64 *key)
{
    const struct packet_event *event = &p->event;
    struct hash_state h;
    hash_begin(&h, key);
    hash_word(&h, (u64)event->slot << 32 | (u32)event->vlan_id << 16 | (u32)event->protocol << 8 | TUNNEL_TYPE(p) << 3
                      | p->ipv6 << 2 | passage);
    hash_word(&h, (u64)event->src_port << 16 | event->dst_port);
    if (p->ipv6) {
        hash_word(&h, event->src[0]);
        hash_word(&h, event->src[1]);
        hash_word(&h, event->dst[0]);
        hash_word(&h, event->dst[1]);
    } else {
        hash_word(&h, (event->src[1] & 0xffffffff00000000ULL) | event->dst[1] >> 32);
    }
    hash_tunnel(&h, p);
    return hash_end(&h);
}

#if INSPECT
BPF_RINGBUF_OUTPUT(copies, COPY_PAGES);
BPF_ARRAY(hellos, struct hello, HELLOS);          /* by the flow's hash; a new one takes another's place */
BPF_ARRAY(datagrams, struct datagram, DATAGRAMS); /* likewise, by datagram_hash */
BPF_ARRAY(budget, struct budget, 1);

/* `most` is known when it is compiled: so the verifier knows how much is reserved. Nothing is discarded: the two ways to
 * end a reservation became one indirect call, which is refused. */
static __always_inline int copy_sized(struct __sk_buff *skb, const struct packet *p, const struct cut *cut, u32 bytes,
                                      u32 epoch, const u32 most)
{
    struct copy *copy = copies.ringbuf_reserve(sizeof(struct copy) + most);
    if (!copy)
        return 0;
    fill_copy(copy, p, cut, bytes, epoch);
    if (load_octets(skb, cut->offset, copy + 1, bytes, most))
        copy->copied = 0;
    copies.ringbuf_submit(copy, BPF_RB_NO_WAKEUP);
    return 1;
}

static __always_inline void copy_payload(struct __sk_buff *skb, const struct packet *p, const struct cut *cut,
                                         struct counters *counters, const struct config *settings)
{
    int zero = 0, copied;
    u32 bytes = skb->len - cut->offset,
        epoch = counters->epoch; /* of a capture less may be there than was on the wire */
    struct budget *spent = budget.lookup(&zero);
    if (bytes > cut->payload)
        bytes = cut->payload;
    if (bytes > COPIED_BYTES)
        bytes = COPIED_BYTES;
    counters->inspected_packets++;
    if (!spent || !spend(spent, p->event.ktime_ns, settings->copies)) {
        counters->skipped_over_budget_packets++;
        return;
    }
    /* a question, an answer, a hello, a large one, QUIC's Initials, what Ethernet carries: less room is fewer pages, too */
    if (bytes <= 128)
        copied = copy_sized(skb, p, cut, bytes, epoch, 128);
    else if (bytes <= 320)
        copied = copy_sized(skb, p, cut, bytes, epoch, 320);
    else if (bytes <= 640)
        copied = copy_sized(skb, p, cut, bytes, epoch, 640);
    else if (bytes <= 1024)
        copied = copy_sized(skb, p, cut, bytes, epoch, 1024);
    else if (bytes <= 1280)
        copied = copy_sized(skb, p, cut, bytes, epoch, 1280);
    else if (bytes <= 1472)
        copied = copy_sized(skb, p, cut, bytes, epoch, 1472);
    else
        copied = copy_sized(skb, p, cut, bytes, epoch, INSPECT);
    if (copied)
        counters->copied_packets++;
    else
        counters->skipped_ring_full_packets++;
}

/* Also of the segments of a hello behind the first one. */
static __always_inline u32 segment_kind(struct __sk_buff *skb, const struct packet *p, struct cut *cut,
                                        struct counters *counters)
{
    union peek first = {};
    u64 flow = p->event.flow_hash;
    u32 place = flow & (HELLOS - 1), begins = !!(p->event.tcp_flags & TCP_SYN);
    if (!begins && !cut->payload)
        return NO_COPY;
    cut->seq = bpf_ntohl(p->seq) + begins;
    if (p->event.src_port == PORT_DNS || p->event.dst_port == PORT_DNS)
        return cut->payload ? TCP_DNS : NO_COPY;
    struct hello *hello = hellos.lookup(&place);
    if (!hello)
        return NO_COPY;
    if (begins)
        begin_connection(hello, flow, cut->seq, p->event.tcp_flags & TCP_ACK ? 0 : MOST_SEGMENTS, counters);
    if (!cut->payload || is_far_behind(hello, flow, cut->seq) || peek_at(skb, cut, &first))
        return NO_COPY;
    u32 kind = tcp_kind(&first, cut->payload);
    if (kind == TLS)
        begin_hello(hello, &first, flow, cut->seq, cut->payload, counters);
    else if (more_of_hello(hello, &first, flow, cut->seq, cut->payload, counters))
        return CONTINUATION;
    else
        looked_at(hello, flow, cut->seq, kind, p->event.ktime_ns);
    return kind;
}

static __always_inline u32 datagram_kind(struct __sk_buff *skb, const struct packet *p, const struct cut *cut)
{
    union peek first = {};
    if (!cut->payload || peek_at(skb, cut, &first))
        return NO_COPY;
    return udp_kind(&first, cut->payload, p->event.src_port, p->event.dst_port);
}

/* Fragments are copied from behind the IP header on, and put together in user space. */
static __always_inline u32 fragment_kind(struct packet *p, struct cut *cut, struct counters *counters,
                                         const struct config *settings)
{
    u64 hash = datagram_hash(p, settings->hash_key);
    u32 place = hash & (DATAGRAMS - 1), tag = hash >> 32 | 1;
    struct datagram *datagram = datagrams.lookup(&place);
    if (!datagram)
        return NO_COPY;
    cut->seq = p->identity;
    if (p->fragment & FRAGMENT_OFFSET) {
        cut->payload = p->room;
        return more_of_datagram(datagram, p, tag, counters);
    }
    cut->offset -= p->layer4;
    cut->payload += p->layer4;
    begin_datagram(datagram, p, tag, counters);
    return FRAGMENT;
}

static __always_inline void inspect(struct __sk_buff *skb, struct packet *p, struct counters *counters,
                                    const struct config *settings)
{
    struct cut cut = {.offset = p->offset, .payload = payload_of(p, skb->len)};
    if (p->event.protocol == IPPROTO_TCP)
        cut.kind = segment_kind(skb, p, &cut, counters);
    else if (p->event.protocol == IPPROTO_UDP)
        cut.kind = datagram_kind(skb, p, &cut);
    if (p->fragment && (cut.kind || p->fragment & FRAGMENT_OFFSET))
        cut.kind = fragment_kind(p, &cut, counters, settings);
    if (cut.kind && cut.payload && skb->len > cut.offset)
        copy_payload(skb, p, &cut, counters, settings);
}
#endif

/* Whether another watched interface of the node counts the packet. */
static __always_inline u32 is_secondary(struct __sk_buff *skb, const struct interface *interface, u32 direction)
{
    struct watched from = {.namespace = interface->namespace, .ifindex = CAME_BY(skb)};
    if (IS_SECONDARY(skb) || interface->flags & ELSEWHERE << direction)
        return 1;
    return direction == EGRESS && from.ifindex && watched.lookup(&from) ? 1 : 0;
}

/* Parses what is linear; when a header is not, makes it linear and parses again, once. */
static __always_inline int parse(struct __sk_buff *skb, u32 flags, struct packet *p)
{
    int result = MALFORMED;

#pragma nounroll
    for (int attempt = 0; attempt < 2; attempt++) {
        result = parse_linear(skb, p, !(flags & NO_ETHERNET));
        if (result != SHORT && result != SHORT_LAYER4)
            return result;
        u32 bytes = p->offset + MORE_BYTES;
        if (bytes > skb->len)
            bytes = skb->len;
        if (bpf_skb_pull_data(skb, bytes))
            break;
    }
    return result == SHORT ? MALFORMED : PARSED;
}

static __always_inline int capture(struct __sk_buff *skb, u32 direction, u64 ktime_ns)
{
    u32 slot = SLOT(skb);
    int zero = 0;
    struct interface *interface = interfaces.lookup(&slot);
    struct config *settings = config.lookup(&zero);
    void *epoch = open_epoch.lookup(&zero);
    if (!interface || !(interface->flags & WATCHED) || !settings || !epoch) /* not set up, or given up */
        return TC_ACT_UNSPEC;
    if (!IS_ALIVE(settings, ktime_ns))
        return TC_ACT_UNSPEC;
    u32 secondary = is_secondary(skb, interface, direction);
    u32 key = secondary * (2 * MAX_INTERFACES) + slot * 2 + direction;
    struct counters *counters = bpf_map_lookup_elem(epoch, &key);
    if (!counters)
        return TC_ACT_UNSPEC;

    struct packet *p = parsed.lookup(&zero);
    if (!p)
        return TC_ACT_UNSPEC;
    __builtin_memset(p, 0, sizeof(*p));
    int result = interface->flags & UNKNOWN_LINK ? UNREAD : parse(skb, interface->flags, p);
    if (result == PARSED)
        decapsulate(skb, p);

    /* What the wire carries. wire_len knows GSO only on egress and lacks the link header on ingress, so it is worked out
     * here; gso_segs is 0 in super-packets from a hypervisor or an AF_PACKET socket. */
    u64 packets = 1;
    u32 segment_wire = 0;
    u64 bytes = WIRE_BYTES(skb);
    u32 tag_bytes = skb->vlan_present ? VLAN_TAG_BYTES : 0;
    u32 segment_bytes = skb->gso_size;
    if (segment_bytes) {
        packets = skb->gso_segs;
        if (result == PARSED) {
            if (!packets && bytes > p->offset)
                packets = (bytes - p->offset + segment_bytes - 1) / segment_bytes;
            if (packets > 1) {
                bytes += (packets - 1) * p->offset;
                segment_wire = segment_bytes + p->offset + tag_bytes;
                if (segment_wire > 0xffff)
                    segment_wire = 0xffff;
            }
        } /* else nobody knows where its headers end: the bytes stay the super-packet's */
        if (!packets)
            packets = 1;
    }
    bytes += packets * tag_bytes;

    counters->seen_packets += packets;
    counters->seen_bytes += bytes;
    if (result != PARSED) {
        if (result == NON_IP) {
            counters->non_ip_packets += packets;
            counters->non_ip_bytes += bytes;
        } else if (result == UNREAD) {
            counters->unknown_link_packets += packets;
            counters->unknown_link_bytes += bytes;
        } else {
            counters->malformed_packets += packets;
            counters->malformed_bytes += bytes;
        }
        return TC_ACT_UNSPEC;
    }
    struct event *room = settings->coalesce ? 0 : events.ringbuf_reserve(sizeof(*room));
    p->event.ktime_ns = ktime_ns;
    p->event.packets = packets;
    p->event.bytes = bytes;
    p->event.segment_bytes = segment_wire;
    p->event.slot = slot;
    p->event.direction = direction;
    p->event.flags = secondary ? SECONDARY : 0;
    p->event.epoch = counters->epoch;
    p->event.flow_hash = flow_hash(p, direction << 1 | secondary, settings->hash_key);
    if (room) {
        counters->emitted_packets += packets;
        counters->emitted_bytes += bytes;
        fill(room, p);
        events.ringbuf_submit(room, BPF_RB_NO_WAKEUP); /* the producer polls: a wake-up costs more than a packet */
    } else if (add_up(p, settings)) {
        counters->coalesced_packets += packets;
        counters->coalesced_bytes += bytes;
    } else {
        counters->ring_full_packets += packets;
        counters->ring_full_bytes += bytes;
    }
#if INSPECT
    if (!secondary) /* else another one copies it */
        inspect(skb, p, counters, settings);
#endif
    return TC_ACT_UNSPEC;
}

PROGRAM int ayaflow_ingress(struct __sk_buff *skb)
{
    return capture(skb, INGRESS, bpf_ktime_get_ns());
}

PROGRAM int ayaflow_egress(struct __sk_buff *skb)
{
    return capture(skb, EGRESS, bpf_ktime_get_ns());
}

#ifdef REPLAY
PROGRAM int ayaflow_replay(struct __sk_buff *skb)
{
    int zero = 0;
    struct replay_state *state = replay_state.lookup(&zero);
    struct replay_block *block = replay_block.lookup(&zero);
    if (!state || !block)
        return TC_ACT_UNSPEC;
    u32 number = state->next++;
    struct replay_frame *frame = replay_frames.lookup(&number);
    if (!frame)
        return TC_ACT_UNSPEC;
    u32 offset = frame->offset;
    u32 captured = (frame->last & REPLAY_FRAME_MASK) + 1; /* a range check of its own did not survive the compiler */
    if (offset > REPLAY_BLOCK_BYTES - REPLAY_FRAME_MASK - 1 || bpf_skb_change_tail(skb, captured, 0)
        || bpf_skb_store_bytes(skb, 0, block->octets + offset, captured, 0)) {
        state->refused++;
        return TC_ACT_UNSPEC;
    }
    skb->cb[0] = frame->bytes;
    skb->cb[1] = frame->slot;
    skb->cb[2] = frame->secondary;
    return capture(skb, frame->direction, frame->time_ns);
}
#endif
