/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What the program hands to user space. producer/kernel/abi.py reads these bytes; tests/unit/producer/kernel/test_abi.py
 * holds it to this file. Numbers are in host byte order, widths are fixed and nothing is padded by the compiler. */
#ifndef AYAFLOW_EVENT_H
#define AYAFLOW_EVENT_H

#define INGRESS 0
#define EGRESS 1

/* One packet, or one GSO/GRO super-packet: 72 bytes, 80 with the ring's own header. */
struct packet_event {
    u64 ktime_ns;  /* CLOCK_MONOTONIC, when the hook saw it */
    u64 flow_hash; /* of all that makes the flow: see hash.h */
    u64 src[2];    /* 16 octets in network order; IPv4 as ::ffff:a.b.c.d */
    u64 dst[2];
    u32 bytes;         /* on the wire, layer 2 without FCS, of all its packets */
    u16 slot;          /* of the interface: see struct interface */
    u16 segment_bytes; /* of a super-packet: length of each of its packets but the last, at most 65535; else 0 */
    u16 packets;       /* on the wire */
    u16 src_port;      /* ICMP, ICMPv6: the type, or NO_ICMP_TYPE */
    u16 dst_port;      /* ICMP, ICMPv6: the code, or 0 */
    u16 vlan_id;       /* outer tag, 0: none */
    u16 tcp_flags;     /* bit 0 FIN ... bit 7 CWR, bit 8 AE */
    u8 protocol;       /* IANA number */
    u8 direction;      /* INGRESS, EGRESS */
    u8 ttl;            /* or hop limit */
    u8 tos;            /* or traffic class: DSCP and ECN */
    u8 epoch;          /* low bits of the epoch that counted it */
    u8 flags;          /* SECONDARY */
};
#define NO_ICMP_TYPE 0xffffu /* of fragments other than the first, and of what is cut before its code */
#define SECONDARY 1u         /* passed, or will pass, another watched interface of the node, which counts it */

/* -DDECAPSULATE=mask: the tunnels that are opened, 1 << enum tunnel_type each. With any, a packet is that in the tunnel,
 * and a `struct tunnel` follows its event: 112 bytes, 120 with the ring's header. */
#ifndef DECAPSULATE
#define DECAPSULATE 0
#endif

enum tunnel_type { NO_TUNNEL, VXLAN, GENEVE, GRE, IPIP, GTPU };

struct tunnel {
    u64 outer_src[2]; /* as src and dst of the packet; 0 without a tunnel */
    u64 outer_dst[2];
    u32 tunnel_id; /* VNI, GRE key, TEID; 0 without one */
    u8 tunnel_type;
    u8 padding[3];
};

/* What lies in the ring. */
struct event {
    struct packet_event packet;
#if DECAPSULATE
    struct tunnel tunnel;
#endif
};

/* -DINSPECT=octets: of packets that may carry a name (inspect.h says which) so much payload at most is copied into a ring
 * of its own, behind a head of 72 bytes. 0: nothing is looked at. */
#ifndef INSPECT
#define INSPECT 0
#endif

enum copy_kind { NO_COPY, DNS, TLS, QUIC, HTTP, CONTINUATION, FRAGMENT, TCP_DNS };

struct copy {
    u64 ktime_ns;  /* as in the packet's event, like all that has the same name */
    u64 flow_hash; /* of a fragment: that of its datagram, as are the ports */
    u64 src[2];
    u64 dst[2];
    u32 seq;   /* TCP: the sequence number of the first octet; of a fragment the identification of its datagram */
    u32 epoch; /* that counted it */
    u16 src_port;
    u16 dst_port;
    u16 payload_bytes; /* by the IP header, at most 65535: behind the layer-4 header, of a fragment behind the IP header */
    u16 copied;        /* of these, what follows */
    u16 slot;          /* of the interface */
    u16 fragment_offset; /* octets; 0 of what is no fragment */
    u8 protocol;
    u8 kind; /* enum copy_kind */
    u8 direction;
    u8 flags; /* MORE_FRAGMENTS */
};
#define MORE_FRAGMENTS 2u /* a fragment, and not the last one */

