package bundle

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Limits of what is read, so that a bundle from elsewhere cannot exhaust the
// machine that looks at it. They are far above real bundles.
const (
	// MaxFileSize bounds one file: nft -j prints about 110 MB for 10,000
	// Services.
	MaxFileSize = 512 << 20
	// MaxTotalSize bounds all files together, and what an archive unpacks to:
	// all of it is held in memory.
	MaxTotalSize = 2 << 30
	// MaxEntries bounds files and directories: a cluster of 100 nodes with 110
	// pods each has 24 files a namespace.
	MaxEntries = 300_000
	// MaxDepth bounds the elements of a path: netns/NAME/FILE in a directory
	// around it is 4, cloud/alibaba/REGION/FILE in one is 5.
	MaxDepth = 8
)

type limits struct {
	file, total    int64
	entries, depth int
}

func defaultLimits() limits { return limits{MaxFileSize, MaxTotalSize, MaxEntries, MaxDepth} }

// loader collects files within limits.
type loader struct {
	limits
	files   map[string][]byte
	size    int64
	entries int
}

func newLoader(l limits) *loader { return &loader{limits: l, files: make(map[string][]byte)} }

// entry counts a file or directory.
func (l *loader) entry(name string) error {
	l.entries++
	if l.entries > l.limits.entries {
		return fmt.Errorf("more than %d files and directories", l.limits.entries)
	}
	if depth := 1 + strings.Count(name, "/"); depth > l.depth {
		return fmt.Errorf("%s: deeper than %d directories", name, l.depth)
	}
	return nil
}

// add reads one file.
func (l *loader) add(name string, r io.Reader) error {
	if _, twice := l.files[name]; twice {
		return fmt.Errorf("%s: is there twice", name)
	}
	limit := min(l.file, l.total-l.size)
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	case int64(len(data)) > l.file:
		return fmt.Errorf("%s: larger than %d bytes", name, l.file)
	case int64(len(data)) > limit:
		return fmt.Errorf("%s: all files together are larger than %d bytes", name, l.total)
	}
	l.size += int64(len(data))
	l.files[name] = data
	return nil
}

// loadPath reads the files of a directory or archive.
func loadPath(name string) (map[string][]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, bare(err)
	}
	if info.IsDir() {
		root, err := os.OpenRoot(name)
		if err != nil {
			return nil, bare(err)
		}
		defer root.Close()
		return loadFS(root.FS(), defaultLimits())
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("neither a directory nor a file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, bare(err)
	}
	defer f.Close()
	return loadArchive(f, defaultLimits())
}

// bare takes the path off an error, where the caller names it.
func bare(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// loadFS reads the files of a file system.
func loadFS(fsys fs.FS, lim limits) (map[string][]byte, error) {
	l := newLoader(lim)
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name == "." {
			return nil
		}
		if err := l.entry(name); err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return nil
		case d.Type()&fs.ModeSymlink != 0:
			return fmt.Errorf("%s: is a symbolic link; links are not followed", name)
		case !d.Type().IsRegular():
			return fmt.Errorf("%s: is neither a file nor a directory", name)
		}
		f, err := fsys.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		return l.add(name, f)
	})
	if err != nil {
		return nil, err
	}
	return l.files, nil
}

// loadArchive reads the files of a tar, plain or compressed.
func loadArchive(r io.Reader, lim limits) (map[string][]byte, error) {
	unpacked, done, err := decompress(r)
	if err != nil {
		return nil, err
	}
	defer done()
	// Headers and padding count too, or an archive of nothing else could go on
	// for ever.
	bounded := &boundedReader{r: unpacked, left: lim.total + int64(lim.entries)*1024, limit: lim.total}
	l := newLoader(lim)
	tr := tar.NewReader(bounded)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return l.files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("archive: %w", err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		name, err := entryName(h.Name)
		if err != nil {
			return nil, err
		}
		if err := l.entry(name); err != nil {
			return nil, err
		}
		switch h.Typeflag {
		case tar.TypeDir:
		case tar.TypeReg:
			if name == "." {
				return nil, fmt.Errorf("archive: entry %q has no name", h.Name)
			}
			if err := l.add(name, tr); err != nil {
				return nil, err
			}
		case tar.TypeSymlink:
			return nil, fmt.Errorf("%s: is a symbolic link; links are not followed", name)
		case tar.TypeLink:
			return nil, fmt.Errorf("%s: is a hard link; links are not followed", name)
		default:
			return nil, fmt.Errorf("%s: is neither a file nor a directory", name)
		}
	}
}

// entryName cleans the name of an archive's entry, and refuses one that leads
// out of the bundle.
func entryName(name string) (string, error) {
	clean := path.Clean(name)
	if path.IsAbs(name) || slices.Contains(strings.Split(name, "/"), "..") || strings.ContainsAny(name, "\\\x00") || !fs.ValidPath(clean) {
		return "", fmt.Errorf("archive: entry %q leads out of the bundle", name)
	}
	return clean, nil
}

