package collector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// packages names the Debian package of each tool that is run.
var packages = map[string]string{
	"iptables-legacy-save":  "iptables",
	"ip6tables-legacy-save": "iptables",
	"iptables-nft-save":     "iptables",
	"ip6tables-nft-save":    "iptables",
	"nft":                   "nftables",
	"ipset":                 "ipset",
}

// tools finds programs once, and runs them.
type tools struct {
	look func(name string) (string, error)

	mu    sync.Mutex
	paths map[string]string
}

func newTools() *tools { return &tools{look: lookPath, paths: make(map[string]string)} }

// lookPath looks where administrators' tools live, too: not everybody's PATH
// has that.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return filepath.Abs(path)
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}

// path returns the absolute path of a tool. One that is missing is looked for
// again next time: it may have been installed since.
func (t *tools) path(name string) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if path, ok := t.paths[name]; ok {
		return path, nil
	}
	path, err := t.look(name)
	if err != nil {
		return "", fmt.Errorf("%s is not installed: install the package %s", name, packages[name])
	}
	t.paths[name] = path
	return path, nil
}

// run returns what a tool prints. It runs in the namespace of the calling
// thread, which its process inherits.
func (t *tools) run(ctx context.Context, name string, args ...string) ([]byte, error) {
	path, err := t.path(name)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	// It counts from the tool's end, too: a busy host reads the last of its output late.
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = errors.Join(err, ctx.Err())
		}
		if text := firstLine(stderr.String()); text != "" {
			return nil, fmt.Errorf("%s: %w: %s", name, err, text)
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return stdout.Bytes(), nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
