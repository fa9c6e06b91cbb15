package simulator_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestTheSimulatorIsPure looks at the source: no input or output, no clock, no
// goroutine, no randomness, and nothing of the packages above. Bundles are
// files, and may be read and written.
func TestTheSimulatorIsPure(t *testing.T) {
	forbidden := []string{"os", "os/exec", "net", "net/http", "syscall", "sync", "sync/atomic", "runtime", "io/ioutil", "math/rand", "math/rand/v2", "crypto/rand", "log", "log/slog"}
	above := []string{"collector", "confirm", "probes", "schedules", "exporter", "cmd", "e2e"}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		files := strings.HasPrefix(path, "bundle/")
		for _, spec := range file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			// net is for reading link-layer addresses there; sync for keeping memory from one query to the next.
			allowed := files && (name == "os" || name == "net") || path == "workspace.go" && name == "sync"
			if slices.Contains(forbidden, name) && !allowed {
				t.Errorf("%s imports %s", path, name)
			}
			for _, room := range above {
				if strings.HasPrefix(name, "github.com/plumbline-net/plumbline/"+room) {
					t.Errorf("%s imports %s", path, name)
				}
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine", path)
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After"}, n.Sel.Name) {
					t.Errorf("%s reads the clock: time.%s", path, n.Sel.Name)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
