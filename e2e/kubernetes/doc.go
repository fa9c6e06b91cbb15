// Package kubernetes runs a cluster of real parts on one Linux host: etcd,
// kube-apiserver, kube-controller-manager, kube-proxy on each node, CoreDNS in a
// pod, the plugins of the container network interface, kube-router where network
// policies are enforced, and flannel where it joins the nodes. Its tests hold diagnoses against the fates of
// real connections in it.
//
// A cluster owns network namespaces, by a prefix that no other process has:
//
//	outside ── router ──┬── control   etcd, kube-apiserver, kube-controller-manager
//	                    ├── node-1    kube-proxy, and its pods behind bridge or ptp
//	                    └── node-2
//
// The router knows the nodes, the outside, and by which node the addresses of
// load balancers are reached. It does not know pods, and swallows all else, as
// the routers of clouds do. Nodes route to each other's pods (host-gw) and
// translate what leaves for elsewhere as flannel does, by hand; or flannel does it
// itself, by VXLAN. Both IP versions are there.
//
// What stands in for a part that cannot run here is small: a kubelet that
// makes the namespaces of pods, calls the plugins, gives pods an /etc with their
// resolv.conf, opens the sockets that a container's args name (tcp/8080), runs
// CoreDNS, probes readiness and reports status; flannel's main, whose own brings
// along what is not to be had; and whoever sets the status of a load balancer, which Apply does from the manifest.
//
// Start that fails, and Stop, remove all they made; processes end with the one
// that started them. What a killed run leaves behind, the next Start removes.
package kubernetes
