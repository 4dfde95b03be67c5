/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What bcc brings along by itself, for `clang -target bpf` (-DOBJECT): types, helpers, and bcc's words for maps. So one
 * source makes both a program that bcc compiles on the node, and an object that is loaded as it is.
 *
 * In bcc's language a map is a name with functions: `config.lookup(&zero)`. Here that name is a constant structure of
 * them, of which nothing is left when they are inlined; the map itself is a description of 64 octets in the section
 * `maps`, which producer/kernel/load/elf.py reads. All sizes are only proposed here: where `entries` is 0, or a setting,
 * the loader says how many. */
#ifndef AYAFLOW_OBJECT_H
#define AYAFLOW_OBJECT_H

#ifndef OBJECT
/* bcc compiles with the kernel's own headers: of these it wants those for user space */
#include <uapi/linux/bpf.h>
#include <uapi/linux/if_ether.h>
#include <uapi/linux/in.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/ipv6.h>
#include <uapi/linux/pkt_cls.h>
#define PROGRAM
#define OPENED_TUNNELS DECAPSULATE
#define COPIED_BYTES INSPECT
#else
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s8 s8;
typedef __s16 s16;
typedef __s32 s32;
typedef __s64 s64;

#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define PROGRAM __attribute__((section("tc"), used))

#define bpf_htons(x) __builtin_bswap16(x)
#define bpf_ntohs(x) __builtin_bswap16(x)
#define bpf_htonl(x) __builtin_bswap32(x)
#define bpf_ntohl(x) __builtin_bswap32(x)
#define bpf_ntohll(x) __builtin_bswap64(x)

const char compiled_from[] __attribute__((section("stamp"), used)) = STAMP; /* of the sources */

/* Numbers of which only the loader knows the value: it writes them into the instructions before the verifier sees them. */
extern const char opened_tunnels[], copied_bytes[];
#define OPENED_TUNNELS ((u32)(unsigned long)opened_tunnels)
#define COPIED_BYTES ((u32)(unsigned long)copied_bytes)

/* The kernel's helpers, by their numbers in linux/bpf.h */
static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value,
                                         u64 flags) = (void *)BPF_FUNC_map_update_elem;
static u64 (*const bpf_ktime_get_ns)(void) = (void *)BPF_FUNC_ktime_get_ns;
static long (*const bpf_skb_load_bytes)(const void *skb, u32 offset, void *to,
                                        u32 bytes) = (void *)BPF_FUNC_skb_load_bytes;
static long (*const bpf_skb_store_bytes)(struct __sk_buff *skb, u32 offset, const void *from, u32 bytes,
                                         u64 flags) = (void *)BPF_FUNC_skb_store_bytes;
static long (*const bpf_skb_pull_data)(struct __sk_buff *skb, u32 bytes) = (void *)BPF_FUNC_skb_pull_data;
static long (*const bpf_skb_change_tail)(struct __sk_buff *skb, u32 bytes,
                                         u64 flags) = (void *)BPF_FUNC_skb_change_tail;
static void *(*const bpf_ringbuf_reserve)(void *ring, u64 bytes, u64 flags) = (void *)BPF_FUNC_ringbuf_reserve;
static void (*const bpf_ringbuf_submit)(void *data, u64 flags) = (void *)BPF_FUNC_ringbuf_submit;

struct map {
    u32 key_bytes, value_bytes, entries, flags;
    char kind[24];  /* enum bpf_map_type without its prefix, in small letters */
    char inner[24]; /* of an array of maps: one as those in it are to be */
};

#define MAP(KIND, KEY_BYTES, VALUE_BYTES, NAME, ENTRIES, FLAGS, INNER) \
    struct map NAME##_map                                              \
        __attribute__((section("maps"), used)) = {KEY_BYTES, VALUE_BYTES, ENTRIES, FLAGS, KIND, INNER};

#define MAP_WITH_LOOKUP(KIND, KEY, VALUE, NAME, ENTRIES, FLAGS, INNER) \
    MAP(KIND, sizeof(KEY), sizeof(VALUE), NAME, ENTRIES, FLAGS, INNER) \
    static __always_inline VALUE *NAME##_lookup(const KEY *key)        \
    {                                                                  \
        return bpf_map_lookup_elem(&NAME##_map, key);                  \
    }                                                                  \
    static const struct {                                              \
        VALUE *(*lookup)(const KEY *key);                              \
    } NAME = {NAME##_lookup}

#define BPF_F_TABLE(KIND, KEY, VALUE, NAME, ENTRIES, FLAGS) MAP_WITH_LOOKUP(KIND, KEY, VALUE, NAME, ENTRIES, FLAGS, "")
#define BPF_TABLE(KIND, KEY, VALUE, NAME, ENTRIES) BPF_F_TABLE(KIND, KEY, VALUE, NAME, ENTRIES, 0)
#define BPF_ARRAY(NAME, VALUE, ENTRIES) BPF_TABLE("array", int, VALUE, NAME, ENTRIES)
#define BPF_PERCPU_ARRAY(NAME, VALUE, ENTRIES) BPF_TABLE("percpu_array", int, VALUE, NAME, ENTRIES)
#define BPF_ARRAY_OF_MAPS(NAME, INNER, ENTRIES) MAP_WITH_LOOKUP("array_of_maps", int, int, NAME, ENTRIES, 0, INNER)
#define BPF_PROG_ARRAY(NAME, ENTRIES) MAP("prog_array", 4, 4, NAME, ENTRIES, 0, "")

#define BPF_RINGBUF_OUTPUT(NAME, PAGES)                              \
    MAP("ringbuf", 0, 0, NAME, 0, 0, "")                             \
    static __always_inline void *NAME##_reserve(u64 bytes)           \
    {                                                                \
        return bpf_ringbuf_reserve(&NAME##_map, bytes, 0);           \
    }                                                                \
    static __always_inline void NAME##_submit(void *data, u64 flags) \
    {                                                                \
        bpf_ringbuf_submit(data, flags);                             \
    }                                                                \
    static const struct {                                            \
        void *(*ringbuf_reserve)(u64 bytes);                         \
        void (*ringbuf_submit)(void *data, u64 flags);               \
    } NAME = {NAME##_reserve, NAME##_submit}
#endif

#endif
