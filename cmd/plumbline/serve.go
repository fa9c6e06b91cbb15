package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/plumbline-net/plumbline/exporter"
	"github.com/plumbline-net/plumbline/privsep"
)

func newServeCommand() *cobra.Command {
	var options exporter.Options
	cmd := daemonCommand(&options, exporter.DefaultListenAddress, serve)
	cmd.Use = "serve --config FILE"
	cmd.Short = "Diagnose paths on schedule, and answer over HTTP"
	cmd.Long = `Diagnose paths on schedule, and answer over HTTP with reports and metrics.

The configuration is read again on SIGHUP, on POST /-/reload and when its file
changes; if it is bad, the old one is kept. Without a configuration there are no
schedules, and questions are answered all the same.

Exit status: 0 after SIGINT or SIGTERM, 2 for a bad configuration, an unreadable
bundle or an address that cannot be listened on.`
	cmd.Example = `  plumbline serve --config plumbline.yaml
  plumbline serve --config plumbline.yaml --web.listen-address :9810 \
      --web.config.file web.yaml
  plumbline serve --bundle examples/lab.tar.zst`
	cmd.Flags().StringVar(&options.Bundle, "bundle", "", "directory or archive to answer from, instead of the state of this host")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error { return refuseEmpty(cmd, "bundle") }
	return cmd
}

func newAgentCommand() *cobra.Command {
	options := exporter.Options{Role: exporter.RoleAgent}
	user := privsep.DefaultUser
	cmd := daemonCommand(&options, exporter.DefaultAgentListenAddress, serve)
	cmd.Use = "agent --config FILE"
	cmd.Short = "Collect the state of this node for a controller"
	cmd.Long = `Collect the state of this node for a controller, and count what its kernel
drops. Needs root.

The state is read when a controller asks for it. Beyond loopback, controllers
have to prove who they are: with a certificate, or as a user of
--web.config.file. Schedules in the configuration are left to the controller.

The process that collects listens to nobody. One that has no privileges, and
runs as --serve-as, answers over HTTP; it must be able to read what
--web.config.file names.

Exit status: 0 after SIGINT or SIGTERM, 2 for a bad configuration or an address
that cannot be listened on.`
	cmd.Example = `  plumbline agent --config plumbline.yaml --web.listen-address :9811 \
      --web.config.file web.yaml`
	cmd.Flags().Var(&user, "serve-as", "user and group that answers over HTTP")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		options.Serve = func() (*privsep.Child, error) {
			args := []string{serveAgent}
			for _, flag := range []string{"web.listen-address", "web.config.file", "log.level", "log.format"} {
				args = append(args, "--"+flag+"="+cmd.Flags().Lookup(flag).Value.String())
			}
			return privsep.Spawn(user, args...)
		}
		return run(cmd, args)
	}
	return cmd
}

// serveAgent is the command of the half of an agent that serves.
const serveAgent = "serve-agent"

// newServeAgentCommand makes what only an agent starts.
func newServeAgentCommand() *cobra.Command {
	options := exporter.Options{Role: exporter.RoleAgent}
	cmd := daemonCommand(&options, exporter.DefaultAgentListenAddress, serveForAgent)
	cmd.Use, cmd.Hidden = serveAgent, true
	cmd.Short = "Answer over HTTP for an agent, which starts this itself"
	return cmd
}

func newControllerCommand() *cobra.Command {
	options := exporter.Options{Role: exporter.RoleController}
	cmd := daemonCommand(&options, exporter.DefaultListenAddress, serve)
	cmd.Use = "controller --config FILE"
	cmd.Short = "Diagnose the paths of a cluster, from what agents collect"
	cmd.Long = `Diagnose the paths of a cluster on schedule, from the state that agents collect,
and answer over HTTP as serve does.

"controller" in the configuration says where the agents are. What leads through
a node whose agent does not answer is unknown. Needs no privileges.

Exit status: 0 after SIGINT or SIGTERM, 2 for a bad configuration or an address
that cannot be listened on.`
	cmd.Example = `  plumbline controller --config plumbline.yaml`
	return cmd
}

// daemonCommand is a command that runs a daemon, with the flags that all have.
func daemonCommand(options *exporter.Options, listen string, run func(*cobra.Command, exporter.Options) error) *cobra.Command {
	var logLevel, logFmt string
	cmd := &cobra.Command{
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			handler, err := logHandler(cmd, logLevel, logFmt)
			if err != nil {
				return err
			}
			options.Log = slog.New(handler)
			limitMemory("/")
			if !cmd.Hidden { // what an agent starts is given all of its flags
				if err := refuseEmpty(cmd, "config", "web.config.file"); err != nil {
					return err
				}
			}
			return run(cmd, *options)
		},
	}
	f := cmd.Flags()
	f.StringVar(&options.ConfigFile, "config", "", "configuration file (docs/configuration.md)")
	f.StringVar(&options.ListenAddress, "web.listen-address", listen, "address to listen on; beyond loopback only with authentication")
	f.StringVar(&options.WebConfigFile, "web.config.file", "", "file with TLS certificates and users, in the format of the Prometheus exporter toolkit")
	f.StringVar(&logLevel, "log.level", "info", "debug, info, warn or error")
	f.StringVar(&logFmt, "log.format", "logfmt", "logfmt or json")
	return cmd
}

func logHandler(cmd *cobra.Command, level, format string) (slog.Handler, error) {
	var options slog.HandlerOptions
	switch level {
	case "debug":
		options.Level = slog.LevelDebug
	case "info":
		options.Level = slog.LevelInfo
	case "warn":
		options.Level = slog.LevelWarn
	case "error":
		options.Level = slog.LevelError
	default:
		return nil, usageError("--log.level: %q is not debug, info, warn or error", level)
	}
	switch format {
	case "logfmt":
		return slog.NewTextHandler(cmd.ErrOrStderr(), &options), nil
	case "json":
		return slog.NewJSONHandler(cmd.ErrOrStderr(), &options), nil
	}
	return nil, usageError("--log.format: %q is not logfmt or json", format)
}

// serve runs the daemon until the command's context ends, which main ties to
// SIGINT and SIGTERM.
func serve(cmd *cobra.Command, options exporter.Options) error {
	// Before anything else: until it is caught, SIGHUP kills.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	daemon, err := exporter.New(options)
	if err != nil {
		return usageError("%w", err)
	}
	if options.Serve == nil {
		options.Log.Info("listening", "address", fmt.Sprint(daemon.Addr()))
	}
	ctx := cmd.Context()
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-hangup:
				_ = daemon.Reload() // which logs and counts its errors
			case <-done:
				return
			}
		}
	}()
	err = daemon.Run(ctx)
	var ended *exporter.ServingError
	if errors.As(err, &ended) && ended.Status == statusUsage {
		return &exitError{code: statusUsage} // it has said what is wrong
	}
	return err
}

// serveForAgent answers until the agent that has started this process tells it to
// end, or ends.
func serveForAgent(cmd *cobra.Command, options exporter.Options) error {
	client, err := privsep.Inherit(cmd.Context())
	if err != nil {
		return err
	}
	front, err := exporter.NewFront(options, client, os.Stdin)
	if err != nil {
		return usageError("%w", err)
	}
	options.Log.Info("listening", "address", fmt.Sprint(front.Addr()))
	return front.Run(cmd.Context())
}
