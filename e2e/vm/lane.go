package main

import "time"

// entry is one test package of the lane.
type entry struct {
	pkg     string        // directory below the module's root
	run     string        // -test.run
	timeout time.Duration // -test.timeout; a test takes about ten times what it takes on the host
	require string        // PLUMBLINE_REQUIRE: features whose absence is a failure
	args    string        // flags of the package's own
}

// lane is what runs in the machine, in order. To add a package, add a line.
var lane = []entry{
	{"e2e/links", "BridgeRejects|Queues|TestVLAN|Bonds|Tunnels|IPVLAN|Filters|VRFs|Programs|ControlGroups|LegacyTables|LegacyEBTables|ConntrackTables|TablesThatNft|IPv6Off", 25 * time.Minute, "all", ""},
	{"collector", "IPVS|Links|KernelsSCTP|TablesAreFull", 2 * time.Minute, "all", ""},
	{"e2e/agreement", "TheKernelsOwnSCTP", 5 * time.Minute, "", ""},
	{"e2e/ipvs", ".", 15 * time.Minute, "ipvs", ""},
	{"e2e/roles", "TheClockIsSet", 10 * time.Minute, "", "-set-clock"},
	{"simulator/netfilter", "TheKernelAgreesOn(Matches|Output|Targets)", 10 * time.Minute, "", ""},
	{"probes", "EachFault/(node|address|checksum|queue)|NamespacesOwnCounter", 5 * time.Minute, "", ""},
	{"e2e/judge", "TestRegressionsLive/(gre-|gretap-|ipvlan|-vrf|bond-)", 10 * time.Minute, "", ""},
	{"e2e/judge", "^TestJudge$", 10 * time.Minute, "", "-n 150 -seed 1 -workers 6 -enough -no-shrink -features '" + judged + "'"},
}

// clusters is the package that runs nodes of Kubernetes in the machine. Their
// control plane runs on the host: it would be slow here, and is not the subject.
const clusters = "e2e/kubernetes"

// asked is what runs when -pkg asks for packages: each change of a Service makes
// kube-proxy start a hundred processes, which takes long here.
var asked = []entry{
	{clusters, "^TestScenarios$/^ipvs-bridge$/^(proxy-mode$|ipvs-)", 20 * time.Minute, "", ""},
}

// judged are the features that the judge can see on few other kernels.
const judged = "link:tunnel link:ipvlan link:vlan link:vlan-filtering link:bond link:vrf " +
	"set:hash:mac set:hash:ip,mac set:hash:ip,mark set:hash:net,net set:hash:net,port,net"
