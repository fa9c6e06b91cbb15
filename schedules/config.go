package schedules

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
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

// maxProbeTimeout is what is waited for at most: longer says nothing more.
const maxProbeTimeout = 10 * time.Second

// maxConfigSize is far above any real configuration; reading stops there.
const maxConfigSize = 4 << 20

// Load reads a configuration file. Errors name file, line and token.
func Load(file string) (*Config, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfigSize+1))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if len(data) > maxConfigSize {
		return nil, fmt.Errorf("%s: larger than %d bytes", file, maxConfigSize)
	}
	return Parse(file, data)
}

// Parse reads the text of a configuration. The file's name is for messages,
// and relative paths in the text are relative to its directory.
func Parse(file string, data []byte) (*Config, error) {
	d := decoder{file: file}
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return Default(), nil
	} else if err != nil {
		return nil, d.syntaxError(err)
	}
	var more yaml.Node
	if err := dec.Decode(&more); err == nil {
		return nil, d.errorf(&more, "", "a second YAML document; only one is allowed")
	} else if !errors.Is(err, io.EOF) {
		return nil, d.syntaxError(err)
	}
	return d.config(doc.Content[0])
}

func (d decoder) config(root *yaml.Node) (*Config, error) {
	c := Default()
	lines := make(map[string]int) // of schedules, by name
	err := d.mapping(root, "", fields{
		"schedules": func(node *yaml.Node, at string) error {
			return d.list(node, at, func(item *yaml.Node, at string) error {
				s, err := d.schedule(item, at)
				if err != nil {
					return err
				}
				if first, ok := lines[s.Name]; ok {
					return d.errorf(item, at+".name", "%q: the schedule in line %d has this name", s.Name, first)
				}
				lines[s.Name] = item.Line
				c.Schedules = append(c.Schedules, s)
				return nil
			})
		},
		"collector": func(node *yaml.Node, at string) error {
			return d.mapping(node, at, fields{
				"namespaces": texts(d, &c.Collector.Namespaces, validPattern),
				"manifests":  scalar(d, &c.Collector.Manifests, d.directory),
				"maxAge":     scalar(d, &c.Collector.MaxAge, duration(0)),
			})
		},
		"confirm": func(node *yaml.Node, at string) error {
			return d.mapping(node, at, fields{
				"timeout": scalar(d, &c.Confirm.Timeout, func(s string) (time.Duration, error) {
					timeout, err := duration(100 * time.Millisecond)(s)
					if err == nil && timeout > maxProbeTimeout {
						err = fmt.Errorf("is more than %s", maxProbeTimeout)
					}
					return timeout, err
				}),
				"perSecond": scalar(d, &c.Confirm.PerSecond, number[int](1, 1000)),
			})
		},
		"kubernetes": func(node *yaml.Node, at string) error {
			err := d.mapping(node, at, fields{
				"kubeconfig": scalar(d, &c.Kubernetes.Kubeconfig, d.existing),
				"inCluster":  scalar(d, &c.Kubernetes.InCluster, boolean),
			})
			if k := c.Kubernetes; err == nil && k.Kubeconfig != "" && k.InCluster {
				err = d.errorf(node, at, "kubeconfig and inCluster exclude each other")
			}
			return err
		},
		"cloud":          func(node *yaml.Node, at string) error { return d.cloud(node, at, &c.Cloud) },
		"snapshotMaxAge": scalar(d, &c.SnapshotMaxAge, duration(time.Second)),
		"maxPathSeries":  scalar(d, &c.MaxPathSeries, number[int](0, 1_000_000)),
		"history":        scalar(d, &c.History, number[int](0, 1_000_000)),
		"jitter":         scalar(d, &c.Jitter, ratio(0, 0.5)),
		"probes": func(node *yaml.Node, at string) error {
			return d.mapping(node, at, fields{
				"enabled":   scalar(d, &c.Probes.Enabled, boolean),
				"maxSeries": scalar(d, &c.Probes.MaxSeries, number[int](1, 1_000_000)),
			})
		},
		"bpfRunSeconds": scalar(d, &c.BPFRunSeconds, boolean),
		"web": func(node *yaml.Node, at string) error {
			return d.mapping(node, at, fields{
				"allowedHosts": texts(d, &c.Web.AllowedHosts, validHost),
				"authorization": scalar(d, &c.Web.Authorization, func(s string) (string, error) {
					if s != AuthorizationKubernetes && s != AuthorizationLoopback {
						return "", errors.New("is not kubernetes or loopback")
					}
					return s, nil
				}),
				"audiences":            texts(d, &c.Web.Audiences, func(string) error { return nil }),
				"metricsListenAddress": scalar(d, &c.Web.MetricsListenAddress, hostPort),
				"metricsConfigFile":    scalar(d, &c.Web.MetricsConfigFile, d.existing),
				"diagnosesPerSecond":   scalar(d, &c.Web.DiagnosesPerSecond, number[int](1, 1_000_000)),
				"confirmsPerSecond":    scalar(d, &c.Web.ConfirmsPerSecond, number[int](1, 1_000_000)),
			})
		},
		"node":       scalar(d, &c.Node, text),
		"controller": func(node *yaml.Node, at string) error { return d.controller(node, at, &c.Controller) },
	})
	if err != nil {
		return nil, err
	}
	if c.Kubernetes != (Kubernetes{}) && c.Collector.Manifests != "" {
		return nil, d.errorf(root, "collector.manifests", "%q: the objects of the cluster come from kubernetes, or from manifests", c.Collector.Manifests)
	}
	if c.Web.MetricsConfigFile != "" && c.Web.MetricsListenAddress == "" {
		return nil, d.errorf(root, "web.metricsConfigFile", "needs web.metricsListenAddress")
	}
	if c.Web.Authorization == AuthorizationKubernetes && c.Kubernetes == (Kubernetes{}) {
		return nil, d.errorf(root, "web.authorization", "needs the API server that decides: kubernetes.kubeconfig or kubernetes.inCluster")
	}
	if c.Controller.Lease != (Lease{}) && c.Kubernetes == (Kubernetes{}) {
		return nil, d.errorf(root, "controller.lease", "needs the API server that has the lease: kubernetes.kubeconfig or kubernetes.inCluster")
	}
	if c.SnapshotMaxAge < c.Collector.MaxAge {
		return nil, d.errorf(root, "snapshotMaxAge", "%q: is less than collector.maxAge (%s), so that every verdict would be unknown",
			c.SnapshotMaxAge, c.Collector.MaxAge)
	}
	if c.Cloud.Provider != CloudNone && c.SnapshotMaxAge < 2*c.Cloud.MaxAge {
		return nil, d.errorf(root, "snapshotMaxAge", "%q: is less than twice cloud.maxAge (%s), so that facts would be too old before they are read again",
			c.SnapshotMaxAge, c.Cloud.MaxAge)
	}
	return c, nil
}

