package snapshot

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/bundle"
)

// Version is the newest version of the manifest that a Client understands, and
// the one that a Server makes. It grows only when an older Client would be wrong.
const Version = 1

// Limits of what a Client takes from an agent, far above what a node has.
const (
	MaxManifest   = 64 << 20 // bytes of a manifest
	MaxNamespaces = 4096     // of a node
	MaxFiles      = 64       // of a namespace
	MaxSize       = 2 << 30  // bytes of all files of a node
)

// Hash is the SHA-256 of a blob's content.
type Hash [sha256.Size]byte

// String is the hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(h)) {
		return fmt.Errorf("hash %q: want %d hexadecimal digits", text, hex.EncodedLen(len(h)))
	}
	if _, err := hex.Decode(h[:], text); err != nil {
		return fmt.Errorf("hash %q: %w", text, err)
	}
	return nil
}

// Entry names the content of a file.
type Entry struct {
	SHA256 Hash  `json:"sha256"`
	Size   int64 `json:"size"` // in bytes
}

// Files are those of one namespace, by their names in its directory of a bundle;
// bundle.json is that of a bundle with this namespace alone.
type Files map[string]Entry

// Manifest is the state of one node.
type Manifest struct {
	Version int    `json:"version"`
	Node    string `json:"node"`
	Kernel  string `json:"kernel,omitempty"`
	// Failures are collectors that failed as a whole, by name.
	Failures   map[string]string `json:"failures,omitempty"`
	Namespaces map[string]Files  `json:"namespaces"`
}

// infoFile is the file of a bundle that lies beside the directories of namespaces.
const infoFile = "bundle.json"

// named is the name of a file, and how large it is.
type named struct {
	name string
	size int64
}

// hashes lists the blobs that the manifest names, each once.
func (m *Manifest) hashes() map[Hash]named {
	all := make(map[Hash]named)
	for _, files := range m.Namespaces {
		for name, e := range files {
			all[e.SHA256] = named{name, e.Size}
		}
	}
	return all
}

// decodeManifest reads a manifest, and refuses one that is beyond the limits.
func decodeManifest(data []byte) (*Manifest, error) {
	m := new(Manifest)
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	switch {
	case m.Version > Version:
		return nil, fmt.Errorf("manifest: version %d is newer than %d, the newest that this plumbline reads: update the controller first", m.Version, Version)
	case m.Version < 1:
		return nil, errors.New("manifest: versions count from 1")
	case len(m.Namespaces) > MaxNamespaces:
		return nil, fmt.Errorf("manifest: more than %d network namespaces", MaxNamespaces)
	}
	sizes := make(map[Hash]int64)
	var total int64
	for _, name := range slices.Sorted(maps.Keys(m.Namespaces)) {
		files := m.Namespaces[name]
		if name == "" || len(files) > MaxFiles {
			return nil, fmt.Errorf("manifest: namespace %q: no name, or more than %d files", name, MaxFiles)
		}
		for file, e := range files {
			if path.Base(file) != file || file == ".." || file == "." || strings.ContainsAny(file, "/\\\x00") {
				return nil, fmt.Errorf("manifest: namespace %q: %q is not the name of a file", name, file)
			}
			if e.Size < 0 || e.Size > bundle.MaxFileSize {
				return nil, fmt.Errorf("manifest: namespace %q: %s: %d bytes, not from 0 to %d", name, file, e.Size, bundle.MaxFileSize)
			}
			if other, ok := sizes[e.SHA256]; ok && other != e.Size {
				return nil, fmt.Errorf("manifest: %s has two sizes", e.SHA256)
			}
			sizes[e.SHA256] = e.Size
			if total += e.Size; total > MaxSize {
				return nil, fmt.Errorf("manifest: all files together are larger than %d bytes", MaxSize)
			}
		}
	}
	return m, nil
}