// decompress finds out by the first bytes how r is packed.
func decompress(r io.Reader) (io.Reader, func(), error) {
	const tarMagicAt = 257
	b := bufio.NewReaderSize(r, 4096)
	head, err := b.Peek(tarMagicAt + 5)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, nil, fmt.Errorf("gzip: %w", err)
		}
		return z, func() { z.Close() }, nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		// The window is what a frame makes the decoder keep in memory.
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, nil, fmt.Errorf("zstd: %w", err)
		}
		return z, z.Close, nil
	case len(head) == tarMagicAt+5 && bytes.HasPrefix(head[tarMagicAt:], []byte("ustar")):
		return b, func() {}, nil
	}
	return nil, nil, errors.New("neither a directory nor a .tar, .tar.gz or .tar.zst")
}

// boundedReader fails, where io.LimitedReader would end.
type boundedReader struct {
	r     io.Reader
	left  int64
	limit int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("unpacks to more than %d bytes", b.limit)
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	return n, err
}

type compression int

const (
	compressNone compression = iota
	compressGzip
	compressZstd
)

// storePath writes the files to an archive or a directory, by the path's name.
func storePath(name string, files map[string][]byte, modified time.Time) error {
	if err := checkPath(name); err != nil {
		return err
	}
	if c, ok := archiveOf(name); ok {
		return storeFile(name, c, files, modified)
	}
	return storeDir(name, files)
}

// archiveOf says how an archive of this name is compressed. What has no such name is a directory.
func archiveOf(name string) (compression, bool) {
	for _, suffix := range []struct {
		text string
		compression
	}{{".tar", compressNone}, {".tar.gz", compressGzip}, {".tgz", compressGzip}, {".tar.zst", compressZstd}, {".tzst", compressZstd}} {
		if strings.HasSuffix(strings.ToLower(filepath.Base(name)), suffix.text) {
			return suffix.compression, true
		}
	}
	return 0, false
}

// checkPath says why nothing can be stored under this name.
func checkPath(name string) error {
	if parent, err := os.Stat(filepath.Dir(filepath.Clean(name))); err != nil {
		return bare(err)
	} else if !parent.IsDir() {
		return fmt.Errorf("%s is not a directory", filepath.Dir(filepath.Clean(name)))
	}
	if _, ok := archiveOf(name); ok {
		if info, err := os.Lstat(name); err == nil && info.IsDir() {
			return errors.New("is a directory: refusing to overwrite it")
		}
		return nil
	}
	switch extension := strings.ToLower(filepath.Ext(filepath.Clean(name))); extension {
	case ".gz", ".zst", ".xz", ".bz2", ".zip":
		return fmt.Errorf("archives are .tar, .tar.gz or .tar.zst, not %s", extension)
	}
	entries, err := os.ReadDir(name)
	switch {
	case err == nil && len(entries) > 0:
		return errors.New("the directory is not empty: refusing to overwrite it")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return bare(err)
	}
	return nil
}

func storeFile(name string, c compression, files map[string][]byte, modified time.Time) (err error) {
	// CreateTemp makes the file readable by its owner alone: a bundle tells
	// more about a cluster than others on the host need to know.
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".tmp-*")
	if err != nil {
		return bare(err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := storeArchive(f, c, files, modified); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return bare(err)
	}
	if err := f.Close(); err != nil {
		return bare(err)
	}
	return os.Rename(f.Name(), name)
}

func storeArchive(w io.Writer, c compression, files map[string][]byte, modified time.Time) error {
	var packed io.WriteCloser
	switch c {
	case compressGzip:
		packed = gzip.NewWriter(w)
	case compressZstd:
		// One goroutine, for the same bytes each time.
		z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
		if err != nil {
			return err
		}
		packed = z
	default:
		packed = nopCloser{w}
	}
	tw := tar.NewWriter(packed)
	for _, file := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: file, Size: int64(len(files[file])), Mode: 0o600,
			ModTime: modified.UTC().Truncate(time.Second),
		}
		if modified.IsZero() {
			h.ModTime = time.Unix(0, 0).UTC()
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if _, err := tw.Write(files[file]); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	if err := tw.Close(); err != nil {
		return err
	}
	return packed.Close()
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func storeDir(name string, files map[string][]byte) (err error) {
	name = filepath.Clean(name)
	temp, err := os.MkdirTemp(filepath.Dir(name), "."+filepath.Base(name)+".tmp-*")
	if err != nil {
		return bare(err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(temp)
		}
	}()
	for _, file := range slices.Sorted(maps.Keys(files)) {
		target := filepath.Join(temp, filepath.FromSlash(file))
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(target, files[file], 0o600); err != nil {
			return err
		}
	}
	// Fails if somebody put something there meanwhile.
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(temp, name)
}
