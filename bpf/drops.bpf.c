// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Counts the packets that the kernel drops, by network namespace, interfaces, reason and protocol.
 *
 * Hook: the kfree_skb tracepoint, which fires once for each packet that is thrown away (consume_skb is the one for packets that were used).
 */
#include "kernel.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#include "count.h"
#include "net.h"

char LICENSE[] SEC("license") = "GPL";

#define MAX_NOISE 16
#define MAX_EXT_HEADERS 6

/* Since 6.11 the tracepoint has a fourth argument, the receiving socket. */
const volatile bool has_rx_sk = false;

/*
 * Whether memory without a type may be read: packet headers, and the route behind its tagged pointer. False under lockdown=confidentiality, where
 * the helper for it is refused. The verifier knows the value and removes the code that it makes unreachable.
 */
const volatile bool read_memory = true;

/* Address ranges of kernel functions whose frees are not lost packets (see noiseFunctions in the Go half). Unused ones are zero. */
const volatile __u64 noise_start[MAX_NOISE] = {};
const volatile __u64 noise_end[MAX_NOISE] = {};

struct drop_key {
	__u64 cookie;   /* 0: the kernel no longer knows the namespace */
	__u32 in;       /* interface that the packet arrived by, or 0 */
	__u32 out;      /* interface that it would have left through, or 0 */
	__u32 reason;   /* the high 16 bits are the subsystem */
	__u8 protocol;  /* IANA number, or 0 for those without a label of their own */
	__u8 unused[3]; /* named, because the map compares padding too */
};
const struct drop_key *drop_key_type __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 16384); /* Options.MaxEntries */
	__type(key, struct drop_key);
	__type(value, __u64);
} drops SEC(".maps");

/* Drops that found no room there. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} drops_lost SEC(".maps");

/* A free in one of these functions does not mean that a packet was lost on its path. */
static __always_inline bool is_noise(__u64 location)
{
#pragma unroll
	for (int i = 0; i < MAX_NOISE; i++)
		if (location >= noise_start[i] && location < noise_end[i])
			return true;
	return false;
}

/*
 * The route's output device, or NULL. skb_dst() in the kernel: bit 0 says that no reference is held. The pointer shares its place with TCP's
 * list of sent packets, so that the result has to be checked.
 */
static __always_inline struct net_device *out_device(struct sk_buff *skb)
{
	struct dst_entry *dst = (void *)(skb->_skb_refdst & ~1UL);

	return dst ? BPF_CORE_READ(dst, dev) : NULL;
}

/* The namespace of that device by its cookie, or 0; checked() for a pointer that can only be read with the helper. */
static __always_inline __u64 out_cookie(struct net *net)
{
	if (!net || BPF_CORE_READ(net, loopback_dev, nd_net.net) != net)
		return 0;
	return BPF_CORE_READ(net, net_cookie);
}

/*
 * Where the packet was dropped. The sources are tried from the most to the least certain, until one names a namespace:
 *   rx_sk  the socket that was about to receive it. Before dev, which TCP and UDP overwrite in their queues.
 *   dev    the device that the packet arrived by or leaves through. Before sk, which still is the *sender's* socket after a veth crossing.
 *   sk     the owner; for packets that leave and have no device yet.
 *   dst    the route; for packets without a device and an owner.
 *
 * In a pod's namespace the namespace says all. In a node's namespace an interface says which pod it was: the one that sent the packet is at the
 * other end of "in", the one that it goes to is at the other end of "out". Which of them leads to a pod is for user space to know.
 */
static __always_inline void locate(struct drop_key *key, struct sk_buff *skb, struct sock *rx_sk)
{
	struct net_device *dev = skb->dev, *out = NULL;
	struct net *net, *dev_net = NULL, *out_net = NULL;

	if (dev)
		dev_net = checked(dev->nd_net.net);
	if (read_memory) {
		out = out_device(skb);
		if (out)
			out_net = BPF_CORE_READ(out, nd_net.net);
	}

	key->in = skb->skb_iif; /* cleared when a packet crosses into another namespace, so it is of the one that drops it */

	net = sock_net(rx_sk);
	if (!net)
		net = dev_net;
	if (!net)
		net = sock_net(skb->sk);
	if (!net) {
		key->cookie = out_cookie(out_net);
		if (key->cookie)
			key->out = BPF_CORE_READ(out, ifindex);
		else
			key->in = 0; /* means nothing without a namespace */
		return;
	}
	key->cookie = net->net_cookie;
	if (read_memory && out_net == net) {
		/* Packets for the host itself are routed to the loopback device, which tells nothing. */
		if (out != net->loopback_dev)
			key->out = BPF_CORE_READ(out, ifindex);
	} else if (dev_net == net && (__u32)dev->ifindex != key->in) {
		key->out = dev->ifindex;
	}
}