/* What one CPU counted in one epoch on one interface in one direction, of packets with the same SECONDARY; at
 * secondary * 2 * MAX_INTERFACES + slot * 2 + direction. seen = the sum of the outcomes. */
struct counters {
    u64 epoch; /* set by user space before the epoch opens */
    u64 seen_packets, seen_bytes;
    u64 emitted_packets, emitted_bytes;     /* into the ring */
    u64 coalesced_packets, coalesced_bytes; /* into the flow table */
    u64 non_ip_packets, non_ip_bytes;
    u64 malformed_packets, malformed_bytes;
    u64 unknown_link_packets, unknown_link_bytes; /* of a device whose header we do not know: not parsed */
    u64 ring_full_packets, ring_full_bytes;       /* no room in either: dropped */
#if INSPECT
    /* Of packets that may carry a name, a super-packet being one: inspected = the sum of the others. */
    u64 inspected_packets;
    u64 copied_packets;
    u64 skipped_ring_full_packets;   /* no room in the ring of copies */
    u64 skipped_over_budget_packets; /* more of them than a producer wants to read */
    u64 skipped_table_full_packets;  /* parts of a hello or datagram of which we do not remember the rest any more */
#endif
};

/* Packets of one flow that were added up instead of becoming an event each: those of one epoch and one second of the wall
 * clock, so that an entry never spans two windows. Programs on several CPUs may add to it at once. */
struct coalesced_key {
    u64 flow_hash;
    u32 second;
    u32 unused;
};
union packet_sizes {
    struct {
        u32 smallest, largest;
    };
    u64 word;
};
union packet_marks {
    struct {
        u16 tcp_flags; /* of all, and BARE_SYN */
        u8 min_ttl, max_ttl;
        u32 unused;
    };
    u64 word;
};
struct coalesced {
    struct event first; /* of the flow's first packet; its bytes, packets and segment_bytes are those of that one */
    u64 last_ktime_ns;
    u64 packets, bytes;
    union packet_sizes sizes;
    union packet_marks marks;
};
#define BARE_SYN 0x8000u /* a SYN without ACK was among them */

/* What user space says about an interface, by its slot: the number that its entry programs were made with. An ifindex
 * would not do: each network namespace has its own. */
struct interface {
    u32 flags;
    u32 namespace;  /* a number of ours */
    char name[120]; /* for the producer that comes after this one */
};
#define MAX_INTERFACES 512
#define WATCHED 1u
#define NO_ETHERNET 2u   /* frames begin with the IP header: see producer/interfaces/link_types.py */
#define ELSEWHERE 4u     /* shifted by the direction: all that passes in it is SECONDARY */
#define UNKNOWN_LINK 16u /* what stands before the IP header is not known */

/* Key of `watched`: the interfaces whose ingress is watched. A packet that leaves and has come in by one of them (the
 * kernel remembers by which) was counted there. */
struct watched {
    u32 namespace, ifindex;
};

struct config {
    u64 hash_key[2];    /* random for each run, so that nobody can craft two flows with one hash */
    u64 alive_until_ns; /* CLOCK_MONOTONIC; then the program does nothing, until a producer says otherwise */
    u64 wall_offset_ns; /* from CLOCK_MONOTONIC to the wall clock */
    u64 coalesce;       /* not 0: the producer would not keep up with an event a packet */
    u64 copies;         /* at most so many in BUDGET_NS, by all CPUs together */
};
#define BUDGET_NS 0x10000000u /* a quarter of a second or so: a power of two */

/* What a producer leaves to the one that comes after it (producer/kernel/run_state.py): nothing here reads it. */
struct state {
    u8 octets[8192];
};

#endif
