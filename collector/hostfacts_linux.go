package collector

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// readHostFacts reads what explains failures and is not of the network: for the
// host's own namespace, and for those of what is a node.
func readHostFacts(ctx context.Context, t *target) error {
	if t.ns.Kind != netstack.KindNode {
		return errAbsent
	}
	facts, err := t.facts()
	if err != nil {
		return err
	}
	t.note = facts.MessagesMissing
	facts.Daemons, facts.ProxyMode = t.daemons(ctx, facts.Booted)
	t.ns.Facts = &facts
	return nil
}

// readHostFacts reads those that are the same for all namespaces.
func (h *hostState) readHostFacts(all []*netns) (facts netstack.HostFacts, err error) {
	facts.Kernel = kernelRelease()
	if facts.Booted, facts.Processors, err = readStat(filepath.Join(h.proc, "stat")); err != nil {
		return facts, err
	}
	now := usage{pressure: readPressure(filepath.Join(h.proc, "pressure/memory"))}
	if now.load, err = readLoad(filepath.Join(h.proc, "loadavg")); err != nil {
		return facts, err
	}
	now = h.steady(now, facts.Processors)
	facts.Load, facts.MemoryPressure = now.load, now.pressure
	names := make(map[uint64]string, len(all))
	for _, n := range all {
		names[n.inode] = n.name
	}
	log, err := readKernelLog()
	if err != nil {
		facts.MessagesMissing = fmt.Sprintf("to read what the kernel said needs CAP_SYSLOG: %v", err)
		return facts, nil
	}
	facts.Messages = parseKernelLog(log, facts.Booted, names)
	return facts, nil
}

// usage is how busy the host is.
type usage struct {
	load     [3]float64
	pressure float64
}

// steady returns what was told last, unless it differs by much from what is now: by
// half of the processors, or by ten percent of the time. Nothing else of what is
// collected changes while nothing happens, and agents send what has changed.
func (h *hostState) steady(now usage, processors int) usage {
	h.mu.Lock()
	defer h.mu.Unlock()
	far := math.Abs(now.pressure-h.usage.pressure) > 10
	for i := range now.load {
		far = far || math.Abs(now.load[i]-h.usage.load[i]) > float64(processors)/2
	}
	if far || h.usage == (usage{}) {
		h.usage = now
	}
	return h.usage
}

// readStat reads when the host was booted, and how many processors it has, from
// /proc/stat. The former changes only when the clock is set.
func readStat(file string) (booted time.Time, processors int, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return booted, 0, err
	}
	for line := range strings.Lines(string(data)) {
		key, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case key == "btime":
			seconds, err := strconv.ParseInt(rest, 10, 64)
			if err != nil {
				return booted, 0, fmt.Errorf("%s: btime: %w", file, err)
			}
			booted = time.Unix(seconds, 0).UTC()
		case strings.HasPrefix(key, "cpu") && key != "cpu":
			processors++
		}
	}
	if booted.IsZero() {
		return booted, 0, fmt.Errorf("%s: no btime", file)
	}
	return booted, processors, nil
}

func readLoad(file string) (load [3]float64, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return load, err
	}
	if _, err := fmt.Sscan(string(data), &load[0], &load[1], &load[2]); err != nil {
		return load, fmt.Errorf("%s: %w", file, err)
	}
	return load, nil
}

// readPressure reads the share of the last minute in which some task waited; 0 on a
// kernel that does not measure it.
func readPressure(file string) float64 {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), "avg60=")
	text, _, _ := strings.Cut(rest, " ")
	percent, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0
	}
	return percent
}

// maxKernelLog bounds what is read of the kernel's log: the end of it.
const maxKernelLog = 1 << 20

// readKernelLog reads the kernel's log, which stays as it is: no other reader loses
// a message. syslog(2) needs no device, which containers do not have.
func readKernelLog() (string, error) {
	const readAll, sizeOfBuffer = 3, 10
	size, err := unix.Klogctl(sizeOfBuffer, nil)
	if err != nil {
		return "", err
	}
	buffer := make([]byte, min(size, maxKernelLog))
	n, err := unix.Klogctl(readAll, buffer)
	if err != nil {
		return "", err
	}
	return string(buffer[:n]), nil
}

// Where daemons answer on the node's loopback.
const (
	kubeletHealth = "127.0.0.1:10248" // healthzPort of the kubelet
	proxyMode     = "127.0.0.1:10249" // metricsBindAddress of kube-proxy
)

