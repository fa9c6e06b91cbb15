package main

import (
	"bufio"
	"fmt"
	"io"
	"path"
)

// archive writes the file system with which the kernel starts: cpio in its
// "newc" format (initramfs-buffer-format of the kernel's documentation).
type archive struct {
	w     *bufio.Writer
	inode int
	made  map[string]bool
	err   error
}

const (
	modeDir     = 0o040000
	modeRegular = 0o100000
	modeLink    = 0o120000
)

func newArchive(w io.Writer) *archive {
	return &archive{w: bufio.NewWriterSize(w, 1<<20), made: map[string]bool{"": true, ".": true}}
}

// dir makes a directory and those above it.
func (a *archive) dir(name string) {
	if name = path.Clean(name); a.made[name] || name == "/" {
		return
	}
	a.dir(path.Dir(name))
	a.entry(name, modeDir|0o755, nil)
}

// file writes a file, once.
func (a *archive) file(name string, data []byte, executable bool) {
	if a.made[name] {
		return
	}
	a.dir(path.Dir(name))
	mode := modeRegular | 0o644
	if executable {
		mode |= 0o111
	}
	a.entry(name, mode, data)
}

func (a *archive) link(name, target string) {
	if a.made[name] {
		return
	}
	a.dir(path.Dir(name))
	a.entry(name, modeLink|0o777, []byte(target))
}

func (a *archive) entry(name string, mode int, data []byte) {
	a.made[name] = true
	a.inode++
	a.header(path.Clean(name)[1:], mode, data)
}

func (a *archive) header(name string, mode int, data []byte) {
	if a.err != nil {
		return
	}
	const header = 110
	_, a.err = fmt.Fprintf(a.w, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	a.pad(header + len(name) + 1)
	if a.err == nil {
		_, a.err = a.w.Write(data)
	}
	a.pad(len(data))
}

// pad fills up to a multiple of four bytes.
func (a *archive) pad(length int) {
	if a.err == nil {
		_, a.err = a.w.Write(make([]byte, -length&3))
	}
}

func (a *archive) close() error {
	a.header("TRAILER!!!", 0, nil)
	if a.err != nil {
		return a.err
	}
	return a.w.Flush()
}