func (d decoder) cloud(node *yaml.Node, at string, c *Cloud) error {
	endpoints := fields{}
	for _, name := range CloudEndpoints {
		endpoints[name] = func(node *yaml.Node, at string) error {
			var u *url.URL
			if err := scalar(d, &u, endpoint(name))(node, at); err != nil {
				return err
			}
			if c.Endpoints == nil {
				c.Endpoints = make(map[string]*url.URL)
			}
			c.Endpoints[name] = u
			return nil
		}
	}
	err := d.mapping(node, at, fields{
		"provider":    scalar(d, &c.Provider, oneOf(CloudNone, CloudAlibaba)),
		"region":      scalar(d, &c.Region, region),
		"credentials": scalar(d, &c.Credentials, oneOf("auto", "environment", "oidc", "instance")),
		"maxAge":      scalar(d, &c.MaxAge, duration(time.Second)),
		"timeout":     scalar(d, &c.Timeout, duration(time.Second)),
		"endpoints":   func(node *yaml.Node, at string) error { return d.mapping(node, at, endpoints) },
	})
	if err == nil && c.Provider != CloudNone && c.Region == "" {
		err = d.errorf(node, at, "needs a region")
	}
	return err
}

// oneOf reads one of some words.
func oneOf(words ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		if !slices.Contains(words, s) {
			return "", fmt.Errorf("is not one of %s", strings.Join(words, ", "))
		}
		return s, nil
	}
}

