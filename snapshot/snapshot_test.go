package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/plumbline-net/plumbline/internal/proxyrules"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// agent serves whatever snapshot it holds.
type agent struct {
	*httptest.Server
	url    *url.URL
	snap   atomic.Pointer[simulator.Snapshot]
	began  atomic.Pointer[time.Time]
	broken atomic.Pointer[http.HandlerFunc] // answers requests for blobs instead
	blobs  atomic.Int64                     // asked for
}

func newAgent(t *testing.T, node string) *agent {
	t.Helper()
	a := &agent{}
	a.set(sample(t))
	server := NewServer(node, func(context.Context, time.Duration) (*simulator.Snapshot, time.Time, error) {
		if a.snap.Load() == nil {
			return nil, time.Time{}, errors.New("nothing was collected yet")
		}
		return a.snap.Load(), *a.began.Load(), nil
	}, slog.New(slog.DiscardHandler))
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, BlobPath) {
			a.blobs.Add(1)
			if broken := a.broken.Load(); broken != nil {
				(*broken)(w, r)
				return
			}
		}
		server.ServeHTTP(w, r)
	}))
	t.Cleanup(a.Close)
	var err error
	if a.url, err = url.Parse(a.URL); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *agent) set(snap *simulator.Snapshot) {
	now := time.Now()
	a.began.Store(&now)
	a.snap.Store(snap)
}

func sample(t *testing.T) *simulator.Snapshot {
	t.Helper()
	snap, err := bundle.Read("../examples/lab.tar.zst")
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

func newTestClient(t *testing.T) *Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return NewClient(&http.Client{Transport: transport}, NewStore(), time.Minute)
}

