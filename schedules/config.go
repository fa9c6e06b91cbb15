package schedules

import (
	"net/url"
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Config is everything that the daemon can be told. Its zero value is not
// useful; start from [Default] or [Load]. docs/configuration.md describes it
// for operators.
type Config struct {
	Schedules []Schedule
	Collector Collector
	Confirm   Confirm
	// Kubernetes says how to reach the API server of the cluster.
	Kubernetes Kubernetes
	// Cloud says which cloud joins the nodes.
	Cloud Cloud
	// SnapshotMaxAge is the age from which state is too old to judge by:
	// verdicts become unknown with the reason SnapshotStale.
	SnapshotMaxAge time.Duration
	// MaxPathSeries is the number of paths above which a schedule exports no
	// metrics for each path.
	MaxPathSeries int
	// History is how many past reports are kept, beside the latest of each path.
	History int
	// Jitter is the part of its interval, from 0 to 0.5, by which a schedule
	// may run later than its cron expression says.
	Jitter float64
	Probes Probes
	// BPFRunSeconds turns on the kernel's accounting of the probes' run time,
	// which costs some time at every event.
	BPFRunSeconds bool
	Web           Web
	// Node is the name of the node that an agent runs on; that of the host when
	// empty.
	Node       string
	Controller Controller
}

// Controller says where a controller finds the agents, and how it talks to them.
type Controller struct {
	// Agents are the agents by node.
	Agents []Agent
	// Discover finds further agents among the pods of the cluster.
	Discover Discover
	// Timeout bounds what an agent may take for its state, collecting included.
	Timeout time.Duration
	TLS     ClientTLS
	// TokenFile holds the token that agents are shown; empty for none.
	TokenFile string
	// Lease is what controllers compete for, of which the leader runs schedules.
	Lease Lease
}

// Lease names a Lease of the cluster; the zero value none, for a controller without
// others.
type Lease struct {
	Namespace, Name string
	// Duration is how long a leader that is not heard of any more leads.
	Duration time.Duration
}

// Agent is the agent of one node.
type Agent struct {
	Node string
	URL  *url.URL
}

// Discover says which pods are agents. They are asked by https. The zero value finds
// none.
type Discover struct {
	Namespace string
	Selector  labels.Selector
	Port      uint16
}

// ClientTLS are the files of a client of mutual TLS; empty for those that there
// are none of. They are read again when they change.
type ClientTLS struct {
	CAFile, CertFile, KeyFile string
	// ServerName is what certificates of agents are for; the host of their URL
	// when empty.
	ServerName string
}

// Collector says what is collected, and how often at most.
type Collector struct {
	// Namespaces are glob patterns (path.Match) of the names of the network
	// namespaces to read; none means all.
	Namespaces []string
	// Manifests is a directory of Kubernetes manifests; empty for none.
	Manifests string
	// MaxAge is how old state may be that a diagnosis uses without collecting
	// again.
	MaxAge time.Duration
}

// Confirm bounds real probes.
type Confirm struct {
	// Timeout is how long the answer to one is waited for.
	Timeout time.Duration
	// PerSecond is how many are sent in a second, by all schedules and questions
	// together.
	PerSecond int
}

// Kubernetes says how to reach an API server. The zero value has none.
type Kubernetes struct {
	// Kubeconfig is a file in kubectl's format.
	Kubeconfig string
	// InCluster uses the service account of the pod that the daemon runs in.
	InCluster bool
}

// Cloud says how to read the cloud whose network joins the nodes.
type Cloud struct {
	// Provider is CloudAlibaba, or CloudNone.
	Provider string
	Region   string
	// Credentials says where they come from: auto, environment, oidc, instance.
	Credentials string
	// MaxAge is how old facts may be that are used without asking again.
	MaxAge time.Duration
	// Timeout bounds one reading of all that is due.
	Timeout time.Duration
	// Endpoints are where parts of the API answer, for those that are not at their
	// public place.
	Endpoints map[string]*url.URL
}

// Values of Cloud.Provider.
const (
	CloudNone    = "none"
	CloudAlibaba = "alibaba"
)

// CloudEndpoints are the parts of the API that Cloud.Endpoints may name.
var CloudEndpoints = []string{"alb", "ecs", "metadata", "nlb", "slb", "sts", "vpc"}

// Probes says which of the kernel's events are counted.
type Probes struct {
	Enabled bool
	// MaxSeries is the number of series of each metric above which further
	// ones are counted in an "other" series.
	MaxSeries int
}

// Web is about the HTTP server.
type Web struct {
	// AllowedHosts are the names, beside loopback and the address listened on,
	// that the Host header of a request may bear.
	AllowedHosts []string
	// Authorization says who decides what callers may do: the API server by their
	// tokens, or nobody here (empty); AuthorizationLoopback says that nobody is meant
	// to, also in a cluster.
	Authorization string
	// Audiences are those that tokens are to be for; the API server's own when empty.
	Audiences []string
	// MetricsListenAddress is HOST:PORT of the metrics alone, which are not beside
	// the rest then; MetricsConfigFile is its exporter-toolkit's file.
	MetricsListenAddress, MetricsConfigFile string
	// DiagnosesPerSecond and ConfirmsPerSecond are what each caller may ask for.
	DiagnosesPerSecond, ConfirmsPerSecond int
}

// Values of Web.Authorization: TokenReviews and SubjectAccessReviews, or whoever gets
// to loopback.
const (
	AuthorizationKubernetes = "kubernetes"
	AuthorizationLoopback   = "loopback"
)

// Schedule is a set of paths that is diagnosed again and again.
type Schedule struct {
	Name string
	// Cron is a cron expression of five or six fields (seconds first), a
	// descriptor such as @hourly, or @every DURATION.
	Cron string
	From Selector
	To   Selector
	// Query holds what is asked about each path; its endpoints are empty.
	Query verdict.Query
}

// Equal says whether two schedules ask the same at the same times.
func (s Schedule) Equal(other Schedule) bool { return reflect.DeepEqual(s, other) }

// Default is the configuration of an empty file.
func Default() *Config {
	return &Config{
		Collector:      Collector{MaxAge: 10 * time.Second},
		Confirm:        Confirm{Timeout: 2 * time.Second, PerSecond: 20},
		Cloud:          Cloud{Provider: CloudNone, Credentials: "auto", MaxAge: time.Minute, Timeout: 30 * time.Second},
		SnapshotMaxAge: 5 * time.Minute,
		MaxPathSeries:  100,
		History:        1000,
		Jitter:         0.1,
		Probes:         Probes{Enabled: true, MaxSeries: 1000},
		Controller:     Controller{Timeout: 30 * time.Second},
		Web:            Web{DiagnosesPerSecond: 100, ConfirmsPerSecond: 5},
	}
}
