package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Paths and headers of the transfer.
const (
	ManifestPath = "/agent/v1/manifest"
	BlobPath     = "/agent/v1/blob/" // and the hash
	// AgeHeader says, in seconds, how old the state is that an answer is about.
	AgeHeader = "Plumbline-Snapshot-Age"
	// maxAgeParameter is how old the state may be, in seconds.
	maxAgeParameter = "maxAge"
)

// Source returns state that is at most maxAge old, if that can be had, else the
// latest, and when collecting it began.
type Source func(ctx context.Context, maxAge time.Duration) (*simulator.Snapshot, time.Time, error)

// Server hands out the state of one node. It implements http.Handler.
type Server struct {
	node   string
	source Source
	log    *slog.Logger
	packer packer
	mux    *http.ServeMux

	mu      sync.Mutex
	of      *simulator.Snapshot // that current was made of
	current generation
	// superseded are blobs that manifests before have named, oldest first: whoever has one of
	// these may be fetching its blobs, and others ask for newer ones meanwhile.
	superseded []supersededBlob
	// known are large texts that were hashed before: dumps of rules that did not
	// change are the same memory.
	known map[string]knownText
}

// generation is a manifest as it is served, with the blobs that it names.
type generation struct {
	etag     string
	manifest []byte
	blobs    map[Hash][]byte // compressed
}

type supersededBlob struct {
	hash   Hash
	packed []byte
	since  time.Time
}

// Blobs are served for so long after they were superseded, but for the last to be, as far as all of them take no more
// bytes than this.
const (
	keepSuperseded = time.Minute
	maxSuperseded  = 32 << 20
)

type knownText struct {
	data  []byte
	entry Entry
}

// NewServer returns a server for the node of that name.
func NewServer(node string, source Source, log *slog.Logger) *Server {
	s := &Server{node: node, source: source, log: log, packer: newPacker(bundle.MaxFileSize), mux: http.NewServeMux()}
	s.mux.HandleFunc("GET "+ManifestPath, s.serveManifest)
	s.mux.HandleFunc("GET "+BlobPath+"{hash}", s.serveBlob)
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func (s *Server) serveManifest(w http.ResponseWriter, r *http.Request) {
	maxAge := time.Duration(0)
	if text := r.URL.Query().Get(maxAgeParameter); text != "" {
		seconds, err := strconv.ParseFloat(text, 64)
		if err != nil || !(seconds >= 0 && seconds <= 86400) {
			http.Error(w, maxAgeParameter+": want seconds, from 0 to 86400", http.StatusBadRequest)
			return
		}
		maxAge = time.Duration(seconds * float64(time.Second))
	}
	snap, began, err := s.source(r.Context(), maxAge)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	g, err := s.publish(snap)
	if err != nil {
		s.log.Error("the state cannot be served", "err", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set(AgeHeader, strconv.FormatFloat(max(0, time.Since(began).Seconds()), 'f', -1, 64)) // rounded up, it might be from before it was asked for
	h.Set("ETag", g.etag)
	if r.Header.Get("If-None-Match") == g.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	s.write(w, g.manifest)
}

func (s *Server) serveBlob(w http.ResponseWriter, r *http.Request) {
	var hash Hash
	if err := hash.UnmarshalText([]byte(r.PathValue("hash"))); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	data := s.current.blobs[hash]
	for i := 0; data == nil && i < len(s.superseded); i++ {
		if s.superseded[i].hash == hash {
			data = s.superseded[i].packed
		}
	}
	s.mu.Unlock()
	if data == nil {
		http.Error(w, "no manifest of late names this blob", http.StatusNotFound)
		return
	}
	s.write(w, data)
}

func (s *Server) write(w http.ResponseWriter, packed []byte) {
	w.Header().Set("Content-Type", "application/zstd")
	w.Header().Set("Content-Length", strconv.Itoa(len(packed)))
	if _, err := w.Write(packed); err != nil {
		s.log.Debug("answer broken off", "err", err)
	}
}

// publish makes the snapshot the current generation, if it is not yet.
func (s *Server) publish(snap *simulator.Snapshot) (generation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == snap {
		return s.current, nil
	}
	b := &builder{server: s, blobs: make(map[Hash][]byte), known: make(map[string]knownText)}
	m := &Manifest{Version: Version, Node: s.node, Kernel: snap.Kernel, Failures: snap.Failures, Namespaces: make(map[string]Files, len(snap.Namespaces))}
	for _, ns := range snap.Namespaces {
		files, err := b.namespace(ns)
		if err != nil {
			return generation{}, err
		}
		m.Namespaces[ns.Name] = files
	}
	data, err := json.Marshal(m) // with sorted keys: the same state, the same bytes
	if err != nil {
		return generation{}, err
	}
	sum := sha256.Sum256(data)
	g := generation{etag: `"` + hex.EncodeToString(sum[:]) + `"`, blobs: b.blobs}
	s.of, s.known = snap, b.known
	if g.etag == s.current.etag {
		return s.current, nil
	}
	g.manifest = s.packer.pack(data)
	s.supersede(g, time.Now())
	return g, nil
}

// supersede makes g the current generation.
func (s *Server) supersede(g generation, now time.Time) {
	for hash, packed := range s.current.blobs {
		if g.blobs[hash] == nil {
			s.superseded = append(s.superseded, supersededBlob{hash, packed, now})
		}
	}
	s.current = g
	size := 0
	for _, b := range s.superseded {
		size += len(b.packed)
	}
	gone := 0
	for _, b := range s.superseded {
		if !b.since.Before(now) || now.Sub(b.since) <= keepSuperseded && size <= maxSuperseded {
			break
		}
		size -= len(b.packed)
		gone++
	}
	s.superseded = slices.Delete(s.superseded, 0, gone)
}

// builder makes the blobs of one generation, with those of the one before.
type builder struct {
	server *Server
	blobs  map[Hash][]byte
	known  map[string]knownText
}

// namespace makes the files of one namespace.
func (b *builder) namespace(ns *netstack.Namespace) (Files, error) {
	timeless := *ns
	timeless.Taken = time.Time{}
	all, err := bundle.Files(&simulator.Snapshot{Namespaces: []*netstack.Namespace{&timeless}})
	if err != nil {
		return nil, err
	}
	files := make(Files, len(all))
	for name, data := range all {
		files[path.Base(name)] = b.blob(name, data)
	}
	if len(files) != len(all) {
		return nil, fmt.Errorf("namespace %q: two files of one name", ns.Name)
	}
	return files, nil
}

// largeText is from where on a text is worth remembering, in bytes.
const largeText = 64 << 10

func (b *builder) blob(name string, data []byte) Entry {
	var e Entry
	if k, ok := b.server.known[name]; ok && len(data) == len(k.data) && &data[0] == &k.data[0] {
		e = k.entry
	} else {
		e = Entry{SHA256: sha256.Sum256(data), Size: int64(len(data))}
	}
	if len(data) >= largeText {
		b.known[name] = knownText{data, e}
	}
	if _, ok := b.blobs[e.SHA256]; !ok {
		packed, ok := b.server.current.blobs[e.SHA256]
		if !ok {
			packed = b.server.packer.pack(data)
		}
		b.blobs[e.SHA256] = packed
	}
	return e
}