func fetch(t *testing.T, c *Client, a *agent, before *State) Fetched {
	t.Helper()
	f, err := c.Fetch(t.Context(), a.url, 0, before)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// timeless are the namespaces of a snapshot as a manifest has them.
func timeless(snap *simulator.Snapshot) []*netstack.Namespace {
	var all []*netstack.Namespace
	for _, ns := range snap.Namespaces {
		n := *ns
		n.Taken = time.Time{}
		all = append(all, &n)
	}
	return all
}

func TestAStateArrivesAsItWasRead(t *testing.T) {
	a, c := newAgent(t, "node-1"), newTestClient(t)
	began := time.Now().Add(-time.Minute)
	a.began.Store(&began)
	f := fetch(t, c, a, nil)
	if diff := cmp.Diff(timeless(sample(t)), f.State.Namespaces, cmp.Comparer(func(a, b interface{ String() string }) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if f.State.Manifest.Node != "node-1" || f.State.Manifest.Kernel != sample(t).Kernel {
		t.Errorf("manifest of %q, kernel %q", f.State.Manifest.Node, f.State.Manifest.Kernel)
	}
	if late := f.Taken.Sub(began); late < -time.Millisecond || f.Taken.After(time.Now().Add(-time.Minute)) {
		t.Errorf("taken %s after it was, by this clock", late)
	}
}

// What was read again and found as before is not fetched again, however old it
// says it is.
func TestNothingIsFetchedThatDidNotChange(t *testing.T) {
	a, c := newAgent(t, "node-1"), newTestClient(t)
	first := fetch(t, c, a, nil)
	asked := a.blobs.Load()
	if asked == 0 || int64(first.Blobs) != asked {
		t.Fatalf("%d blobs fetched, %d asked for", first.Blobs, asked)
	}
	snap := sample(t)
	for _, ns := range snap.Namespaces {
		ns.Taken = ns.Taken.Add(time.Hour)
	}
	a.set(snap)
	second := fetch(t, c, a, first.State)
	if second.State != first.State || second.Blobs != 0 || a.blobs.Load() != asked || !second.Taken.After(first.Taken) {
		t.Errorf("%d blobs were fetched again; the state is the same: %t, and younger: %t",
			second.Blobs, second.State == first.State, second.Taken.After(first.Taken))
	}

	snap = sample(t)
	snap.Namespaces[2].Sysctls["net.ipv4.ip_forward"] = "7"
	a.set(snap)
	third := fetch(t, c, a, first.State)
	if third.Blobs != 1 {
		t.Errorf("%d blobs fetched, of which one changed", third.Blobs)
	}
	for i, ns := range third.State.Namespaces {
		if same := ns == first.State.Namespaces[i]; same != (i != 2) {
			t.Errorf("%s: same memory: %t", ns.Name, same)
		}
	}
	if got := third.State.Namespaces[2].Sysctls["net.ipv4.ip_forward"]; got != "7" {
		t.Errorf("the change did not arrive: %q", got)
	}
}

// Blobs that several nodes have are fetched and kept once, and go with the last
// state that names them.
func TestBlobsAreSharedAndDropped(t *testing.T) {
	one, two, c := newAgent(t, "node-1"), newAgent(t, "node-2"), newTestClient(t)
	first := fetch(t, c, one, nil)
	blobs, size := c.store.Len()
	if blobs == 0 || size == 0 {
		t.Fatal("nothing is kept")
	}
	second := fetch(t, c, two, nil)
	if n, _ := c.store.Len(); second.Blobs != 0 || n != blobs {
		t.Errorf("%d blobs were fetched although they are there; kept are %d, not %d", second.Blobs, n, blobs)
	}
	c.Release(first.State)
	if n, s := c.store.Len(); n != blobs || s != size {
		t.Errorf("%d blobs are left of %d although a node has them", n, blobs)
	}
	c.Release(second.State)
	if n, s := c.store.Len(); n != 0 || s != 0 {
		t.Errorf("%d blobs, %d bytes are kept although nobody has them", n, s)
	}
}

func TestATransferIsAllOrNothing(t *testing.T) {
	type test struct {
		broken http.HandlerFunc
		want   string
	}
	pack := newPacker(1 << 20).pack
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write(make([]byte, 500))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler) // as a process that is killed
	}
	for name, test := range map[string]test{
		"an agent that dies meanwhile": {cut, "unexpected EOF"},
		"another content":              {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(pack([]byte("x"))) }, "unpacks to 1 bytes"},
		"what is not compressed":       {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello, there is nothing here") }, "zstd"},
		"nothing":                      {func(http.ResponseWriter, *http.Request) {}, "zstd"},
		"more than there should be":    {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 40<<20)) }, "larger than"},
		"blobs that are gone":          {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, "the state has changed meanwhile"},
		"an agent that knows nobody":   {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "who are you?", http.StatusUnauthorized) }, "401 Unauthorized: who are you?"},
	} {
		t.Run(name, func(t *testing.T) {
			a, c := newAgent(t, "node-1"), newTestClient(t)
			first := fetch(t, c, a, nil)
			blobs, size := c.store.Len()
			snap := sample(t)
			for _, ns := range snap.Namespaces {
				ns.Sysctls["net.ipv4.ip_forward"] = ns.Name // so that there are several
			}
			a.set(snap)
			a.broken.Store(&test.broken)
			_, err := c.Fetch(t.Context(), a.url, 0, first.State)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			if n, s := c.store.Len(); n != blobs || s != size {
				t.Errorf("%d blobs, %d bytes are kept; before they were %d, %d", n, s, blobs, size)
			}
			a.broken.Store(nil)
			if f := fetch(t, c, a, first.State); f.Blobs != len(snap.Namespaces) {
				t.Errorf("%d blobs fetched afterwards, want %d", f.Blobs, len(snap.Namespaces))
			}
		})
	}
}

