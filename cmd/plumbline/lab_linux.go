package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plumbline-net/plumbline/e2e/lab"
)

// statusNotFound is what shells, nsenter and env return for a command that is not there.
const statusNotFound = 127

// interceptListener turns this process into a listener of the lab if it was started as one.
func interceptListener() { lab.ServeIfListener() }

func newLabCommand() *cobra.Command {
	var prefix string
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Build a small cluster out of network namespaces, and break it",
		Long: `Build a small cluster out of network namespaces on this host, and break it.

Two nodes with pods, Services in the shape of kube-proxy's rules, real
listeners, and the Kubernetes objects of the same cluster as files. Needs root.
Nothing is changed in the host's own namespace.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	cmd.PersistentFlags().StringVar(&prefix, "prefix", lab.DefaultPrefix, "what the names of the lab's network namespaces begin with")
	cmd.AddCommand(
		newLabUpCommand(&prefix),
		newLabDownCommand(&prefix),
		newLabExecCommand(&prefix),
		newLabBreakCommand(&prefix),
		newLabFixCommand(&prefix),
		newLabStatusCommand(&prefix),
	)
	return cmd
}

func newLabUpCommand(prefix *string) *cobra.Command {
	var specFile string
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Build the lab",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts := lab.Options{Prefix: *prefix}
			if specFile != "" {
				spec, err := lab.LoadSpec(specFile)
				if err != nil {
					return usageError("%w", err)
				}
				opts.Spec = spec
			}
			l, err := lab.Up(cmd.Context(), opts)
			if err != nil {
				return labError(err)
			}
			return l.WriteStatus(cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&specFile, "spec", "", "YAML file that describes the lab (default: the one built in)")
	return cmd
}

func newLabDownCommand(prefix *string) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Remove the lab and everything that it made",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return labError(lab.Down(cmd.Context(), lab.Options{Prefix: *prefix}))
		},
	}
}

func newLabExecCommand(prefix *string) *cobra.Command {
	return &cobra.Command{
		Use:     "exec POD|NODE -- COMMAND [ARGUMENT...]",
		Short:   "Run a command in the network namespace of a pod or node",
		Example: "  plumbline lab exec shop/web-0 -- ip route\n  plumbline lab exec node-1 -- iptables-save",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usageError("lab exec needs a pod or node and a command: plumbline lab exec POD|NODE -- COMMAND")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := openLab(*prefix)
			if err != nil {
				return err
			}
			e, err := l.ParseEndpoint(args[0])
			if err != nil {
				return usageError("%w", err)
			}
			code, err := l.Exec(cmd.Context(), e, args[1:])
			if errors.Is(err, exec.ErrNotFound) {
				return &exitError{code: statusNotFound, err: err}
			}
			if err != nil {
				return err
			}
			if code != 0 {
				return &exitError{code: code}
			}
			return nil
		},
	}
}

func newLabBreakCommand(prefix *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "break FAULT",
		Short: "Inject a fault",
		Args:  oneArgument("lab break needs the name of one fault: see plumbline lab break --help"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := lab.FindFault(args[0]); err != nil {
				return labError(err)
			}
			l, err := openLab(*prefix)
			if err != nil {
				return err
			}
			return labError(l.Break(cmd.Context(), args[0]))
		},
	}
	cmd.Long = "Inject a fault:\n"
	for _, f := range lab.Faults() {
		cmd.Long += fmt.Sprintf("\n  %-17s", f.Name)
		column := 19
		for _, word := range strings.Fields(f.Description) {
			if column+1+len(word) > helpWidth {
				cmd.Long += "\n" + strings.Repeat(" ", 19)
				column = 19
			}
			cmd.Long += " " + word
			column += 1 + len(word)
		}
	}
	return cmd
}

func newLabFixCommand(prefix *string) *cobra.Command {
	return &cobra.Command{
		Use:   "fix FAULT|all",
		Short: "Undo a fault, or all of them",
		Args:  oneArgument("lab fix needs the name of one fault, or all"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] != lab.AllFaults {
				if _, err := lab.FindFault(args[0]); err != nil {
					return labError(err)
				}
			}
			l, err := openLab(*prefix)
			if err != nil {
				return err
			}
			return labError(l.Fix(cmd.Context(), args[0]))
		},
	}
}

func newLabStatusCommand(prefix *string) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what the lab consists of and what is broken in it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := openLab(*prefix)
			if err != nil {
				return err
			}
			return l.WriteStatus(cmd.OutOrStdout())
		},
	}
}

func oneArgument(message string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError("%s", message)
		}
		return nil
	}
}

func openLab(prefix string) (*lab.Lab, error) {
	if os.Geteuid() != 0 {
		return nil, labError(lab.ErrNotRoot)
	}
	l, err := lab.Open(prefix)
	return l, labError(err)
}

// labError marks what the user can put right by another command line.
func labError(err error) error {
	unknown := new(lab.UnknownFaultError)
	if errors.As(err, &unknown) || errors.Is(err, lab.ErrExists) || errors.Is(err, lab.ErrPrefix) || errors.Is(err, lab.ErrNotUp) || errors.Is(err, lab.ErrNotRoot) {
		return &exitError{code: statusUsage, err: err}
	}
	return err
}
