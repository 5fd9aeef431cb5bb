// The kernel's way of forwarding in user space, to compare with: AF_PACKET with version 3 rings in both directions.
//
//   packet forward IF-A MAC-A IF-B MAC-B   what comes in on A leaves by B for MAC-A, and the other way round
//   packet seed IF MAC N                   sends N frames of 64 bytes to MAC
//
// MAC-A and MAC-B are the interfaces' own addresses: frames go round for ever.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BLOCK = 4096, BLOCKS = 512, FRAME = 2048, LOCAL_EXPERIMENT = 0x88b5 };

struct side {
  int fd;
  uint8_t *rx, *tx, mac[ETH_ALEN];
  unsigned rx_block, tx_frame;
};

static int packet_socket(const char *interface) {
  int fd = socket(AF_PACKET, SOCK_RAW, 0), one = 1;
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
  address.sll_ifindex = if_nametoindex(interface);
  if (fd < 0 || !address.sll_ifindex) err(1, "%s", interface);
  if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one)) err(1, "PACKET_IGNORE_OUTGOING");
  if (setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one)) err(1, "PACKET_QDISC_BYPASS");
  int version = TPACKET_V3;
  struct tpacket_req3 ring = {BLOCK, BLOCKS, FRAME, BLOCKS * (BLOCK / FRAME), 0, 0, 0};
  if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version)) err(1, "PACKET_VERSION");
  if (setsockopt(fd, SOL_PACKET, PACKET_TX_RING, &ring, sizeof ring)) err(1, "PACKET_TX_RING");
  ring.tp_retire_blk_tov = 1;
  if (setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring)) err(1, "PACKET_RX_RING");
  if (bind(fd, (struct sockaddr *)&address, sizeof address)) err(1, "bind to %s", interface);
  return fd;
}

static void open_side(struct side *side, const char *interface, const char *mac) {
  side->fd = packet_socket(interface);
  if (!ether_aton_r(mac, (struct ether_addr *)side->mac)) errx(1, "%s is no address", mac);
  side->rx = mmap(NULL, 2 * BLOCK * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED, side->fd, 0);
  if (side->rx == MAP_FAILED) err(1, "mmap");
  side->tx = side->rx + BLOCK * BLOCKS;
}

// Gives a frame to the sending ring; false when there is no room.
static int put(struct side *to, const uint8_t *frame, uint32_t len, const uint8_t *destination) {
  struct tpacket3_hdr *slot = (void *)(to->tx + to->tx_frame * FRAME);
  if (__atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE) != TP_STATUS_AVAILABLE) return 0;
  uint8_t *data = (uint8_t *)slot + TPACKET3_HDRLEN - sizeof(struct sockaddr_ll);
  memcpy(data, frame, len);
  memcpy(data, destination, ETH_ALEN);
  memcpy(data + ETH_ALEN, to->mac, ETH_ALEN);
  slot->tp_next_offset = 0;
  slot->tp_len = slot->tp_snaplen = len;
  __atomic_store_n(&slot->tp_status, TP_STATUS_SEND_REQUEST, __ATOMIC_RELEASE);
  to->tx_frame = (to->tx_frame + 1) % (BLOCKS * (BLOCK / FRAME));
  return 1;
}

// Forwards the blocks that are ready. Returns how many.
static int forward(struct side *from, struct side *to) {
  int blocks = 0;
  for (;;) {
    struct tpacket_block_desc *block = (void *)(from->rx + from->rx_block * BLOCK);
    if (!(__atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) break;
    uint8_t *at = (uint8_t *)block + block->hdr.bh1.offset_to_first_pkt;
    for (uint32_t left = block->hdr.bh1.num_pkts; left; left--) {
      struct tpacket3_hdr *packet = (void *)at;
      while (!put(to, at + packet->tp_mac, packet->tp_snaplen, from->mac)) send(to->fd, NULL, 0, 0);
      at += packet->tp_next_offset;
    }
    __atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    from->rx_block = (from->rx_block + 1) % BLOCKS;
    blocks++;
  }
  if (blocks) send(to->fd, NULL, 0, MSG_DONTWAIT);
  return blocks;
}

int main(int count, char **words) {
  struct side a = {0}, b = {0};
  if (count == 6 && !strcmp(words[1], "forward")) {
    open_side(&a, words[2], words[3]);
    open_side(&b, words[4], words[5]);
    struct pollfd both[] = {{a.fd, POLLIN, 0}, {b.fd, POLLIN, 0}};
    for (;;)
      if (!(forward(&a, &b) + forward(&b, &a))) poll(both, 2, -1);
  }
  if (count == 5 && !strcmp(words[1], "seed")) {
    uint8_t frame[60] = {0};
    struct ether_addr to;
    if (!ether_aton_r(words[3], &to)) errx(1, "%s is no address", words[3]);
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(words[2])};
    struct ifreq own = {0};
    strncpy(own.ifr_name, words[2], IFNAMSIZ - 1);
    if (fd < 0 || ioctl(fd, SIOCGIFHWADDR, &own)) err(1, "%s", words[2]);
    memcpy(frame, &to, ETH_ALEN);
    memcpy(frame + ETH_ALEN, own.ifr_hwaddr.sa_data, ETH_ALEN);
    frame[12] = LOCAL_EXPERIMENT >> 8;
    frame[13] = LOCAL_EXPERIMENT & 0xff;
    for (int left = atoi(words[4]); left > 0; left--)
      if (sendto(fd, frame, sizeof frame, 0, (struct sockaddr *)&address, sizeof address) < 0) err(1, "sendto");
    return 0;
  }
  errx(2, "see the head of packet.c");
}