// Whoever is slow gets the blobs of its manifest, whatever others ask for meanwhile: for a minute, and the last ones.
func TestBlobsOutliveTheirManifest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text []byte
		server := NewServer("node-1", func(context.Context, time.Duration) (*simulator.Snapshot, time.Time, error) {
			host := &netstack.Namespace{Name: "host", Kind: netstack.KindNode, Conntrack: netstack.Text{Data: text}}
			host.SetPart(netstack.PartConntrack, netstack.Status{State: netstack.StateOK})
			return &simulator.Snapshot{Namespaces: []*netstack.Namespace{host}}, time.Now(), nil
		}, slog.New(slog.DiscardHandler))
		get := func(path string) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			return w
		}
		// publish returns the blob of a text, after a second.
		publish := func(now []byte) Hash {
			t.Helper()
			time.Sleep(time.Second)
			text = now
			if w := get(ManifestPath); w.Code != http.StatusOK {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			return sha256.Sum256(text)
		}
		served := func(blobs ...Hash) (all []bool) {
			for _, hash := range blobs {
				all = append(all, get(BlobPath+hash.String()).Code == http.StatusOK)
			}
			return all
		}
		first := publish([]byte("first"))
		var others []Hash
		for i := range 59 {
			others = append(others, publish(fmt.Append(nil, i)))
		}
		if got := served(append(others, first)...); slices.Contains(got, false) {
			t.Errorf("within a minute, served are %v", got)
		}
		time.Sleep(time.Minute)
		others = append(others, publish([]byte("last")))
		if got := served(first, others[57], others[58], others[59]); !slices.Equal(got, []bool{false, false, true, true}) {
			t.Errorf("a minute later, of the first and the last three are served %v", got)
		}

		// Large ones are fewer.
		random, large := rand.NewChaCha8([32]byte{}), make([]Hash, 7)
		for i := range large {
			data := make([]byte, maxSuperseded/4)
			_, _ = random.Read(data)
			large[i] = publish(data)
		}
		if got := served(large...); !slices.Equal(got, []bool{false, false, false, true, true, true, true}) {
			t.Errorf("of the large ones are served %v", got)
		}
	})
}

// One of the two has the right size, too.
func TestAnotherContentOfTheSameSize(t *testing.T) {
	a, c := newAgent(t, "node-1"), newTestClient(t)
	broken := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var hash Hash
		_ = hash.UnmarshalText([]byte(r.URL.Path[len(BlobPath):]))
		server := NewServer("", func(context.Context, time.Duration) (*simulator.Snapshot, time.Time, error) {
			return sample(t), time.Now(), nil
		}, slog.New(slog.DiscardHandler))
		g, err := server.publish(sample(t))
		if err != nil {
			t.Error(err)
		}
		data, _ := server.packer.unpack(g.blobs[hash], -1)
		if len(data) > 0 {
			data[0] ^= 1
		}
		_, _ = w.Write(server.packer.pack(data))
	})
	a.broken.Store(&broken)
	if _, err := c.Fetch(t.Context(), a.url, 0, nil); err == nil || !strings.Contains(err.Error(), "the content is another one") {
		t.Errorf("error %v", err)
	}
}

