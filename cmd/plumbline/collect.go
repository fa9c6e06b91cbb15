package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
	"golang.org/x/time/rate"

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/confirm"
	"github.com/plumbline-net/plumbline/kubernetes"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

func newCollectCommand() *cobra.Command {
	var output, queries, configFile, server string
	var options collector.Options
	var access kubernetes.Access
	cmd := &cobra.Command{
		Use:   "collect --output DIR|FILE.tar.zst",
		Short: "Write the network state of this host to a bundle",
		Long: `Write the network state of this host to a bundle: every network namespace with
its interfaces, routes, rules, sockets and sysctls, in the formats of the
standard tools. It changes nothing on the host. Needs root. The bundle is for
"plumbline diagnose --bundle", which needs none. What name servers say about
names that --queries ask about is kept in it.

With --server, the bundle is of the state that this server judges at present,
such as a controller's of its cluster.

Exit status: 0 written (the summary says what could not be read), 1 not written,
2 wrong usage or unreadable input, 130 interrupted.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output == "" {
				return usageError("collect: where to? give --output DIR or --output FILE.tar.zst")
			}
			if err := refuseEmpty(cmd, "server", "config", "queries", "manifests", "kubeconfig"); err != nil {
				return err
			}
			if err := bundle.CheckOutput(output); err != nil {
				return usageError("collect: %w", err)
			}
			if server != "" {
				for _, here := range []string{"config", "queries", "manifests", "kubeconfig", "in-cluster", "namespaces"} {
					if cmd.Flags().Changed(here) {
						return usageError("--%s is for the state of this host: --server has its own", here)
					}
				}
				snapshot, err := collectFrom(cmd.Context(), server)
				if err != nil {
					return usageError("collect: %w", err)
				}
				if err := bundle.Write(output, snapshot); err != nil {
					return fmt.Errorf("collect: %w", err)
				}
				summarize(cmd.OutOrStdout(), output, snapshot)
				return nil
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
			addCloud, err := cloudOf(configFile)
			if err != nil {
				return usageError("collect: %w", err)
			}
			asked, err := readQueries(queries, cmd.InOrStdin())
			if err != nil {
				return usageError("collect: --queries: %w", err)
			}
			c := collector.New(options)
			snapshot, err := c.Collect(cmd.Context())
			switch {
			case errors.Is(err, collector.ErrPrivileges), errors.Is(err, collector.ErrManifests):
				return usageError("collect: %w", err)
			case err != nil:
				return fmt.Errorf("collect: %w", err)
			}
			// An API server's objects alone are worth a bundle.
			if len(options.Namespaces) > 0 && len(snapshot.Namespaces) == 0 && !access.Given() {
				return usageError("collect: --namespaces: this host has no network namespace whose name matches %s", strings.Join(options.Namespaces, " or "))
			}
			if err := recordNames(cmd.Context(), c, snapshot, asked); err != nil {
				return fmt.Errorf("collect: %w", err)
			}
			addCloud(cmd.Context(), snapshot)
			if err := bundle.Write(output, snapshot); err != nil {
				return fmt.Errorf("collect: %w", err)
			}
			summarize(cmd.OutOrStdout(), output, snapshot)
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&output, "output", "o", "", "directory to write to, or an archive ending in .tar, .tar.gz or .tar.zst")
	flags.StringVar(&server, "server", "", "URL of a plumbline server whose state is written instead")
	flags.StringVar(&queries, "queries", "", "file with one JSON query a line (- for standard input): names that they ask about are asked for, and the answers kept")
	flags.StringVar(&configFile, "config", "", "configuration file whose cloud is read, too (docs/configuration.md)")
	flags.StringVar(&options.ManifestDir, "manifests", "", "directory of Kubernetes manifests, to tell pods and nodes by")
	addAccessFlags(flags, &access)
	flags.StringSliceVar(&options.Namespaces, "namespaces", nil, "only the network namespaces whose names match these patterns")
	return cmd
}

// collectFrom asks a server for the state that it judges.
func collectFrom(ctx context.Context, server string) (*simulator.Snapshot, error) {
	base, err := serverURL(server)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("api/v1/bundle").String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Timeout: serverTimeout}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if err := refusal(resp); err != nil {
		return nil, err
	}
	return bundle.ReadArchive(resp.Body)
}

// readQueries reads a file of queries; none from no file.
func readQueries(path string, stdin io.Reader) (list []verdict.Query, err error) {
	if path == "" {
		return nil, nil
	}
	lines, err := openQueries(path, stdin)
	if err != nil {
		return nil, err
	}
	defer lines.close()
	for lines.next() {
		q, err := verdict.DecodeQuery(lines.line)
		if err == nil {
			err = q.Validate()
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, lines.number, err)
		}
		list = append(list, q)
	}
	if err := lines.err(); err != nil {
		return nil, err
	}
	return list, nil
}

// recordNames has the snapshot tell what name servers answer to the queries.
func recordNames(ctx context.Context, c *collector.Collector, snapshot *simulator.Snapshot, queries []verdict.Query) error {
	if len(queries) == 0 {
		return nil
	}
	world, err := simulator.Compile(snapshot)
	if err != nil {
		return err
	}
	names := &confirm.Names{Ask: confirm.AskHere(c.Inside), Limit: rate.NewLimiter(confirm.DefaultPerSecond, confirm.DefaultPerSecond)}
	for _, q := range queries {
		if _, err := names.Diagnose(ctx, world, q); err != nil {
			return err
		}
	}
	snapshot.Names = names.Known(time.Time{}) // silent servers may take minutes
	return ctx.Err()
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
	if snapshot.Cloud != nil {
		for action, why := range snapshot.Cloud.Failed {
			failed = append(failed, action+" of the cloud: "+why)
		}
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
