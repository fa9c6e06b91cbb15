/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#ifndef PLUMBLINE_NET_H
#define PLUMBLINE_NET_H

/*
 * net, or NULL if it does not point to a network namespace.
 *
 * It may be garbage: skb->dev shares its place with the queue links and scratch data of TCP and UDP. Reading through garbage is harmless (the
 * verifier makes such loads fault-proof), believing it is not. Every namespace owns a loopback device that points back to it; nothing else does.
 */
static __always_inline struct net *checked(struct net *net)
{
	struct net_device *lo;

	if (!net)
		return NULL;
	lo = net->loopback_dev;
	if (!lo || lo->nd_net.net != net)
		return NULL;
	return net;
}

/* All three kinds of socket (full, request, time-wait) begin with sock_common. */
static __always_inline struct net *sock_net(struct sock *sk)
{
	return sk ? checked(sk->__sk_common.skc_net.net) : NULL;
}

/*
 * What identifies a namespace to user space, or 0. Not the inode: the kernel gives the inode of a deleted namespace to the next one.
 */
static __always_inline __u64 net_cookie(struct net *net)
{
	return net ? net->net_cookie : 0;
}

#endif
