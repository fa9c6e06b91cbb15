// Package charts reads what the Helm chart in plumbline/ renders. The chart is
// files to be loaded by Helm; the Go code serves tests, those of this package
// and those against a real API server.
package charts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// Chart is a chart in a working copy of the repository, which has Helm among its
// tools.
type Chart struct {
	// Root is the repository's directory.
	Root string

	helm func() (string, error)
}

// Open returns the chart of the repository in directory root. Helm is built when it
// is needed first: for minutes, if the build cache does not have it.
func Open(root string) *Chart {
	return &Chart{Root: root, helm: sync.OnceValues(func() (string, error) {
		out, err := run(exec.Command("go", "tool", "-n", "-modfile="+filepath.Join(root, "tools", "go.mod"), "helm"))
		return strings.TrimSpace(string(out)), err
	})}
}

// Dir is the chart's directory.
func (c *Chart) Dir() string { return filepath.Join(c.Root, "charts", "plumbline") }

// ValueFiles are the sets of values that the chart is tested with.
func (c *Chart) ValueFiles() ([]string, error) {
	return filepath.Glob(filepath.Join(c.Dir(), "ci", "*-values.yaml"))
}

// Lint is what `helm lint --strict` says about the chart with these values.
func (c *Chart) Lint(ctx context.Context, valueFile string) (string, error) {
	return c.run(ctx, "lint", "--strict", c.Dir(), "--values", valueFile)
}

// Render returns the objects of a release. Further arguments are flags of `helm
// template`.
func (c *Chart) Render(ctx context.Context, release, namespace string, args ...string) ([]*unstructured.Unstructured, error) {
	text, err := c.run(ctx, slices.Concat([]string{"template", release, c.Dir(), "--namespace", namespace}, args)...)
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	for _, document := range strings.Split("\n"+text, "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict([]byte(document), &object.Object); err != nil {
			return nil, fmt.Errorf("what Helm renders: %w\n%s", err, document)
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
	return objects, nil
}

func (c *Chart) run(ctx context.Context, args ...string) (string, error) {
	helm, err := c.helm()
	if err != nil {
		return "", err
	}
	out, err := run(exec.CommandContext(ctx, helm, args...))
	return string(out), err
}

func run(cmd *exec.Cmd) ([]byte, error) {
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(append(out, exit.Stderr...)))
		}
		return nil, fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return out, nil
}
