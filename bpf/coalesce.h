/* Packets without an event of their own: added up by flow, in a hash table of the open epoch. User space reads and clears
 * the table of an epoch that is closed, when nothing writes to it any more (docs/decisions/0006). */
#ifndef AYAFLOW_COALESCE_H
#define AYAFLOW_COALESCE_H

#define NANOSECONDS 1000000000ULL
#define TCP_SYN 0x02
#define TCP_ACK 0x10

/* The packets of a super-packet have one length but for the last; where that cannot be, they are taken to be equal. */
static __always_inline void packet_sizes(const struct seen *seen, u32 *smallest, u32 *largest)
{
    *smallest = *largest = seen->bytes;
    if (seen->packets < 2)
        return;
    u64 others = (seen->packets - 1) * seen->segment_bytes;
    u64 last = seen->bytes - others;
    if (seen->segment_bytes && others < seen->bytes) {
        *smallest = last < seen->segment_bytes ? last : seen->segment_bytes;
        *largest = last > seen->segment_bytes ? last : seen->segment_bytes;
    } else {
        *smallest = seen->bytes / seen->packets;
        *largest = (seen->bytes + seen->packets - 1) / seen->packets;
    }
}

/* Adds the packet to its flow's entry in `table`. `fresh` is room for a new entry, for which the stack is too small.
 * Returns whether there was room in the table. */
static __always_inline int coalesce(void *table, struct coalesced *fresh, const struct seen *seen,
                                    const struct packet *p, const struct config *settings)
{
    struct coalesced_key key = {
        .flow_hash = seen->flow_hash,
        .second = (seen->ktime_ns + settings->wall_offset_ns) / NANOSECONDS,
        .cpu = bpf_get_smp_processor_id(),
    };
    u32 smallest, largest;
    u16 tcp_flags = p->tcp_flags;

    if ((tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
        tcp_flags |= BARE_SYN;
    packet_sizes(seen, &smallest, &largest);
    struct coalesced *flow = bpf_map_lookup_elem(table, &key);
    if (flow) {
        flow->last_ktime_ns = seen->ktime_ns;
        flow->packets += seen->packets;
        flow->bytes += seen->bytes;
        flow->tcp_flags |= tcp_flags;
        if (smallest < flow->min_packet_bytes)
            flow->min_packet_bytes = smallest;
        if (largest > flow->max_packet_bytes)
            flow->max_packet_bytes = largest;
        if (p->ttl < flow->min_ttl)
            flow->min_ttl = p->ttl;
        if (p->ttl > flow->max_ttl)
            flow->max_ttl = p->ttl;
        return 1;
    }
    fresh->last_ktime_ns = seen->ktime_ns;
    fresh->packets = seen->packets;
    fresh->bytes = seen->bytes;
    fresh->min_packet_bytes = smallest;
    fresh->max_packet_bytes = largest;
    fresh->tcp_flags = tcp_flags;
    fresh->min_ttl = fresh->max_ttl = p->ttl;
    fill(&fresh->first, seen, p);
    return !bpf_map_update_elem(table, &key, fresh, BPF_NOEXIST);
}

#endif
