// Package lab builds a small Kubernetes-shaped cluster out of network namespaces on one Linux host, breaks it in named
// ways, and tells what happens to real connections in it. It exists because the kernel is the judge of Plumbline's
// simulator: the same state that the simulator reads carries real packets here, and the two must agree.
//
// A lab is described by one YAML file (lab.yaml, embedded) and owned by one prefix: its namespaces are called
// PREFIX-fabric, PREFIX-NODE and PREFIX-NAMESPACE-POD, its files live in /run/plumbline/lab/PREFIX. Nothing is ever
// created in the host's own namespace, so several labs with the same addresses can run side by side.
//
// Each node has eth0 on the fabric, a bridge cni0 for its pods, host-gw routes to the other nodes' pods, and Service
// rules in the shape that kube-proxy's iptables mode writes. The fabric is a bridge which owns the nodes' default
// gateway and does not forward: like a VPC router that knows nothing of pods, it swallows what it is sent. Every
// declared port of every pod has a real listener. The Kubernetes objects of the same cluster are written to cluster/
// below the state directory.
//
// Error contract: ErrExists and ErrNotUp (wrapped) tell whether a lab is there; ErrNotRoot and a *MissingToolError say
// what the host lacks; an *UnknownFaultError lists the faults there are. Up that fails takes down what it had built.
// Down may be called at any time, also after a crash, and more than once.
//
// What it deliberately does not do: run kube-proxy, a kubelet or a network plugin (other tests do), or keep the lab in
// step with edits of its manifests.
package lab
