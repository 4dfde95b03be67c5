/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Opens a tunnel, on request (-DDECAPSULATE=mask): the packet becomes the one inside, with the tunnel beside it.
 *
 * Conventions:
 * - One level: a tunnel in a tunnel is the packet that the first one carries.
 * - Whatever is inside and cannot be read up to the end of its IP headers, the packet stays the outer one.
 * - Nothing is read that lies behind the outer IP header's own length.
 * - A UDP tunnel is known by its destination port: to it both ends send.
 * - Tags of an inner Ethernet frame are skipped; vlan_id stays that of the frame on the wire.
 *
 * All is read by bpf_skb_load_bytes, for the reason that parse.h gives. */
#ifndef AYAFLOW_TUNNEL_H
#define AYAFLOW_TUNNEL_H

#include "hash.h"
#include "parse.h"

#if DECAPSULATE
#define TUNNEL_TYPE(p) ((p)->tunnel.tunnel_type)
#define OPENS(type) (OPENED_TUNNELS & 1 << (type))

#define UDP_HEADER 8
#define VXLAN_PORT 4789
#define VXLAN_PORT_LINUX 8472 /* the default of Linux's own devices */
#define GENEVE_PORT 6081
#define GTPU_PORT 2152
#define VXLAN_HAS_VNI 0x08
#define GENEVE_OPTIONS 0x3f /* of the first octet: length in 4 octets; above it the version, 0 */
#define GENEVE_CONTROL 0x80 /* what the ends of the tunnel say to each other */
#define GRE_CHECKSUM 0x8000
#define GRE_KEY 0x2000
#define GRE_SEQUENCE 0x1000
#define GRE_UNKNOWN 0x4fff /* routing, recursion, version (1: PPTP): such packets are not opened */
#define GTPU_VERSION 0xf0  /* version and protocol type, which must be ... */
#define GTPU_VERSION_1 0x30
#define GTPU_OPTIONAL 0x07 /* extension, sequence number, N-PDU number: with any, four octets for all */
#define GTPU_EXTENSION 0x04
#define GTPU_GPDU 0xff
#define MAX_GTPU_EXTENSIONS 4
#define ETHERTYPE_BRIDGED 0x6558

struct vxlan {
    u8 flags, reserved[3];
    __be32 vni; /* in the upper 24 bits */
};
struct geneve {
    u8 version_length, flags;
    __be16 ethertype;
    __be32 vni;
};
struct gre {
    __be16 flags, ethertype;
};
struct gtpu {
    u8 flags, type;
    __be16 length;
    __be32 teid;
};
struct gtpu_optional {
    __be16 sequence;
    u8 n_pdu, next;
};

static __always_inline int parse_vxlan(struct __sk_buff *skb, struct packet *inner)
{
    struct vxlan header;
    if (bpf_skb_load_bytes(skb, inner->offset, &header, sizeof(header)) || !(header.flags & VXLAN_HAS_VNI))
        return 0;
    inner->offset += sizeof(header);
    inner->tunnel.tunnel_type = VXLAN;
    inner->tunnel.tunnel_id = bpf_ntohl(header.vni) >> 8;
    return ETHERTYPE_BRIDGED;
}

static __always_inline int parse_geneve(struct __sk_buff *skb, struct packet *inner)
{
    struct geneve header;
    if (bpf_skb_load_bytes(skb, inner->offset, &header, sizeof(header)) || header.version_length & ~GENEVE_OPTIONS
        || header.flags & GENEVE_CONTROL)
        return 0;
    inner->offset += sizeof(header) + (header.version_length & GENEVE_OPTIONS) * 4;
    inner->tunnel.tunnel_type = GENEVE;
    inner->tunnel.tunnel_id = bpf_ntohl(header.vni) >> 8;
    return bpf_ntohs(header.ethertype);
}

static __always_inline int parse_gre(struct __sk_buff *skb, struct packet *inner)
{
    struct gre header;
    if (bpf_skb_load_bytes(skb, inner->offset, &header, sizeof(header)))
        return 0;
    u16 flags = bpf_ntohs(header.flags);
    if (flags & GRE_UNKNOWN)
        return 0;
    inner->offset += sizeof(header);
    if (flags & GRE_CHECKSUM)
        inner->offset += 4;
    if (flags & GRE_KEY) {
        __be32 key;
        if (bpf_skb_load_bytes(skb, inner->offset, &key, sizeof(key)))
            return 0;
        inner->offset += sizeof(key);
        inner->tunnel.tunnel_id = bpf_ntohl(key);
    }
    if (flags & GRE_SEQUENCE)
        inner->offset += 4;
    inner->tunnel.tunnel_type = GRE;
    return bpf_ntohs(header.ethertype);
}

static __always_inline int parse_gtpu(struct __sk_buff *skb, struct packet *inner)
{
    struct gtpu header;
    if (bpf_skb_load_bytes(skb, inner->offset, &header, sizeof(header))
        || (header.flags & GTPU_VERSION) != GTPU_VERSION_1 || header.type != GTPU_GPDU)
        return 0;
    inner->offset += sizeof(header);
    if (header.flags & GTPU_OPTIONAL) {
        struct gtpu_optional optional;
        if (bpf_skb_load_bytes(skb, inner->offset, &optional, sizeof(optional)))
            return 0;
        inner->offset += sizeof(optional);
        u8 next = header.flags & GTPU_EXTENSION ? optional.next : 0;
#pragma nounroll
        for (int i = 0; i < MAX_GTPU_EXTENSIONS && next; i++) {
            u8 length; /* in 4 octets; the last of them says what follows */
            if (bpf_skb_load_bytes(skb, inner->offset, &length, sizeof(length)) || !length)
                return 0;
            inner->offset += length * 4;
            if (bpf_skb_load_bytes(skb, inner->offset - 1, &next, sizeof(next)))
                return 0;
        }
        if (next)
            return 0;
    }
    inner->tunnel.tunnel_type = GTPU;
    inner->tunnel.tunnel_id = bpf_ntohl(header.teid);
    return ethertype_by_version(skb, inner->offset);
}

