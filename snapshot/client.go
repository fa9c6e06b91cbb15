package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

const (
	// agentsAtOnce is how many agents hand over blobs at the same time. Those whose manifest is waited
	// for do not count.
	agentsAtOnce = 32
	// blobsAtOnce is how many blobs are fetched from one agent at the same time.
	blobsAtOnce = 4
)

// Client fetches the state of agents into a Store. It may be used by several goroutines.
type Client struct {
	http    *http.Client
	store   *Store
	timeout time.Duration
	packer  packer
	turns   chan struct{} // holds one for each agent that hands over blobs
}

// NewClient returns a client that keeps what it fetches in store. How it talks to
// agents, and proves who it is, is httpClient's business. An agent may take as long as the timeout for
// its manifest, and as long again for the blobs.
func NewClient(httpClient *http.Client, store *Store, timeout time.Duration) *Client {
	return &Client{http: httpClient, store: store, timeout: timeout, packer: newPacker(bundle.MaxFileSize), turns: make(chan struct{}, agentsAtOnce)}
}

// State is the state of a node, complete. It is immutable, until it is released.
type State struct {
	Manifest *Manifest
	// Namespaces are sorted by name. Those that did not change since the State
	// before are the same pointers.
	Namespaces []*netstack.Namespace

	etag   string
	hashes []Hash // that it keeps in the store
}

// Fetched is what an agent answered.
type Fetched struct {
	State *State
	// Taken is when collecting it began, by the clock of this process.
	Taken time.Time
	// Blobs and Bytes are what had to be fetched, compressed.
	Blobs int
	Bytes int64
}

// errGone says that the agent has let go of a blob: there is newer state.
var errGone = errors.New("the state has changed meanwhile")

// Fetch asks an agent for state that is at most maxAge old. Before is the agent's
// State that was fetched last, or nil; if nothing changed, it is returned again.
// A new State is to be released when it is not used any more.
func (c *Client) Fetch(ctx context.Context, agent *url.URL, maxAge time.Duration, before *State) (Fetched, error) {
	for again := false; ; again = true {
		f, err := c.fetch(ctx, agent, maxAge, before)
		if err == nil || again || !errors.Is(err, errGone) {
			return f, err
		}
	}
}

// Release lets go of the state's blobs.
func (c *Client) Release(s *State) {
	if s != nil {
		c.store.release(s.hashes)
		s.hashes = nil
	}
}

func (c *Client) fetch(ctx context.Context, agent *url.URL, maxAge time.Duration, before *State) (Fetched, error) {
	target := agent.JoinPath(ManifestPath)
	target.RawQuery = url.Values{maxAgeParameter: {strconv.FormatFloat(max(0, maxAge.Seconds()), 'f', 3, 64)}}.Encode()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(c.timeout, func() { cancel(fmt.Errorf("it takes longer than %s", c.timeout)) })
	defer late.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return Fetched{}, err
	}
	if before != nil {
		req.Header.Set("If-None-Match", before.etag)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return Fetched{}, err
	}
	answered := time.Now()
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && (resp.StatusCode != http.StatusNotModified || before == nil) {
		return Fetched{}, refusal(resp)
	}
	age, err := strconv.ParseFloat(resp.Header.Get(AgeHeader), 64)
	if err != nil || !(age >= 0) || age > math.MaxInt64/2/float64(time.Second) {
		return Fetched{}, fmt.Errorf("%s: %q is not a number of seconds", AgeHeader, resp.Header.Get(AgeHeader))
	}
	f := Fetched{State: before, Taken: answered.Add(-time.Duration(age * float64(time.Second)))}
	if resp.StatusCode == http.StatusNotModified {
		return f, nil
	}
	packed, err := io.ReadAll(io.LimitReader(resp.Body, MaxManifest+1))
	if err != nil {
		return Fetched{}, fmt.Errorf("manifest: %w", err)
	}
	if len(packed) > MaxManifest {
		return Fetched{}, fmt.Errorf("manifest: larger than %d bytes", MaxManifest)
	}
	late.Stop() // that others take their time is not its fault
	select {
	case c.turns <- struct{}{}:
		defer func() { <-c.turns }()
	case <-ctx.Done():
		return Fetched{}, context.Cause(ctx)
	}
	late.Reset(c.timeout)
	data, err := newPacker(MaxManifest).unpack(packed, -1)
	if err != nil {
		return Fetched{}, fmt.Errorf("manifest: %w", err)
	}
	m, err := decodeManifest(data)
	if err != nil {
		return Fetched{}, err
	}
	t := &transfer{client: c, agent: agent, blobs: make(map[Hash]*blob)}
	if err := t.fetch(ctx, m); err != nil {
		c.store.release(t.held())
		return Fetched{}, err
	}
	state := &State{Manifest: m, etag: resp.Header.Get("ETag"), hashes: t.held()}
	if state.Namespaces, err = t.namespaces(m, before); err != nil {
		c.store.release(state.hashes)
		return Fetched{}, err
	}
	f.State, f.Blobs, f.Bytes = state, t.count, t.bytes+int64(len(packed))
	return f, nil
}