func TestManifestsBeyondTheLimitsAreRefused(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	file := func(name string, size int64) string {
		return fmt.Sprintf(`{"version":1,"namespaces":{"n":{%q:{"sha256":"%s","size":%d}}}}`, name, hash, size)
	}
	many := func(n int, item string) string {
		return strings.Join(slices.Collect(func(yield func(string) bool) {
			for i := range n {
				if !yield(fmt.Sprintf(item, i)) {
					return
				}
			}
		}), ",")
	}
	for text, want := range map[string]string{
		`{`:                     "manifest: unexpected end of JSON input",
		`{"version":2}`:         "manifest: version 2 is newer than 1, the newest that this plumbline reads: update the controller first",
		`{"node":"a"}`:          "manifest: versions count from 1",
		file("../x", 1):         `manifest: namespace "n": "../x" is not the name of a file`,
		file("..", 1):           `manifest: namespace "n": ".." is not the name of a file`,
		file("nft.json", -1):    `manifest: namespace "n": nft.json: -1 bytes, not from 0 to 536870912`,
		file("nft.json", 1<<40): `manifest: namespace "n": nft.json: 1099511627776 bytes, not from 0 to 536870912`,
		strings.Replace(file("a", 1), "ab", "", 1): `manifest: hash "` + hash[2:] + `": want 64 hexadecimal digits`,
		`{"version":1,"namespaces":{"n":{"a":{"sha256":"` + hash + `","size":1},"b":{"sha256":"` + hash + `","size":2}}}}`: "manifest: " + hash + " has two sizes",
		`{"version":1,"namespaces":{` + many(MaxNamespaces+1, `"n%d":{}`) + `}}`:                                           "manifest: more than 4096 network namespaces",
		`{"version":1,"namespaces":{"n":{` + many(MaxFiles+1, `"f%d":{"sha256":"`+hash+`"}`) + `}}}`:                       `manifest: namespace "n": no name, or more than 64 files`,
		`{"version":1,"namespaces":{"n":{` + many(5, `"f%d":{"sha256":"`+hash+`","size":536870912}`) + `}}}`:               "manifest: all files together are larger than 2147483648 bytes",
	} {
		if _, err := decodeManifest([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%.100s: %v, want %s", text, err, want)
		}
	}
}

func TestAnAgentWithoutStateSaysSo(t *testing.T) {
	a, c := newAgent(t, "node-1"), newTestClient(t)
	a.snap.Store(nil)
	if _, err := c.Fetch(t.Context(), a.url, 0, nil); err == nil || err.Error() != "503 Service Unavailable: nothing was collected yet" {
		t.Errorf("error %v", err)
	}
}

// What was collected because it was asked for is not said to be older than the question.
func TestAgesAreNotRoundedUp(t *testing.T) {
	c := newTestClient(t)
	var began time.Time
	server := httptest.NewServer(NewServer("node-1", func(context.Context, time.Duration) (*simulator.Snapshot, time.Time, error) {
		began = time.Now().Add(-600 * time.Microsecond)
		return sample(t), began, nil
	}, slog.New(slog.DiscardHandler)))
	defer server.Close()
	url, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	var state *State
	for range 100 {
		f, err := c.Fetch(t.Context(), url, 0, state)
		if err != nil {
			t.Fatal(err)
		}
		if state = f.State; f.Taken.Before(began) {
			t.Fatalf("state of %s is said to be of %s", began, f.Taken)
		}
	}
}

// TestLargeRulesStayPacked fetches rules of many lines from two nodes: they are compiled and
// written as they were read, and their text is kept once, compressed.
func TestLargeRulesStayPacked(t *testing.T) {
	spec := proxyrules.Spec{Services: 500, Endpoints: 2}
	snap := func(text string) *simulator.Snapshot {
		s := sample(t)
		ns := s.Namespaces[0]
		ns.IPTables = []netstack.IPTablesDump{{
			Family: netstack.IPv4, Backend: netstack.BackendLegacy, Text: netstack.Text{File: "iptables-save-legacy.txt", Data: []byte(text)},
		}}
		ns.SetPart(netstack.PartIPTables4Legacy, netstack.Status{State: netstack.StateOK})
		return s
	}
	text := string(spec.IPTables())
	c := newTestClient(t)
	var states []*State
	for _, node := range []string{"node-1", "node-2"} {
		a := newAgent(t, node)
		a.set(snap(text))
		states = append(states, fetch(t, c, a, nil).State)
	}
	legacy := func(s *State) netstack.Text {
		all := s.Namespaces[0].IPTables
		return all[slices.IndexFunc(all, func(d netstack.IPTablesDump) bool {
			return d.Family == netstack.IPv4 && d.Backend == netstack.BackendLegacy
		})].Text
	}
	one, other := legacy(states[0]), legacy(states[1])
	if one.Data != nil || one.Packed == nil || one.Packed != other.Packed {
		t.Errorf("the text of both nodes is kept as %T and %T, and %d bytes", one.Packed, other.Packed, len(one.Data))
	}
	want, err := bundle.Files(&simulator.Snapshot{Namespaces: timeless(snap(text))})
	if err != nil {
		t.Fatal(err)
	}
	got, err := bundle.Files(&simulator.Snapshot{Namespaces: states[0].Namespaces})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	coverage := func(s *simulator.Snapshot) int {
		rs, err := netfilter.Compile(s.Namespaces[0])
		if err != nil {
			t.Fatal(err)
		}
		rules, _ := rs.Coverage()
		return rules
	}
	if want, got := coverage(snap(text)), coverage(&simulator.Snapshot{Namespaces: states[0].Namespaces}); got != want || got < 500 {
		t.Errorf("%d rules, want %d", got, want)
	}
	// A part of the state that is malformed is found where it is compiled.
	a := newAgent(t, "node-3")
	a.set(snap(text + "*nat\n"))
	if _, err := netfilter.Compile(fetch(t, c, a, nil).State.Namespaces[0]); err == nil || !strings.Contains(err.Error(), "table occurs twice") {
		t.Errorf("a table that occurs twice: %v", err)
	}
}
