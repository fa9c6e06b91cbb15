package judge

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/fib"
)

// lookupCase is a look-up in a world of its own: one on which the kernel and the
// simulator disagreed once.
type lookupCase struct {
	Setup  []string `json:"setup"`
	Key    fib.Key  `json:"key"`
	Kernel string   `json:"kernel,omitempty"` // what the kernel says
	// Unknown is what the simulator cannot know.
	Unknown string `json:"unknown,omitempty"`
}

// readLookupCase reads a saved look-up.
func readLookupCase(path string) (*lookupCase, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c := new(lookupCase)
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// try builds the world and looks up.
func (c *lookupCase) try(ctx context.Context) (disagreement, kernel string, err error) {
	w := &lookupWorld{Name: fmt.Sprintf("pljc%d", os.Getpid()), Setup: c.Setup}
	defer w.close()
	if err := w.open(ctx); err != nil {
		return "", "", err
	}
	if !w.sends(&c.Key) {
		return "", "", nil
	}
	return w.judge(c.Key)
}

// shrink leaves out as many lines of the setup as it can while the kernel says the
// same and the simulator disagrees. Without its settings it would be another host.
func (c *lookupCase) shrink(ctx context.Context) {
	isSetting := func(line string) bool { return strings.HasPrefix(line, "sysctl ") }
	settings := slices.DeleteFunc(slices.Clone(c.Setup), func(line string) bool { return !isSetting(line) })
	with := func(left []string) []string { return append(slices.Clone(settings), left...) }
	c.Setup = with(shrinkList(ctx, slices.DeleteFunc(slices.Clone(c.Setup), isSetting), func(left []string) bool {
		smaller := lookupCase{Setup: with(left), Key: c.Key}
		disagreement, kernel, err := smaller.try(ctx)
		return err == nil && disagreement != "" && kernel == c.Kernel
	}))
}
