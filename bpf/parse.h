/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* From a frame's first byte to the ports.
 *
 * Conventions (docs/internals has the table):
 * - The key is the outermost IP header's, behind VLAN tags, LLC/SNAP, MPLS labels and PPPoE; tunnel.h opens tunnels on request.
 * - An IP header, or an IPv6 extension header, that the frame does not hold whole, or that cannot be (version, IHL,
 *   a total length below the header's own) makes the packet MALFORMED. Nothing is read beyond it.
 * - A layer-4 header cut short keeps the packet: ports if their 4 octets are there, flags if their octet is, else 0.
 *   What lies behind the IP total length (Ethernet padding) is not the packet's.
 * - A TCP header that says it is shorter than one can be has ports and no flags.
 * - A fragment other than the first has no ports. Where ICMP has no type it says so: 0 would be an Echo Reply.
 *
 * What nearly every packet has is read by pointer. What few have (tags, extension headers) is read by
 * bpf_skb_load_bytes at an offset that is a mere number: as pointers, each combination of them was a path of its own
 * for the verifier, and it gave up at a million instructions. */
#ifndef AYAFLOW_PARSE_H
#define AYAFLOW_PARSE_H

#include "object.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "addresses and keys are put together in that order");

#define MAX_VLAN_TAGS 4   /* in the frame, besides an accelerated one; a frame with more counts as non-IP */
#define MAX_MPLS_LABELS 4 /* likewise */
#define MAX_EXTENSIONS 8  /* IPv6 headers before the upper layer; behind more, protocol is the next one's, no ports */
#define MAX_OFFSET 0x7fff /* no chain of all these is longer; tells the verifier so */
#define ETHERTYPE_QINQ_OLD 0x9100
#define TCP_HEADER 20
#define MPLS_BOTTOM 0x100 /* of a label, host order */
#define LLC_SNAP 0xaaaa
#define PPP_IPV4 0x0021
#define PPP_IPV6 0x0057
#define FRAGMENT_OFFSET 0x1fff /* of IPv4's frag_off */
#define FRAGMENT_MORE 0x2000
#define ROOM_UNKNOWN 0xffffffffu

enum parsed {
    PARSED,       /* all is known */
    SHORT_LAYER4, /* all but the layer-4 fields: they are not in the linear part */
    SHORT,        /* a header is not whole in the linear part */
    NON_IP,
    MALFORMED,
    UNREAD, /* nobody knows where its IP header would be */
};

struct packet {
    struct packet_event event; /* parse.h and tunnel.h write what the headers say; capture() adds the rest */
    u32 offset;    /* of the next header; at the end of the layer-4 payload: what each GSO segment repeats */
    u32 room;      /* octets behind the IP headers by IP's own lengths, or ROOM_UNKNOWN */
    u32 has_ports; /* false in fragments other than the first */
    u32 ipv6;
#if INSPECT
    u32 layer4;   /* octets of the layer-4 header, 0: it is not read to its end */
    __be32 seq;   /* of TCP */
    u32 identity; /* of the datagram that a fragment is of */
    u32 fragment; /* FRAGMENT_OFFSET and FRAGMENT_MORE, as IPv4 has them; 0 of what is no fragment */
#endif
#if DECAPSULATE
    struct tunnel tunnel;
#endif
};

struct vlan_tag {
    __be16 tci;
    __be16 ethertype;
};
struct snap {
    __be16 sap;
    u8 control, oui[3];
    __be16 ethertype;
};
struct pppoe {
    u8 version_type, code;
    __be16 session, length, protocol;
};
struct extension {
    u8 next, length;
    __be16 fragment;
    __be32 identity;
};

static __always_inline int is_vlan(u16 ethertype)
{
    return ethertype == ETH_P_8021Q || ethertype == ETH_P_8021AD || ethertype == ETHERTYPE_QINQ_OLD;
}

/* A link without layer 2 or an MPLS stack says nothing of what follows: the version does. 0: not IP, -1: cut short. */
static __always_inline int ethertype_by_version(struct __sk_buff *skb, u32 offset)
{
    u8 first;
    if (bpf_skb_load_bytes(skb, offset, &first, sizeof(first)))
        return -1;
    return first >> 4 == 4 ? ETH_P_IP : first >> 4 == 6 ? ETH_P_IPV6 : 0;
}

/* Behind the Ethernet header: tags, labels, PPPoE. Returns what ethertype_by_version does. */
static __always_inline int parse_shims(struct __sk_buff *skb, struct packet *p, u16 ethertype, int tagged)
{
#pragma nounroll
    for (int i = 0; i < MAX_VLAN_TAGS; i++) {
        struct vlan_tag tag;
        if (!is_vlan(ethertype))
            break;
        if (bpf_skb_load_bytes(skb, p->offset, &tag, sizeof(tag)))
            return -1;
        if (!tagged)
            p->event.vlan_id = bpf_ntohs(tag.tci) & 0x0fff;
        tagged = 1;
        p->offset += sizeof(tag);
        ethertype = bpf_ntohs(tag.ethertype);
    }
    if (ethertype < ETH_P_802_3_MIN) { /* a length: IEEE 802.3, perhaps with an EtherType behind LLC (RFC 1042) */
        struct snap snap;
        if (bpf_skb_load_bytes(skb, p->offset, &snap, sizeof(snap)) || snap.sap != bpf_htons(LLC_SNAP)
            || snap.control != 3 || snap.oui[0] | snap.oui[1] | snap.oui[2])
            return 0;
        p->offset += sizeof(snap);
        ethertype = bpf_ntohs(snap.ethertype);
    }
    if (ethertype == ETH_P_MPLS_UC || ethertype == ETH_P_MPLS_MC) {
#pragma nounroll
        for (int i = 0; i < MAX_MPLS_LABELS; i++) {
            __be32 label;
            if (bpf_skb_load_bytes(skb, p->offset, &label, sizeof(label)))
                return -1;
            p->offset += sizeof(label);
            if (bpf_ntohl(label) & MPLS_BOTTOM)
                return ethertype_by_version(skb, p->offset);
        }
        return 0;
    }
    if (ethertype == ETH_P_PPP_SES) {
        struct pppoe session;
        if (bpf_skb_load_bytes(skb, p->offset, &session, sizeof(session)))
            return -1;
        p->offset += sizeof(session);
        u16 protocol = bpf_ntohs(session.protocol);
        return protocol == PPP_IPV4 ? ETH_P_IP : protocol == PPP_IPV6 ? ETH_P_IPV6 : 0;
    }
    return ethertype == ETH_P_IP || ethertype == ETH_P_IPV6 ? ethertype : 0;
}

/* What an IPv4 header says; whether its options are there is the caller's to see. */
static __always_inline int read_ipv4(const struct iphdr *ip, struct packet *p)
{
    u32 header = ip->ihl * 4;
    u32 total = bpf_ntohs(ip->tot_len); /* 0 in BIG TCP super-packets */
    if (ip->version != 4 || header < sizeof(*ip) || (total && total < header))
        return MALFORMED;
    p->event.src[0] = p->event.dst[0] = 0;
    p->event.src[1] = (u64)ip->saddr << 32 | bpf_htonl(0xffff);
    p->event.dst[1] = (u64)ip->daddr << 32 | bpf_htonl(0xffff);
    p->event.ttl = ip->ttl;
    p->event.tos = ip->tos;
    p->event.protocol = ip->protocol;
    p->room = total ? total - header : ROOM_UNKNOWN;
    p->has_ports = !(bpf_ntohs(ip->frag_off) & FRAGMENT_OFFSET);
#if INSPECT
    p->fragment = bpf_ntohs(ip->frag_off) & (FRAGMENT_OFFSET | FRAGMENT_MORE);
    p->identity = bpf_ntohs(ip->id);
#endif
    p->offset += header;
    return PARSED;
}

static __always_inline int parse_ipv4(void *at, void *end, struct packet *p)
{
    struct iphdr *ip = at;
    if ((void *)(ip + 1) > end)
        return SHORT;
    if (read_ipv4(ip, p) != PARSED)
        return MALFORMED;
    return at + ip->ihl * 4 > end ? SHORT : PARSED;
}

static __always_inline int is_extension(u8 next)
{
    return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS || next == IPPROTO_FRAGMENT
           || next == IPPROTO_AH;
}

static __always_inline int parse_extensions(struct __sk_buff *skb, struct packet *p)
{
    u8 next = p->event.protocol;
#pragma nounroll
    for (int i = 0; i < MAX_EXTENSIONS; i++) {
        struct extension extension;
        if (!is_extension(next))
            break;
        if (bpf_skb_load_bytes(skb, p->offset, &extension, sizeof(extension)))
            return MALFORMED;
        u32 bytes = (extension.length + 1) * 8;
        if (next == IPPROTO_AH)
            bytes = (extension.length + 2) * 4;
        if (next == IPPROTO_FRAGMENT)
            bytes = 8; /* its second octet is reserved */
        if (bytes < sizeof(extension) || p->room < bytes || p->offset + bytes > skb->len)
            return MALFORMED;
        p->offset += bytes;
        if (p->room != ROOM_UNKNOWN)
            p->room -= bytes;
#if INSPECT
        if (next == IPPROTO_FRAGMENT) {
            u32 fragment = bpf_ntohs(extension.fragment);
            p->fragment = fragment >> 3 | (fragment & 1) * FRAGMENT_MORE;
            p->identity = bpf_ntohl(extension.identity);
        }
#endif
        if (next == IPPROTO_FRAGMENT && (bpf_ntohs(extension.fragment) & 0xfff8)) {
            next = extension.next;
            p->has_ports = 0;
            break; /* what follows is the middle of something */
        }
        next = extension.next;
    }
    p->event.protocol = next;
    return PARSED;
}

static __always_inline int read_ipv6(const struct ipv6hdr *ip, struct packet *p)
{
    if (ip->version != 6)
        return MALFORMED;
    u32 payload = bpf_ntohs(ip->payload_len); /* 0 in jumbograms and BIG TCP super-packets */
    __builtin_memcpy(p->event.src, &ip->saddr, 16);
    __builtin_memcpy(p->event.dst, &ip->daddr, 16);
    p->event.ttl = ip->hop_limit;
    p->event.tos = ip->priority << 4 | ip->flow_lbl[0] >> 4;
    p->ipv6 = 1;
    p->event.protocol = ip->nexthdr;
    p->room = payload ? payload : ROOM_UNKNOWN;
    p->has_ports = 1;
    p->offset += sizeof(*ip);
    return PARSED;
}

static __always_inline int parse_ipv6(void *at, void *end, struct packet *p)
{
    struct ipv6hdr *ip = at;
    return (void *)(ip + 1) > end ? SHORT : read_ipv6(ip, p);
}

/* Ports, or ICMP's type and code in their place, and TCP's flags; what a fragment other than the first has of them. */
static __always_inline int parse_layer4(void *at, void *end, struct packet *p)
{
    u8 *header = at;
    u8 protocol = p->event.protocol;
    if (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6) {
        p->event.src_port = NO_ICMP_TYPE;
        if (!p->has_ports || p->room < 2)
            return PARSED;
        if ((void *)(header + 2) > end)
            return SHORT_LAYER4;
        p->event.src_port = header[0];
        p->event.dst_port = header[1];
        return PARSED;
    }
    if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_UDPLITE && protocol != IPPROTO_SCTP
        && protocol != IPPROTO_DCCP)
        return PARSED;
    if (!p->has_ports || p->room < 4)
        return PARSED;
    if ((void *)(header + 4) > end)
        return SHORT_LAYER4;
    p->event.src_port = header[0] << 8 | header[1];
    p->event.dst_port = header[2] << 8 | header[3];
    if (protocol != IPPROTO_TCP) {
        p->offset += 8;
#if INSPECT
        p->layer4 = 8;
#endif
        return PARSED;
    }
    if (p->room < 14)
        return PARSED;
    if ((void *)(header + 14) > end)
        return SHORT_LAYER4;
    u32 length = header[12] >> 4 << 2;
    if (length < TCP_HEADER) /* not a TCP header: what stands in its place are no flags */
        return PARSED;
    p->event.tcp_flags = (header[12] & 1) << 8 | header[13];
    p->offset += length;
#if INSPECT
    p->layer4 = length;
    __builtin_memcpy(&p->seq, header + 4, sizeof(p->seq)); /* in network order: few want it */
#endif
    return PARSED;
}

