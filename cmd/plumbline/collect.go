package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/kubernetes"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

func newCollectCommand() *cobra.Command {
	var output string
	var options collector.Options
	var access kubernetes.Access
	cmd := &cobra.Command{
		Use:   "collect --output DIR|FILE.tar.zst",
		Short: "Write the network state of this host to a bundle",
		Long: `Write the network state of this host to a bundle: every network namespace with its interfaces, routes,
rules, sockets and sysctls, in the formats of the standard tools. It changes nothing on the host.
Needs root. The bundle is for "plumbline diagnose --bundle", which needs none.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output == "" {
				return usageError("collect: where to? give --output DIR or --output FILE.tar.zst")
			}
			if err := collector.ValidateGlobs(options.Namespaces); err != nil {
				return usageError("collect: %w", err)
			}
			// What goes wrong with single parts is in the summary.
			options.Logger = slog.New(slog.DiscardHandler)
			stderr := cmd.ErrOrStderr()
			if file, ok := stderr.(*os.File); ok && isatty.IsTerminal(file.Fd()) {
				options.Progress = func(done, total int, namespace string) {
					fmt.Fprintf(stderr, "\r\033[K%d/%d %s", done, total, namespace)
					if done == total {
						fmt.Fprint(stderr, "\r\033[K")
					}
				}
			}
			options, err := withCluster(cmd.Context(), options, access)
			if err != nil {
				return usageError("collect: %w", err)
			}
			snapshot, err := collector.New(options).Collect(cmd.Context())
			switch {
			case errors.Is(err, collector.ErrPrivileges), errors.Is(err, collector.ErrManifests):
				return usageError("collect: %w", err)
			case err != nil:
				return fmt.Errorf("collect: %w", err)
			}
			if err := bundle.Write(output, snapshot); err != nil {
				return fmt.Errorf("collect: %w", err)
			}
			summarize(cmd.OutOrStdout(), output, snapshot)
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&output, "output", "o", "", "directory to write to, or an archive ending in .tar, .tar.gz or .tar.zst")
	flags.StringVar(&options.ManifestDir, "manifests", "", "directory of Kubernetes manifests, to tell pods and nodes by")
	addAccessFlags(flags, &access)
	flags.StringSliceVar(&options.Namespaces, "namespaces", nil, "only the network namespaces whose names match these patterns")
	return cmd
}

// summarize says what a snapshot holds, and what could not be read.
func summarize(w io.Writer, output string, snapshot *simulator.Snapshot) {
	kinds := make(map[netstack.Kind]int)
	var failed []string
	for _, ns := range snapshot.Namespaces {
		kinds[ns.Kind]++
		for part, status := range ns.Parts {
			if status.State == netstack.StateFailed {
				failed = append(failed, fmt.Sprintf("%s of %s: %s", part, ns.Name, status.Detail))
			}
		}
	}
	for resource, why := range snapshot.Cluster.Missing {
		failed = append(failed, resource+" of the cluster: "+why)
	}
	for name, detail := range snapshot.Failures {
		failed = append(failed, name+": "+detail)
	}
	slices.Sort(failed)
	fmt.Fprintf(w, "%s: %s (%s, %s, %d others)\n", output, count(len(snapshot.Namespaces), "network namespace"),
		count(kinds[netstack.KindNode], "node"), count(kinds[netstack.KindPod], "pod"), kinds[netstack.KindOther])
	if len(failed) > 0 {
		fmt.Fprintf(w, "not read:\n  %s\n", strings.Join(failed, "\n  "))
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
