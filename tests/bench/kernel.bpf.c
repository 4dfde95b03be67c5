/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Behind bpf/ayaflow.bpf.c, in one text. TEST_RUN with `repeat` shows a program the same frame again and again: these give
 * each run another flow first, taking turns among bench.flows, so that flows cost what they cost. */
struct bench_state {
    u64 next, flows;
};
BPF_PROG_ARRAY(bench_programs, 2); /* instead of `programs`: bench_ingress and bench_egress */
BPF_PERCPU_ARRAY(bench, struct bench_state, 1);

/* An Ethernet, IPv4 (no options) and UDP header: the source port and the last half of the source address are the flow's. */
static __always_inline void next_flow(struct __sk_buff *skb)
{
    int zero = 0;
    struct bench_state *state = bench.lookup(&zero);
    u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    if (!state || data + 42 > end)
        return;
    u64 number = state->next++;
    if (state->next >= state->flows)
        state->next = 0;
    *(u16 *)(data + 34) = number;
    *(u16 *)(data + 28) = number >> 16;
}

int bench_nothing(struct __sk_buff *skb)
{
    return TC_ACT_UNSPEC;
}

int bench_empty(struct __sk_buff *skb)
{
    next_flow(skb);
    return TC_ACT_UNSPEC;
}

int bench_ingress(struct __sk_buff *skb)
{
    next_flow(skb);
    return capture(skb, INGRESS, bpf_ktime_get_ns());
}

int bench_egress(struct __sk_buff *skb)
{
    next_flow(skb);
    return capture(skb, EGRESS, bpf_ktime_get_ns());
}