// refusal is an answer that is none, with the beginning of what it says.
func refusal(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
	return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(text)))
}

// transfer gathers the blobs of a manifest.
type transfer struct {
	client *Client
	agent  *url.URL

	mu    sync.Mutex
	blobs map[Hash]*blob // each is held in the store
	count int
	bytes int64
}

func (t *transfer) held() []Hash { return slices.Collect(maps.Keys(t.blobs)) }

func (t *transfer) fetch(ctx context.Context, m *Manifest) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(blobsAtOnce)
	for hash, file := range m.hashes() {
		if b, ok := t.client.store.use(hash); ok {
			t.mu.Lock()
			t.blobs[hash] = b
			t.mu.Unlock()
			continue
		}
		group.Go(func() error {
			if err := t.blob(ctx, hash, file); err != nil {
				return fmt.Errorf("blob %s: %w", hash, err)
			}
			return nil
		})
	}
	return group.Wait()
}

func (t *transfer) blob(ctx context.Context, hash Hash, file named) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.agent.JoinPath(BlobPath, hash.String()).String(), nil)
	if err != nil {
		return err
	}
	resp, err := t.client.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return errGone
	default:
		return refusal(resp)
	}
	// What cannot be compressed grows a little.
	limit := file.size + file.size/8 + 1024
	packed, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return err
	}
	if int64(len(packed)) > limit {
		return fmt.Errorf("larger than the %d bytes that it unpacks to", file.size)
	}
	data, err := t.client.packer.unpack(packed, file.size)
	if err != nil {
		return err
	}
	if sum := Hash(sha256.Sum256(data)); sum != hash {
		return fmt.Errorf("the content is another one: %s", sum)
	}
	// What was read into has room to spare.
	fresh := &blob{packed: bytes.Clone(packed), size: file.size, packer: t.client.packer}
	if shelf := t.client.store.shelves[file.name]; shelf != nil && file.size >= largeText {
		shelf.shrink(fresh, data)
	}
	b := t.client.store.add(hash, fresh)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.blobs[hash] = b
	t.count++
	t.bytes += int64(len(packed))
	return nil
}

// namespaces decodes those that changed.
func (t *transfer) namespaces(m *Manifest, before *State) ([]*netstack.Namespace, error) {
	known := make(map[string]*netstack.Namespace)
	if before != nil {
		for _, ns := range before.Namespaces {
			if maps.Equal(before.Manifest.Namespaces[ns.Name], m.Namespaces[ns.Name]) {
				known[ns.Name] = ns
			}
		}
	}
	all := make([]*netstack.Namespace, 0, len(m.Namespaces))
	for _, name := range slices.Sorted(maps.Keys(m.Namespaces)) {
		ns := known[name]
		if ns == nil {
			var err error
			if ns, err = t.namespace(name, m.Namespaces[name]); err != nil {
				return nil, fmt.Errorf("namespace %q: %w", name, err)
			}
		}
		all = append(all, ns)
	}
	return all, nil
}

func (t *transfer) namespace(name string, files Files) (*netstack.Namespace, error) {
	dir := path.Join("netns", url.PathEscape(name))
	unpacked := make(map[string][]byte, len(files))
	packed := make(map[string]*blob)
	for file, e := range files {
		b := t.blobs[e.SHA256]
		if file != infoFile {
			file = path.Join(dir, file)
		}
		if e.Size >= largeText && staysPacked[path.Base(file)] {
			unpacked[file], packed[file] = nil, b
			continue
		}
		var err error
		if unpacked[file], err = b.Unpack(); err != nil {
			return nil, fmt.Errorf("%s: %w", path.Base(file), err)
		}
	}
	snap, err := bundle.Decode(unpacked)
	if err != nil {
		return nil, err
	}
	if len(snap.Namespaces) != 1 || snap.Namespaces[0].Name != name {
		return nil, errors.New("its files are not those of one namespace of that name")
	}
	ns := snap.Namespaces[0]
	for _, text := range ns.Packable() {
		if b := packed[text.File]; b != nil {
			text.Packed = b
			delete(packed, text.File)
		}
	}
	for file := range packed {
		return nil, fmt.Errorf("%s: is of no part of the state", file)
	}
	return ns, nil
}

// staysPacked are files that are only looked at when they are compiled: those of
// all nodes together are many times what the rest takes.
var staysPacked = map[string]bool{
	"iptables-save.txt": true, "ip6tables-save.txt": true, "iptables-save-legacy.txt": true, "ip6tables-save-legacy.txt": true,
	"nft.json": true, "ipset-save.txt": true, "conntrack.txt": true,
}