static __always_inline int parse_linear(struct __sk_buff *skb, struct packet *p, int has_ethernet)
{
    void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end, *at = data;
    int tagged = skb->vlan_present;
    int ethertype, result;

    p->offset = 0;
    if (tagged)
        p->event.vlan_id = skb->vlan_tci & 0x0fff;
    if (has_ethernet) {
        struct ethhdr *ethernet = data;
        if ((void *)(ethernet + 1) > end)
            return SHORT;
        at = ethernet + 1;
        p->offset = sizeof(*ethernet);
        ethertype = bpf_ntohs(ethernet->h_proto);
        if (ethertype != ETH_P_IP && ethertype != ETH_P_IPV6) {
            ethertype = parse_shims(skb, p, ethertype, tagged);
            at = data + (p->offset & MAX_OFFSET);
        }
    } else {
        ethertype = ethertype_by_version(skb, 0);
    }
    if (ethertype < 0)
        return MALFORMED;
    if (!ethertype)
        return NON_IP;

    if (ethertype == ETH_P_IP) {
        result = parse_ipv4(at, end, p);
    } else {
        result = parse_ipv6(at, end, p);
        if (result == PARSED && is_extension(p->event.protocol))
            result = parse_extensions(skb, p);
    }
    if (result != PARSED)
        return result;
    return parse_layer4(data + (p->offset & MAX_OFFSET), end, p);
}

#endif
