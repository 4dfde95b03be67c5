/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Frames of a capture instead of a device's (compiled with -DREPLAY): user space writes many frames into maps that it
 * has mapped and runs the program once for each of them, in one system call (BPF_PROG_TEST_RUN with `repeat`). Each run
 * takes the next frame, puts it into the skb that the test run owns, and goes on as a hook does. So the parser sees an
 * skb as long as what was captured; length, interface, direction and time are the capture's. */
#ifndef AYAFLOW_REPLAY_H
#define AYAFLOW_REPLAY_H

#define REPLAY_FRAMES 16384
#define REPLAY_BLOCK_BYTES (2 << 20)
#define REPLAY_FRAME_MASK 0x3fff /* of a frame at most; bpf_skb_change_tail takes a little less, and at least 14 */

struct replay_frame {
    u64 time_ns; /* since the Unix epoch */
    u32 offset;  /* into the block */
    u32 last;    /* octets from there on, less one */
    u32 bytes;   /* on the wire */
    u32 slot;    /* key of `interfaces` */
    u32 direction;
    u32 secondary; /* not 0: another passage of the packet counts it */
};

struct replay_block {
    u8 octets[REPLAY_BLOCK_BYTES];
};

struct replay_state {
    u64 next;    /* number of the next frame */
    u64 refused; /* frames that a helper would not take */
};

BPF_F_TABLE("array", u32, struct replay_frame, replay_frames, REPLAY_FRAMES, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct replay_block, replay_block, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct replay_state, replay_state, 1, BPF_F_MMAPABLE);

/* skb->cb carries what the frame says of itself */
#define WIRE_BYTES(skb) ((skb)->cb[0])
#define SLOT(skb) ((skb)->cb[1])
#define CAME_BY(skb) 0
#define IS_SECONDARY(skb) ((skb)->cb[2])
#define IS_ALIVE(settings, now) 1

#endif
