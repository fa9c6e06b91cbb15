/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#ifndef PLUMBLINE_COUNT_H
#define PLUMBLINE_COUNT_H

/*
 * Adds n to the counter of key, which is made when it is missing. What cannot be counted because the map is full is counted in lost, an array,
 * at the place of the program.
 *
 * The maps are plain per-CPU hashes, never LRU: an evicted entry would be a counter that goes back to zero. The addition is atomic although the
 * counter belongs to one CPU, because kernels without recursion protection for raw tracepoints let a softirq interrupt the program half-way.
 */
static __always_inline void count(void *map, const void *key, __u64 n, void *lost, __u32 program)
{
	__u64 *v = bpf_map_lookup_elem(map, key);

	if (!v) {
		__u64 zero = 0;

		/* Another CPU may win this race, which is why the result is not looked at: the entry is there or it is not. */
		bpf_map_update_elem(map, key, &zero, BPF_NOEXIST);
		v = bpf_map_lookup_elem(map, key);
	}
	if (!v)
		v = bpf_map_lookup_elem(lost, &program);
	if (v)
		__sync_fetch_and_add(v, n);
}

#endif
