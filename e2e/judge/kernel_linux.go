package judge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// AskKernel finds out what the running kernel lacks, by trying.
func AskKernel(ctx context.Context) (k Kernel, err error) {
	k = Kernel{}
	for _, name := range slices.Sorted(maps.Keys(kernelFeatures)) {
		f := kernelFeatures[name]
		w := &World{Namespaces: []Namespace{{Name: "kernel"}}}
		w.Elements = []Element{{Namespace: "kernel", Tool: ToolLink, Text: "link add v0 type veth peer name v1"}}
		b, err := w.build(ctx, fmt.Sprintf("%s%d.k", namePrefix, os.Getpid()))
		if err == nil {
			tool := map[string][]string{"ip": {"ip", "-batch", "-"}, "ipset": {"ipset", "restore"}, "nft": {"nft", "-f", "-"}}[f.tool]
			if err := b.run(ctx, "kernel", f.lines+"\n", tool...); err != nil {
				reason, _, _ := strings.Cut(err.Error()[strings.Index(err.Error(), "exit status"):], "\n")
				k[name] = strings.TrimPrefix(reason, "exit status 1: ")
			}
		}
		if err := errors.Join(err, b.remove()); err != nil {
			return nil, fmt.Errorf("ask the kernel for %s: %w", name, err)
		}
	}
	return k, nil
}
