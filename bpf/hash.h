/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* SipHash-1-3 over 64-bit words: what Linux itself uses where an outsider chooses the keys of a hash table.
 * (Multiply-and-shift hashes are a third cheaper, but a flip of the top bits collides whatever the seed.) */
#ifndef AYAFLOW_HASH_H
#define AYAFLOW_HASH_H

struct hash_state {
    u64 v0, v1, v2, v3;
};

#define ROTATE(x, bits) (((x) << (bits)) | ((x) >> (64 - (bits))))

/* clang-format off: a line a step, as in the paper */
static __always_inline void hash_round(struct hash_state *h)
{
    h->v0 += h->v1;
    h->v1 = ROTATE(h->v1, 13);
    h->v1 ^= h->v0;
    h->v0 = ROTATE(h->v0, 32);
    h->v2 += h->v3;
    h->v3 = ROTATE(h->v3, 16);
    h->v3 ^= h->v2;
    h->v0 += h->v3;
    h->v3 = ROTATE(h->v3, 21);
    h->v3 ^= h->v0;
    h->v2 += h->v1;
    h->v1 = ROTATE(h->v1, 17);
    h->v1 ^= h->v2;
    h->v2 = ROTATE(h->v2, 32);
}
/* clang-format on */

static __always_inline void hash_begin(struct hash_state *h, const u64 *key)
{
    h->v0 = 0x736f6d6570736575ULL ^ key[0];
    h->v1 = 0x646f72616e646f6dULL ^ key[1];
    h->v2 = 0x6c7967656e657261ULL ^ key[0];
    h->v3 = 0x7465646279746573ULL ^ key[1];
}

static __always_inline void hash_word(struct hash_state *h, u64 word)
{
    h->v3 ^= word;
    hash_round(h);
    h->v0 ^= word;
}

static __always_inline u64 hash_end(struct hash_state *h)
{
    h->v2 ^= 0xff;
    hash_round(h);
    hash_round(h);
    hash_round(h);
    return h->v0 ^ h->v1 ^ h->v2 ^ h->v3;
}

#endif
