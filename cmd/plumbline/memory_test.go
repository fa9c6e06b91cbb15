package main

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
)

func TestMemoryAllowed(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"a container":                        {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "2147483648\n"}, 2147483648},
		"a container that is told its path":  {map[string]string{"proc/self/cgroup": "0::/kubepods/pod1/c\n", "sys/fs/cgroup/memory.max": "1000\n"}, 1000},
		"a service of the host":              {map[string]string{"proc/self/cgroup": "0::/system.slice/a.service\n", "sys/fs/cgroup/system.slice/a.service/memory.max": "1000\n", "sys/fs/cgroup/memory.max": "2000\n"}, 1000},
		"version 1":                          {map[string]string{"proc/self/cgroup": "7:cpu,cpuacct:/a\n4:memory:/a\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000\n"}, 1000},
		"both versions":                      {map[string]string{"proc/self/cgroup": "4:memory:/a\n0::/a\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1000\n"}, 1000},
		"no limit":                           {map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n", "sys/fs/cgroup/memory.max": "7\n"}, 0},
		"the root, which has none":           {map[string]string{"proc/self/cgroup": "0::/\n"}, 0},
		"what is no number":                  {map[string]string{"proc/self/cgroup": "0::/\nx\n", "sys/fs/cgroup/memory.max": "-1"}, 0},
		"an operating system with no groups": {nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := memoryAllowed(tree(t, test.files)); got != test.want {
				t.Errorf("%d, want %d", got, test.want)
			}
		})
	}
}

// tree is a directory with these files.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestTheGarbageCollectorKnowsTheLimit(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	root := tree(t, map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "2147483648\n"})
	t.Setenv("GOMEMLIMIT", "3GiB")
	limitMemory(root)
	if got := debug.SetMemoryLimit(-1); got != before {
		t.Errorf("with GOMEMLIMIT: %d, want %d", got, before)
	}
	t.Setenv("GOMEMLIMIT", "")
	limitMemory(root)
	if got, want := debug.SetMemoryLimit(-1), int64(1932735276); got != want {
		t.Errorf("%d, want %d", got, want)
	}
	limitMemory(t.TempDir())
	if got, want := debug.SetMemoryLimit(-1), int64(1932735276); got != want {
		t.Errorf("without a limit: %d, want %d still", got, want)
	}
}
