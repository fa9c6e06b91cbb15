package probes

import (
	"fmt"
	"strings"
)

// dropKey and retransmitKey are the keys of the kernel tables, without their padding.
type (
	dropKey struct {
		place
		dropLabels
	}
	dropLabels struct {
		reason   uint32
		protocol uint8
	}
	retransmitKey struct {
		place
		retransmitLabels
	}
	retransmitLabels struct {
		kind retransmitKind
	}
)

func (k dropKey) split() (place, dropLabels)             { return k.place, k.dropLabels }
func (k retransmitKey) split() (place, retransmitLabels) { return k.place, k.retransmitLabels }

// The "other" series keeps the reason: the kernel's list of them is short, and it is what the reader wants to know.
func (l dropLabels) overflow() dropLabels             { return dropLabels{reason: l.reason} }
func (l retransmitLabels) overflow() retransmitLabels { return l }

// protocolName returns the label for an IANA protocol number, from a closed set.
func protocolName(number uint8) string {
	switch number {
	case 1:
		return "icmp"
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 58:
		return "icmpv6"
	case 132:
		return "sctp"
	}
	return "other"
}

// retransmitKind is what was sent again; the numbers are those of enum retransmit_kind in bpf/retransmits.bpf.c.
type retransmitKind uint32

func (k retransmitKind) String() string {
	switch k {
	case 0:
		return "data"
	case 1:
		return "syn"
	case 2:
		return "synack"
	}
	return "other"
}

// reasonNames are the names of the running kernel's drop reasons. The numbers differ between kernel versions.
type reasonNames map[uint32]string

// name returns the label for a reason: its name in the kernel without the common prefix. The high 16 bits of a reason are the subsystem that
// defines it, 0 being the core; a reason without a name is shown by its numbers, as SUBSYS_2_5.
func (n reasonNames) name(reason uint32) string {
	if name, ok := n[reason]; ok {
		return strings.TrimPrefix(name, "SKB_DROP_REASON_")
	}
	return fmt.Sprintf("SUBSYS_%d_%d", reason>>16, reason&0xffff)
}
