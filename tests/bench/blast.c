/* SPDX-License-Identifier: Apache-2.0 */
/* Sends frames of many flows into an interface at a bounded rate: AF_PACKET, sendmmsg, one thread.
 *
 *   blast INTERFACE FLOWS PACKETS RATE MIX FAMILY
 *
 * RATE in packets a second (0: as fast as it goes), MIX small (60 octets) or mixed (60, 576, 1514 as 7:4:1),
 * FAMILY 4, 6 or 46 (every second flow IPv6). The flows take turns, so of a batch of packets smaller than FLOWS each is
 * another one. Ends when all is sent or at a SIGTERM, and prints a line of JSON. UDP from 10.x.y.z (fd00::x) to 192.0.2.1 (2001:db8::1), ports from 1024 on. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define BURST 64
#define HEADER 62 /* Ethernet, IPv6, UDP */
#define LONGEST 1514

struct flow {
    uint8_t header[HEADER];
    uint8_t length; /* of the header */
};

static uint8_t payload[LONGEST];
static volatile sig_atomic_t stopped;

static void stop(int number)
{
    stopped = number;
}

static uint64_t now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static uint16_t checksum(const uint8_t *at)
{
    uint32_t sum = 0;
    for (int i = 0; i < 20; i += 2)
        sum += at[i] << 8 | at[i + 1];
    sum = (sum & 0xffff) + (sum >> 16);
    return ~(sum + (sum >> 16));
}

static void put(uint8_t *at, uint32_t value, int octets)
{
    while (octets--) {
        at[octets] = value;
        value >>= 8;
    }
}

/* Headers of a flow; the lengths are set when a frame is sent. */
static void prepare(struct flow *flow, uint32_t number, int six)
{
    static const uint8_t ethernet[12] = {2, 0xa9, 0, 0, 0, 2, 2, 0xa9, 0, 0, 0, 1};
    uint8_t *ip = flow->header + 14, *udp;
    memset(flow, 0, sizeof(*flow));
    memcpy(flow->header, ethernet, 12);
    put(flow->header + 12, six ? ETH_P_IPV6 : ETH_P_IP, 2);
    if (six) {
        ip[0] = 0x60;
        ip[6] = 17;
        ip[7] = 64;
        ip[8] = 0xfd;
        put(ip + 20, number / 60000, 4);
        put(ip + 24, 0x20010db8, 4);
        ip[39] = 1;
        udp = ip + 40;
        flow->length = 62;
    } else {
        ip[0] = 0x45;
        ip[8] = 64;
        ip[9] = 17;
        put(ip + 12, 0x0a000001 + number / 60000, 4);
        put(ip + 16, 0xc0000201, 4);
        udp = ip + 20;
        flow->length = 42;
    }
    put(udp, 1024 + number % 60000, 2);
    put(udp + 2, 443, 2);
}

static void set_length(struct flow *flow, int frame)
{
    uint8_t *ip = flow->header + 14;
    if (ip[0] == 0x60) {
        put(ip + 4, frame - 54, 2);
        put(ip + 44, frame - 54, 2);
    } else {
        put(ip + 2, frame - 14, 2);
        put(ip + 10, 0, 2);
        put(ip + 10, checksum(ip), 2);
        put(ip + 24, frame - 34, 2);
    }
}

int main(int argc, char **argv)
{
    static const int mixed[12] = {60, 576, 60, 60, 1514, 60, 576, 60, 576, 60, 576, 60};
    struct mmsghdr messages[BURST];
    struct iovec parts[BURST][2];
    if (argc != 7)
        return 2;
    uint64_t flows = strtoull(argv[2], 0, 10), packets = strtoull(argv[3], 0, 10), rate = strtoull(argv[4], 0, 10);
    int is_mixed = !strcmp(argv[5], "mixed");
    struct flow *table = calloc(flows, sizeof(*table));
    for (uint64_t i = 0; i < flows; i++)
        prepare(&table[i], i, !strcmp(argv[6], "6") || (!strcmp(argv[6], "46") && i % 2));

    int sock = socket(AF_PACKET, SOCK_RAW, 0), one = 1;
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(argv[1]), .sll_halen = 6};
    if (sock < 0 || !to.sll_ifindex || bind(sock, (struct sockaddr *)&to, sizeof(to))) {
        perror(argv[1]);
        return 1;
    }
    setsockopt(sock, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one));
    prctl(PR_SET_TIMERSLACK, 1);
    signal(SIGTERM, stop);

    memset(messages, 0, sizeof(messages));
    for (int i = 0; i < BURST; i++) {
        parts[i][1].iov_base = payload;
        messages[i].msg_hdr.msg_iov = parts[i];
        messages[i].msg_hdr.msg_iovlen = 2;
    }
    uint64_t sent = 0, octets = 0, again = 0, started = now(CLOCK_REALTIME), begin = now(CLOCK_MONOTONIC);
    while (sent < packets && !stopped) {
        int count = packets - sent < BURST ? packets - sent : BURST, done = 0;
        for (int i = 0; i < count; i++) {
            uint64_t number = sent + i;
            struct flow *flow = &table[number % flows];
            int frame = is_mixed ? mixed[number * 7 / 12 % 12] : flow->length > 60 ? flow->length : 60;
            if (frame < flow->length)
                frame = flow->length;
            set_length(flow, frame);
            parts[i][0].iov_base = flow->header;
            parts[i][0].iov_len = flow->length;
            parts[i][1].iov_len = frame - flow->length;
            octets += frame;
        }
        while (done < count) {
            int took = sendmmsg(sock, messages + done, count - done, 0);
            if (took > 0) {
                done += took;
            } else if (errno == ENOBUFS || errno == EAGAIN) {
                again++;
                usleep(50);
            } else {
                perror("sendmmsg");
                return 1;
            }
        }
        sent += count;
        if (rate) {
            uint64_t due = begin + sent * 1000000000u / rate, at = now(CLOCK_MONOTONIC);
            if (due > at) {
                struct timespec wait = {.tv_sec = (due - at) / 1000000000u, .tv_nsec = (due - at) % 1000000000u};
                nanosleep(&wait, 0);
            }
        }
    }
    double seconds = (now(CLOCK_MONOTONIC) - begin) / 1e9;
    printf("{\"packets\": %llu, \"bytes\": %llu, \"seconds\": %.4f, \"rate\": %.0f, \"again\": %llu, \"started_ns\": "
           "%llu}\n",
           (unsigned long long)sent, (unsigned long long)octets, seconds, sent / seconds, (unsigned long long)again,
           (unsigned long long)started);
    return 0;
}
