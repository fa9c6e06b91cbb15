// Package counters holds the kernel's counters, as the daemon exports them,
// against what was sent: each fault of the lab drops exactly the packets that
// met it, at the node, for the reason and of the pod that the tables here name.
//
// As in a cluster, a daemon watches each node, with the pods on it; one more
// watches the fabric.
package counters
