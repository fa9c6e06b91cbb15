/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#ifndef PLUMBLINE_NET_H
#define PLUMBLINE_NET_H

/*
 * The cookie of a network namespace, or 0 if net does not point to one.
 *
 * The cookie and not the inode identifies a namespace, because the kernel gives the inode of a deleted namespace to the next one.
 *
 * net may be garbage: skb->dev shares its place with the queue links and scratch data of TCP and UDP. Reading through garbage is harmless (the
 * verifier makes such loads fault-proof), believing it is not. Every namespace owns a loopback device that points back to it; nothing else does.
 */
static __always_inline __u64 net_cookie(struct net *net)
{
	struct net_device *lo;

	if (!net)
		return 0;
	lo = net->loopback_dev;
	if (!lo || lo->nd_net.net != net)
		return 0;
	return net->net_cookie;
}

static __always_inline __u64 sock_cookie(struct sock *sk)
{
	/* All three kinds of socket (full, request, time-wait) begin with sock_common. */
	return sk ? net_cookie(sk->__sk_common.skc_net.net) : 0;
}

#endif
