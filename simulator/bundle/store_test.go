package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/klauspost/compress/zstd"
)

// smallLimits make the limits reachable.
func smallLimits() limits { return limits{file: 100, total: 150, entries: 5, depth: 3} }

func archive(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		h.Mode = 0o600
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestArchivesAreBoundedAndFollowNoLinks(t *testing.T) {
	file := func(name string, size int64) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size}
	}
	tests := []struct {
		name    string
		headers []tar.Header
		want    string
	}{
		{"files up to the limits", []tar.Header{file("a", 100), file("./b", 50), {Typeflag: tar.TypeDir, Name: "c/d/"}}, ""},
		{"a file that is too large", []tar.Header{file("a", 101)}, "a: larger than 100 bytes"},
		{"files that are too large together", []tar.Header{file("a", 100), file("b", 51)}, "b: all files together are larger than 150 bytes"},
		{"too many files", []tar.Header{file("a", 0), file("b", 0), file("c", 0), file("d", 0), file("e", 0), file("f", 0)}, "more than 5 files and directories"},
		{"a file that is too deep", []tar.Header{file("a/b/c/d", 0)}, "a/b/c/d: deeper than 3 directories"},
		{"a file that is there twice", []tar.Header{file("a", 1), file("./a", 1)}, "a: is there twice"},
		{"a symbolic link", []tar.Header{{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "/etc/shadow"}}, "a: is a symbolic link; links are not followed"},
		{"a hard link", []tar.Header{{Typeflag: tar.TypeLink, Name: "a", Linkname: "/etc/shadow"}}, "a: is a hard link; links are not followed"},
		{"a device", []tar.Header{{Typeflag: tar.TypeChar, Name: "a"}}, "a: is neither a file nor a directory"},
		{"a named pipe", []tar.Header{{Typeflag: tar.TypeFifo, Name: "a"}}, "a: is neither a file nor a directory"},
		{"a name that leads out", []tar.Header{file("../a", 0)}, `archive: entry "../a" leads out of the bundle`},
		{"a name that leads out in the middle", []tar.Header{file("a/../../b", 0)}, `archive: entry "a/../../b" leads out of the bundle`},
		{"a name from the root", []tar.Header{file("/etc/passwd", 0)}, `archive: entry "/etc/passwd" leads out of the bundle`},
		{"a name of another system", []tar.Header{file(`..\a`, 0)}, `archive: entry "..\\a" leads out of the bundle`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files, err := loadArchive(bytes.NewReader(archive(t, tt.headers...)), smallLimits())
			if tt.want == "" {
				if err != nil || len(files) != 2 {
					t.Errorf("%d files, error = %v, want 2", len(files), err)
				}
				return
			}
			if err == nil || err.Error() != tt.want || files != nil {
				t.Errorf("error = %v, want %s", err, tt.want)
			}
		})
	}
}

func TestAnArchiveCannotUnpackToMoreThanItsLimit(t *testing.T) {
	// Global headers are neither files nor directories: only what they unpack to
	// bounds them.
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	for range 1000 {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": strings.Repeat("x", 900)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var gz, zst bytes.Buffer
	g := gzip.NewWriter(&gz)
	z, err := zstd.NewWriter(&zst)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []interface {
		Write([]byte) (int, error)
		Close() error
	}{g, z} {
		if _, err := w.Write(plain.Bytes()); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range map[string][]byte{"tar": plain.Bytes(), "gzip": gz.Bytes(), "zstd": zst.Bytes()} {
		t.Run(name, func(t *testing.T) {
			lim := smallLimits()
			lim.total = 200_000
			_, err := loadArchive(bytes.NewReader(data), lim)
			if want := "archive: unpacks to more than 200000 bytes"; err == nil || err.Error() != want {
				t.Errorf("error = %v, want %s", err, want)
			}
		})
	}
}

func TestArchivesThatAreNone(t *testing.T) {
	whole := archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 600})
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"an empty file", nil, "bundle: neither a directory nor a .tar, .tar.gz or .tar.zst"},
		{"a zip", []byte("PK\x03\x04"), "bundle: neither a directory nor a .tar, .tar.gz or .tar.zst"},
		{"a tar that is cut off", whole[:700], "bundle: a: unexpected EOF"},
		{"a gzip that is cut off", []byte{0x1f, 0x8b, 8, 0}, "bundle: gzip: unexpected EOF"},
		{"a zstd that is cut off", []byte{0x28, 0xb5, 0x2f, 0xfd, 4, 0}, "bundle: archive: unexpected EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ReadArchive(bytes.NewReader(tt.data))
			if err == nil || err.Error() != tt.want {
				t.Errorf("error = %v, want %s", err, tt.want)
			}
		})
	}
}

func TestDirectoriesAreBounded(t *testing.T) {
	tests := []struct {
		name string
		fsys fstest.MapFS
		want string
	}{
		{"a file that is too large", fstest.MapFS{"a": {Data: make([]byte, 101)}}, "a: larger than 100 bytes"},
		{"files that are too large together", fstest.MapFS{"a": {Data: make([]byte, 100)}, "b": {Data: make([]byte, 51)}}, "b: all files together are larger than 150 bytes"},
		{"too many directories", fstest.MapFS{"a": {}, "b": {}, "c": {}, "d/e/f": {}}, "more than 5 files and directories"},
		{"a file that is too deep", fstest.MapFS{"a/b/c/d": {}}, "a/b/c/d: deeper than 3 directories"},
		{"a symbolic link", fstest.MapFS{"a": {Data: []byte("b"), Mode: fs.ModeSymlink}, "b": {}}, "a: is a symbolic link; links are not followed"},
		{"a device", fstest.MapFS{"a": {Mode: fs.ModeDevice}}, "a: is neither a file nor a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files, err := loadFS(tt.fsys, smallLimits())
			if err == nil || err.Error() != tt.want || files != nil {
				t.Errorf("error = %v, want %s", err, tt.want)
			}
		})
	}
}

func TestLinksAndPipesOnDiskAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(path string) error
		want string
	}{
		{"a link to a file", func(p string) error { return os.Symlink("/etc/passwd", p) }, "is a symbolic link; links are not followed"},
		{"a link to a directory", func(p string) error { return os.Symlink("/etc", p) }, "is a symbolic link; links are not followed"},
		{"a link to nothing", func(p string) error { return os.Symlink("nothing", p) }, "is a symbolic link; links are not followed"},
		{"a named pipe", func(p string) error { return syscall.Mkfifo(p, 0o600) }, "is neither a file nor a directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, "netns/n1"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := tt.make(filepath.Join(dir, "netns/n1/sysctl.txt")); err != nil {
				t.Fatal(err)
			}
			_, err := Read(dir)
			if want := "bundle " + dir + ": netns/n1/sysctl.txt: " + tt.want; err == nil || err.Error() != want {
				t.Errorf("error = %v, want %s", err, want)
			}
		})
	}
}

func TestAPathThatIsNoBundle(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		filepath.Join(dir, "nothing"): "no such file or directory",
		"/dev/null":                   "neither a directory nor a file",
		dir:                           "not a bundle: there is no bundle.json, netns or cluster",
	} {
		_, err := Read(path)
		if want := "bundle " + path + ": " + want; err == nil || err.Error() != want {
			t.Errorf("error = %v, want %s", err, want)
		}
	}
}