/* Moves inner->offset behind the tunnel's header and fills in inner->tunnel. Returns the EtherType of what follows;
 * 0 or less: nothing that we are to open, or can. */
static __always_inline int parse_tunnel(struct __sk_buff *skb, const struct packet *outer, struct packet *inner)
{
    u8 protocol = outer->event.protocol;
    u16 port = outer->event.dst_port;

    if (OPENS(IPIP) && (protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6)) {
        inner->tunnel.tunnel_type = IPIP;
        return protocol == IPPROTO_IPIP ? ETH_P_IP : ETH_P_IPV6;
    }
    if (OPENS(GRE) && protocol == IPPROTO_GRE)
        return parse_gre(skb, inner);
    if (protocol != IPPROTO_UDP)
        return 0;
    if (OPENS(VXLAN) && (port == VXLAN_PORT || port == VXLAN_PORT_LINUX))
        return parse_vxlan(skb, inner);
    if (OPENS(GENEVE) && port == GENEVE_PORT)
        return parse_geneve(skb, inner);
    if (OPENS(GTPU) && port == GTPU_PORT)
        return parse_gtpu(skb, inner);
    return 0;
}

/* IP headers at p->offset. */
static __always_inline int parse_inner_ip(struct __sk_buff *skb, struct packet *p, int ethertype)
{
    if (ethertype == ETH_P_IP) {
        struct iphdr ip;
        if (bpf_skb_load_bytes(skb, p->offset, &ip, sizeof(ip)) || read_ipv4(&ip, p) != PARSED)
            return MALFORMED;
    } else {
        struct ipv6hdr ip;
        if (bpf_skb_load_bytes(skb, p->offset, &ip, sizeof(ip)) || read_ipv6(&ip, p) != PARSED)
            return MALFORMED;
        if (is_extension(p->event.protocol) && parse_extensions(skb, p) != PARSED)
            return MALFORMED;
    }
    return p->offset > skb->len ? MALFORMED : PARSED;
}

/* As much of the layer-4 header as is there, up to the octet of TCP's flags. */
static __always_inline void parse_inner_layer4(struct __sk_buff *skb, struct packet *p)
{
    u8 header[14] = {};
    u8 *end = header + sizeof(header);
    if (bpf_skb_load_bytes(skb, p->offset, header, 14)) {
        end = header + 4;
        if (bpf_skb_load_bytes(skb, p->offset, header, 4)) {
            end = header + 2;
            if (bpf_skb_load_bytes(skb, p->offset, header, 2))
                end = header;
        }
    }
    parse_layer4(header, end, p);
}

/* The packet in the tunnel takes the place of *p. */
static __always_inline void decapsulate(struct __sk_buff *skb, struct packet *p)
{
    struct packet inner = {.offset = p->offset};
    u32 room = p->room;

    if (!p->has_ports) /* the middle of something */
        return;
    if (p->event.protocol == IPPROTO_UDP) {
        if (room < UDP_HEADER)
            return;
        if (room != ROOM_UNKNOWN)
            room -= UDP_HEADER;
    }
    int ethertype = parse_tunnel(skb, p, &inner);
    if (ethertype == ETHERTYPE_BRIDGED) {
        struct ethhdr ethernet;
        if (bpf_skb_load_bytes(skb, inner.offset, &ethernet, sizeof(ethernet)))
            return;
        inner.offset += sizeof(ethernet);
        ethertype = bpf_ntohs(ethernet.h_proto);
    }
    if (ethertype <= 0)
        return;
    ethertype = parse_shims(skb, &inner, ethertype, 1);
    if (ethertype <= 0 || parse_inner_ip(skb, &inner, ethertype) != PARSED)
        return;

    u32 used = inner.offset - p->offset;
    if (room != ROOM_UNKNOWN) {
        if (used > room)
            return;
        if (inner.room > room - used)
            inner.room = room - used;
    }
    parse_inner_layer4(skb, &inner);
    inner.event.vlan_id = p->event.vlan_id;
    __builtin_memcpy(inner.tunnel.outer_src, p->event.src, sizeof(p->event.src));
    __builtin_memcpy(inner.tunnel.outer_dst, p->event.dst, sizeof(p->event.dst));
    *p = inner;
}

static __always_inline void hash_tunnel(struct hash_state *h, const struct packet *p)
{
    if (!p->tunnel.tunnel_type)
        return;
    hash_word(h, p->tunnel.outer_src[0]);
    hash_word(h, p->tunnel.outer_src[1]);
    hash_word(h, p->tunnel.outer_dst[0]);
    hash_word(h, p->tunnel.outer_dst[1]);
    hash_word(h, p->tunnel.tunnel_id);
}

#else
#define TUNNEL_TYPE(p) 0

static __always_inline void decapsulate(struct __sk_buff *skb, struct packet *p) {}
static __always_inline void hash_tunnel(struct hash_state *h, const struct packet *p) {}
#endif

#endif
