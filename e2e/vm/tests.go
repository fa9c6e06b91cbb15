package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
)

// test is an entry of the lane with its program.
type test struct {
	entry
	source string // directory of the package
	name   string // in the machine; they run in the order of their names
	binary string
}

// buildTests compiles the test programs into dir.
func buildTests(root, dir string, entries []entry) ([]test, error) {
	var tests []test
	for i, e := range entries {
		name := fmt.Sprintf("%02d", i)
		t := test{e, filepath.Join(root, e.pkg), name, filepath.Join(dir, name+".test")}
		build := exec.Command("go", "test", "-c", "-o", t.binary, "./"+e.pkg)
		build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("compile the tests of %s: %w\n%s", e.pkg, err, out)
		}
		tests = append(tests, t)
	}
	return tests, nil
}

// install puts the test into the machine: its program, its directory with the
// test data, and the command line.
func (t *test) install(a *archive) error {
	data, err := os.ReadFile(t.binary)
	if err != nil {
		return err
	}
	dir, work := path.Join("/tests", t.name), path.Join("/src", t.pkg)
	a.file(path.Join(dir, "binary"), data, true)
	before := ""
	if t.pkg == clusters {
		before = prelude
		if err := a.installComponents(); err != nil {
			return err
		}
	}
	a.file(path.Join(dir, "run"), fmt.Appendf(nil, "%scd %s\nexport PLUMBLINE_REQUIRE=%s\nexec %s/binary -test.v -test.run '%s' -test.timeout %s %s\n",
		before, work, t.require, dir, t.run, t.timeout, t.args), false)
	a.dir(work)
	testdata := os.DirFS(filepath.Join(t.source, "testdata"))
	return fs.WalkDir(testdata, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case os.IsNotExist(err) && name == ".":
			return nil
		case err != nil || entry.IsDir():
			return err
		}
		data, err := fs.ReadFile(testdata, name)
		a.file(path.Join(work, "testdata", name), data, false)
		return err
	})
}
