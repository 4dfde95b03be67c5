/* SPDX-License-Identifier: Apache-2.0 */
/* Which of many 128-bit identities were not seen before: hash tables with open addressing. Nothing of Python is in here:
 * ayaflow/consume/identities.py calls it by ctypes. */
#include <stdint.h>

struct identity {
    uint64_t high, low; /* 0, 0: an empty slot; of an identity low is never 0 */
};

/* Slots are 2^n, and at least one is empty. Where the identity is, or the slot that it would have. */
static int64_t place(const struct identity *table, int64_t slots, struct identity wanted, uint64_t seed)
{
    uint64_t mixed = (wanted.high ^ seed) * 0x9e3779b97f4a7c15 + (wanted.low ^ seed >> 32) * 0xc2b2ae3d27d4eb4f;
    int64_t at = (int64_t)((mixed ^ mixed >> 32) & (uint64_t)(slots - 1));

    while (table[at].low && (table[at].high != wanted.high || table[at].low != wanted.low))
        at = (at + 1) & (slots - 1);
    return at;
}

/* Enters those that are in neither table into `young`; fresh[i]: whether it was. Returns how many were. */
int64_t ayaflow_enter(struct identity *young, int64_t young_slots, const struct identity *old, int64_t old_slots,
                      uint64_t seed, const struct identity *identities, int64_t count, uint8_t *fresh)
{
    int64_t entered = 0;

    for (int64_t i = 0; i < count; i++) {
        struct identity each = identities[i];
        each.low |= !each.low;
        int64_t at = place(young, young_slots, each, seed);
        fresh[i] = !young[at].low && !old[place(old, old_slots, each, seed)].low;
        if (fresh[i]) {
            young[at] = each;
            entered++;
        }
    }
    return entered;
}