var regionID = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)+$`)

func region(s string) (string, error) {
	if !regionID.MatchString(s) {
		return "", errors.New("is not the ID of a region such as cn-hangzhou")
	}
	return s, nil
}

// endpoint reads where a part of a cloud's API answers. What leaves the host is
// encrypted, but what the instance's metadata service says.
func endpoint(name string) func(string) (*url.URL, error) {
	return func(s string) (*url.URL, error) {
		u, err := serverURL(s)
		if err != nil {
			return nil, fmt.Errorf("is not a URL such as https://%s.cn-hangzhou.aliyuncs.com", name)
		}
		if u.Scheme == "http" && name != "metadata" && !loopback(u) {
			return nil, errors.New("is not https, which is for what is beyond loopback")
		}
		return u, nil
	}
}

// serverURL reads a URL that names a server, and nothing of it.
func serverURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("is not the URL of a server")
	}
	return u, nil
}

func loopback(u *url.URL) bool {
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

func (d decoder) controller(node *yaml.Node, at string, c *Controller) error {
	lines := make(map[string]int) // of agents, by node
	err := d.mapping(node, at, fields{
		"agents": func(node *yaml.Node, at string) error {
			return d.list(node, at, func(item *yaml.Node, at string) error {
				var a Agent
				err := d.mapping(item, at, fields{"node": scalar(d, &a.Node, text), "url": scalar(d, &a.URL, agentURL)})
				switch {
				case err != nil:
					return err
				case a.Node == "" || a.URL == nil:
					return d.errorf(item, at, "needs a node and a url")
				case lines[a.Node] != 0:
					return d.errorf(item, at+".node", "%q: the agent in line %d is of this node", a.Node, lines[a.Node])
				}
				lines[a.Node] = item.Line
				c.Agents = append(c.Agents, a)
				return nil
			})
		},
		"discover": func(node *yaml.Node, at string) error {
			err := d.mapping(node, at, fields{
				"namespace": scalar(d, &c.Discover.Namespace, text),
				"selector": scalar(d, &c.Discover.Selector, func(s string) (labels.Selector, error) {
					selector, err := labels.Parse(s)
					if err == nil && selector.Empty() {
						err = errors.New("selects every pod")
					}
					return selector, err
				}),
				"port": scalar(d, &c.Discover.Port, number[uint16](1, 65535)),
			})
			if err == nil && (c.Discover.Namespace == "" || c.Discover.Selector == nil || c.Discover.Port == 0) {
				err = d.errorf(node, at, "needs a namespace, a selector and a port")
			}
			return err
		},
		"lease": func(node *yaml.Node, at string) error {
			c.Lease.Duration = 15 * time.Second
			err := d.mapping(node, at, fields{
				"namespace": scalar(d, &c.Lease.Namespace, text),
				"name":      scalar(d, &c.Lease.Name, text),
				"duration":  scalar(d, &c.Lease.Duration, duration(2*time.Second)),
			})
			if err == nil && (c.Lease.Namespace == "" || c.Lease.Name == "") {
				err = d.errorf(node, at, "needs a namespace and a name")
			}
			return err
		},
		"timeout":   scalar(d, &c.Timeout, duration(time.Second)),
		"tokenFile": scalar(d, &c.TokenFile, d.path),
		"tls": func(node *yaml.Node, at string) error {
			return d.mapping(node, at, fields{
				"caFile":     scalar(d, &c.TLS.CAFile, d.path),
				"certFile":   scalar(d, &c.TLS.CertFile, d.path),
				"keyFile":    scalar(d, &c.TLS.KeyFile, d.path),
				"serverName": scalar(d, &c.TLS.ServerName, text),
			})
		},
	})
	if err != nil {
		return err
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		return d.errorf(node, at+".tls", "certFile and keyFile need each other")
	}
	return nil
}

// agentURL reads where an agent listens. What leaves the host is encrypted.
func agentURL(s string) (*url.URL, error) {
	u, err := serverURL(s)
	if err != nil {
		return nil, errors.New("is not a URL such as https://10.0.0.1:9811")
	}
	if u.Scheme == "http" && !loopback(u) {
		return nil, errors.New("is not https, which is for agents beyond loopback")
	}
	return u, nil
}

// path is a file named relative to the configuration file.
func (d decoder) path(s string) (string, error) {
	if s == "" {
		return "", errors.New("is empty")
	}
	if !filepath.IsAbs(s) {
		s = filepath.Join(filepath.Dir(d.file), s)
	}
	return s, nil
}

// label is what a schedule's name must look like: it becomes a label value, a
// part of URLs and of log lines.
var label = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

func (d decoder) schedule(node *yaml.Node, at string) (Schedule, error) {
	s := Schedule{Query: verdict.Query{Protocol: verdict.TCP}}
	q := &s.Query
	// Which line to blame for faults that involve several keys.
	lines := make(map[string]*yaml.Node)
	noting := func(read func(*yaml.Node, string) error) func(*yaml.Node, string) error {
		return func(node *yaml.Node, at string) error {
			lines[at] = node
			return read(node, at)
		}
	}
	err := d.mapping(node, at, fields{
		"name": noting(scalar(d, &s.Name, func(name string) (string, error) {
			if !label.MatchString(name) {
				return "", errors.New("a name has 1 to 63 letters, digits, '-', '_' and '.', and begins with a letter or digit")
			}
			return name, nil
		})),
		"cron": noting(scalar(d, &s.Cron, func(spec string) (string, error) {
			_, err := parseCron(spec)
			return spec, err
		})),
		"from":     noting(scalar(d, &s.From, ParseSelector)),
		"to":       noting(scalar(d, &s.To, ParseSelector)),
		"port":     noting(scalar(d, &q.Port, number[uint16](1, 65535))),
		"protocol": noting(scalar(d, &q.Protocol, protocol)),
		"expect": scalar(d, &q.Expect, func(s string) (verdict.Verdict, error) {
			v := verdict.Verdict(s)
			if v != verdict.Reachable && v != verdict.Unreachable {
				return "", errors.New("is not reachable or unreachable")
			}
			return v, nil
		}),
		"confirm":    scalar(d, &q.Confirm, boolean),
		"sourcePort": noting(scalar(d, &q.SourcePort, number[uint16](1, 65535))),
		"mark":       scalar(d, &q.Mark, number[uint32](0, 1<<32-1)),
		"uid": func(node *yaml.Node, at string) error {
			q.UID = new(uint32)
			return scalar(d, q.UID, number[uint32](0, 1<<32-1))(node, at)
		},
		"dscp": scalar(d, &q.DSCP, number[uint8](0, 63)),
		"icmpType": noting(func(node *yaml.Node, at string) error {
			q.ICMPType = new(uint8)
			return scalar(d, q.ICMPType, number[uint8](0, 255))(node, at)
		}),
		"size": scalar(d, &q.Size, number[int](1, 65535)),
		"via": func(node *yaml.Node, at string) error {
			q.Via = &verdict.Via{}
			err := d.mapping(node, at, fields{
				"namespace": scalar(d, &q.Via.Namespace, text),
				"interface": scalar(d, &q.Via.Interface, text),
			})
			if err == nil && (q.Via.Namespace == "" || q.Via.Interface == "") {
				err = d.errorf(node, at, "needs a namespace and an interface")
			}
			return err
		},
	})
	if err != nil {
		return Schedule{}, err
	}
	for _, key := range []string{"name", "cron", "from", "to"} {
		if lines[join(at, key)] == nil {
			return Schedule{}, d.errorf(node, at, "%s is missing", key)
		}
	}
	// What is left are faults between keys: each names the key to change.
	blame := func(key, format string, args ...any) (Schedule, error) {
		where := lines[join(at, key)]
		if where == nil {
			where = node
		}
		return Schedule{}, d.errorf(where, join(at, key), format, args...)
	}
	icmp := q.Protocol == verdict.ICMP
	switch {
	case icmp && q.Port != 0:
		return blame("port", "\"%d\": icmp has no ports", q.Port)
	case icmp && q.SourcePort != 0:
		return blame("sourcePort", "\"%d\": icmp has no ports", q.SourcePort)
	case !icmp && q.Port == 0:
		return blame("port", "is missing: %s needs a port from 1 to 65535", q.Protocol)
	case !icmp && q.ICMPType != nil:
		return blame("icmpType", "\"%d\": %s has no ICMP type", *q.ICMPType, q.Protocol)
	}
	return s, nil
}

func protocol(s string) (verdict.Protocol, error) {
	p := verdict.Protocol(s)
	if !p.Valid() {
		return "", errors.New("is not one of tcp, udp, sctp, icmp")
	}
	return p, nil
}

func validPattern(s string) error {
	if _, err := path.Match(s, ""); err != nil {
		return errors.New("is not a glob pattern")
	}
	return nil
}

// hostname is deliberately loose: what is compared is the Host header.
var hostname = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

func validHost(s string) error {
	if net.ParseIP(s) == nil && !hostname.MatchString(s) {
		return errors.New("is not a host name or an IP address (without a port)")
	}
	return nil
}

func hostPort(s string) (string, error) {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", errors.New("is not HOST:PORT")
	}
	_, err = number[uint16](0, 65535)(port)
	return s, err
}

// existing checks a file named relative to the configuration file.
func (d decoder) existing(s string) (string, error) {
	if s == "" {
		return "", errors.New("is empty")
	}
	if !filepath.IsAbs(s) {
		s = filepath.Join(filepath.Dir(d.file), s)
	}
	_, err := os.Stat(s)
	if errors.Is(err, os.ErrNotExist) {
		err = errors.New("no such file")
	}
	return s, err
}

// directory checks a directory named relative to the configuration file.
func (d decoder) directory(s string) (string, error) {
	if s == "" {
		return "", errors.New("is empty")
	}
	if !filepath.IsAbs(s) {
		s = filepath.Join(filepath.Dir(d.file), s)
	}
	return directory(s)
}
