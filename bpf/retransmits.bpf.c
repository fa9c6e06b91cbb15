// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Counts the TCP segments that are sent again, by network namespace and kind, as the namespace's own TcpRetransSegs does.
 *
 * Hooks: tcp_retransmit_skb for data and SYN; tcp_retransmit_synack for the SYN-ACK of a connection that is not accepted yet, which has no socket of
 * its own and never passes the first hook.
 */
#include "kernel.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "count.h"
#include "net.h"

char LICENSE[] SEC("license") = "GPL";

/*
 * Newer kernels fire tcp_retransmit_skb for attempts too, and pass the result as a third argument. Older ones fire it for segments that were sent.
 */
const volatile bool has_result = false;

enum retransmit_kind {
	RETRANSMIT_DATA,
	RETRANSMIT_SYN,
	RETRANSMIT_SYNACK,
};
const enum retransmit_kind *retransmit_kind_type __attribute__((unused));

struct retransmit_key {
	__u64 cookie;
	__u32 kind;
	__u32 unused; /* named, because the map compares padding too */
};
const struct retransmit_key *retransmit_key_type __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 4096); /* Options.MaxEntries */
	__type(key, struct retransmit_key);
	__type(value, __u64);
} retransmits SEC(".maps");

/* What found no room there, by program. */
enum retransmit_program {
	COUNT_RETRANSMIT,
	COUNT_SYNACK,
	RETRANSMIT_PROGRAMS,
};
const enum retransmit_program *retransmit_program_type __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RETRANSMIT_PROGRAMS);
	__type(key, __u32);
	__type(value, __u64);
} retransmits_lost SEC(".maps");

/* The results of __tcp_retransmit_skb with which it gives up before it counts the segment in TcpRetransSegs: nothing was sent. */
static __always_inline bool not_sent(int result)
{
	switch (-result) {
	case EAGAIN:       /* the receiver's window is closed */
	case EBUSY:        /* the first copy has not left this host yet */
	case EHOSTUNREACH: /* no route any more */
	case EINVAL:
	case ENOMEM:
		return true;
	}
	return false;
}

SEC("tp_btf/tcp_retransmit_skb")
int count_retransmit(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	struct sk_buff *skb = (struct sk_buff *)ctx[1];
	struct retransmit_key key = {};
	__u64 segments;

	if (has_result && not_sent((int)ctx[2]))
		return 0;

	key.cookie = net_cookie(sock_net(sk));
	switch (sk->__sk_common.skc_state) {
	case TCP_SYN_SENT:
		key.kind = RETRANSMIT_SYN;
		break;
	case TCP_SYN_RECV: /* both ends called connect() */
		key.kind = RETRANSMIT_SYNACK;
		break;
	default:
		key.kind = RETRANSMIT_DATA;
	}

	/* One buffer can be several segments on the wire: tcp_skb_pcount(), as __tcp_retransmit_skb adds it to TcpRetransSegs. */
	segments = *(__u16 *)(skb->cb + bpf_core_field_offset(struct tcp_skb_cb, tcp_gso_segs));
	count(&retransmits, &key, segments ? segments : 1, &retransmits_lost, COUNT_RETRANSMIT);
	return 0;
}

SEC("tp_btf/tcp_retransmit_synack")
int count_synack(__u64 *ctx)
{
	struct retransmit_key key = {};

	key.cookie = net_cookie(sock_net((struct sock *)ctx[0]));
	key.kind = RETRANSMIT_SYNACK;
	count(&retransmits, &key, 1, &retransmits_lost, COUNT_SYNACK);
	return 0;
}
