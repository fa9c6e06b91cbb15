// Package kubernetes keeps what a diagnosis needs to know of a cluster, as its
// API server tells it: pods, nodes, services, endpoint slices, namespaces,
// network policies, and policies of other kinds as far as the cluster has them.
// It reads and watches, and never writes.
//
// Each resource has a reflector of client-go, which lists, watches, resumes and
// lists again, and a store that keeps the fields which cluster.Files would write
// and nothing else. All stores share one lock: a State is what they hold at one
// moment. Its Generation changes only if something that is kept did, so that the
// heartbeats of nodes leave everything as it is.
//
// Errors: a resource that may not be read, or that was not read yet, is in
// cluster.Objects.Missing with the reason, and its objects are unknown rather than
// none; the others are not touched. A server that is away leaves all as it was, and
// Objects.Current says since when nothing is known to be current. Connections that die silently
// count as current until HTTP/2 pings find them dead, for 45 seconds at most.
package kubernetes