// runtimeSockets are where clients of container runtimes connect to, in the
// runtime's root directory: the first that is there is asked. K3s and RKE2, k0s, MicroK8s
// and Docker run a containerd of their own.
var runtimeSockets = map[string][]string{
	"containerd": {
		"run/containerd/containerd.sock", "run/k3s/containerd/containerd.sock", "run/k0s/containerd.sock",
		"var/snap/microk8s/common/run/containerd.sock", "run/docker/containerd/containerd.sock",
	},
	"crio":    {"run/crio/crio.sock"},
	"dockerd": {"run/docker.sock"},
}

// answerTime bounds how long a daemon is waited for.
const answerTime = time.Second

// daemons finds the processes in the namespace that a node needs, and asks whether
// they answer. Nobody is asked who was not found.
func (t *target) daemons(ctx context.Context, booted time.Time) (list []netstack.Daemon, mode string) {
	for _, pid := range t.pids {
		process := filepath.Join(t.proc, strconv.Itoa(pid))
		comm, err := os.ReadFile(filepath.Join(process, "comm"))
		name := strings.TrimSpace(string(comm))
		if err != nil || !slices.Contains(netstack.DaemonNames(), name) || slices.ContainsFunc(list, func(d netstack.Daemon) bool { return d.Name == name }) {
			continue
		}
		// Whatever runs in a pod may call itself so; kube-proxy does run in one.
		groups, err := os.ReadFile(filepath.Join(process, "cgroup"))
		if err != nil || name != "kube-proxy" && podUIDOf(string(groups)) != "" {
			continue
		}
		started, err := startOf(process, booted)
		if err != nil {
			continue // it has ended
		}
		d := netstack.Daemon{Name: name, Started: started}
		switch name {
		case "kubelet", "k3s-server", "k3s-agent":
			d.Asked = "http://" + kubeletHealth + "/healthz"
			_, err = get(ctx, kubeletHealth, "/healthz")
		case "kube-proxy":
			d.Asked = "http://" + proxyMode + "/proxyMode"
			mode, err = askProxyMode(ctx)
		default:
			for _, socket := range runtimeSockets[name] {
				at := filepath.Join(process, "root", socket)
				if _, absent := os.Lstat(at); errors.Is(absent, os.ErrNotExist) {
					continue // it may listen elsewhere, which is no fault
				}
				d.Asked, err = "/"+socket, accepts(ctx, at)
				break
			}
		}
		if err != nil {
			d.Failure = reasonOf(err)
		}
		if strings.HasPrefix(name, "k3s-") {
			mode, _ = askProxyMode(ctx) // it is kube-proxy, too
		}
		list = append(list, d)
	}
	return list, mode
}

// startOf is when a process began: field 22 of proc_pid_stat(5), in ticks of USER_HZ
// since the host was booted. The name before it may hold anything.
func startOf(process string, booted time.Time) (time.Time, error) {
	data, err := os.ReadFile(filepath.Join(process, "stat"))
	if err != nil {
		return time.Time{}, err
	}
	const afterName, hertz = 22 - 3, 100
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) <= afterName {
		return time.Time{}, fmt.Errorf("%s/stat: %d fields after the name", process, len(fields))
	}
	ticks, err := strconv.ParseInt(fields[afterName], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s/stat: %w", process, err)
	}
	return booted.Add(time.Duration(ticks/hertz) * time.Second), nil
}

// dial connects from the calling thread: it is the one that is in the namespace.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: answerTime, KeepAlive: -1}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(answerTime))
}

// accepts says whether somebody listens at a socket, and has room for a client.
func accepts(ctx context.Context, socket string) error {
	conn, err := dial(ctx, "unix", socket)
	if err != nil {
		return err
	}
	return conn.Close()
}

// errStatus is an answer that is not 200.
type errStatus int

func (e errStatus) Error() string { return fmt.Sprintf("HTTP status %d", int(e)) }

// get asks over HTTP for a little. A client of net/http would connect on another
// thread.
func get(ctx context.Context, address, path string) (string, error) {
	conn, err := dial(ctx, "tcp4", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.0\r\nHost: %s\r\nUser-Agent: plumbline\r\n\r\n", path, address); err != nil {
		return "", err
	}
	const enough = 4096
	response, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, enough)), nil)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", errStatus(response.StatusCode)
	}
	body, err := io.ReadAll(response.Body)
	return strings.TrimSpace(string(body)), err
}

func askProxyMode(ctx context.Context) (string, error) {
	mode, err := get(ctx, proxyMode, "/proxyMode")
	if err == nil && !slices.Contains(netstack.ProxyModes(), mode) {
		err = errors.New("not a mode of kube-proxy")
		mode = ""
	}
	return mode, err
}

// reasonOf is why somebody did not answer, in words that are the kernel's or ours.
func reasonOf(err error) string {
	var errno unix.Errno
	var status errStatus
	switch {
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &status):
		return status.Error()
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "no answer within " + answerTime.String()
	}
	return "not an answer"
}