/* The transport protocol, behind IPv6 extension headers if there are any. */
static __always_inline __u8 ipv6_protocol(unsigned char *header)
{
	__u8 fixed[7], ext[2], next;

	if (bpf_probe_read_kernel(fixed, sizeof(fixed), header) || fixed[0] >> 4 != 6)
		return 0;
	next = fixed[6];
	header += 40;
#pragma unroll
	for (int i = 0; i < MAX_EXT_HEADERS; i++) {
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_FRAGMENT && next != IPPROTO_AH && next != IPPROTO_DSTOPTS)
			return next;
		if (bpf_probe_read_kernel(ext, sizeof(ext), header))
			return 0;
		/* RFC 8200: units of 8 octets after the first 8. RFC 4302: AH counts 4 octets. The fragment header has 8 and no length. */
		if (next == IPPROTO_FRAGMENT)
			header += 8;
		else if (next == IPPROTO_AH)
			header += ((__u32)ext[1] + 2) * 4;
		else
			header += ((__u32)ext[1] + 1) * 8;
		next = ext[0];
	}
	return next;
}

static __always_inline __u8 ipv4_protocol(unsigned char *header)
{
	__u8 fixed[10];

	if (bpf_probe_read_kernel(fixed, sizeof(fixed), header) || fixed[0] >> 4 != 4)
		return 0;
	return fixed[9];
}

static __always_inline __u8 sock_protocol(struct sock *sk)
{
	__u8 state = sk->__sk_common.skc_state;

	/* These are small sockets, which end before sk_protocol. */
	if (state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV)
		return IPPROTO_TCP;
	return sk->sk_protocol;
}

/* A closed set: a sender can choose any of 256 protocol numbers, and must not be able to fill the map with them. */
static __always_inline __u8 labelled(__u8 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
	case IPPROTO_SCTP:
		return protocol;
	}
	return 0;
}

SEC("tp_btf/kfree_skb")
int count_drop(__u64 *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx[0];
	__u32 reason = (__u32)ctx[2];
	struct sock *sk = skb->sk, *rx_sk = NULL;
	struct drop_key key = {};
	__u16 ether = skb->protocol;
	__u8 protocol = 0;

	/* Not dropped: the first is "no reason yet", the second a packet that was used. Neither is passed here today; one kernel release did. */
	if (reason == bpf_core_enum_value(enum skb_drop_reason, SKB_NOT_DROPPED_YET))
		return 0;
	if (bpf_core_enum_value_exists(enum skb_drop_reason, SKB_CONSUMED) &&
	    reason == bpf_core_enum_value(enum skb_drop_reason, SKB_CONSUMED))
		return 0;

	/*
	 * Only IP: Plumbline answers for IP paths, and netlink messages, unix sockets, ARP and LLDP are freed by the same function. A packet that
	 * its socket could not route has no ethertype yet; the socket tells.
	 */
	if (ether == 0 && sk) {
		__u16 family = sk->__sk_common.skc_family;

		if (family != AF_INET && family != AF_INET6)
			return 0;
		protocol = sock_protocol(sk);
	} else if (ether != bpf_htons(ETH_P_IP) && ether != bpf_htons(ETH_P_IPV6)) {
		return 0;
	}

	if (is_noise(ctx[1]))
		return 0;

	if (has_rx_sk)
		rx_sk = (struct sock *)ctx[3];

	if (read_memory && ether) {
		unsigned char *header = skb->head + skb->network_header;

		protocol = ether == bpf_htons(ETH_P_IP) ? ipv4_protocol(header) : ipv6_protocol(header);
	}
	key.reason = reason;
	key.protocol = labelled(protocol);
	locate(&key, skb, rx_sk);
	count(&drops, &key, 1, &drops_lost, 0);
	return 0;
}
