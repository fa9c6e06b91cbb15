package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/plumbline-net/plumbline/exporter"
)

func newServeCommand() *cobra.Command {
	var options exporter.Options
	cmd := daemonCommand(&options, exporter.DefaultListenAddress)
	cmd.Use = "serve --config FILE"
	cmd.Short = "Diagnose paths on schedule, and answer over HTTP with reports and metrics"
	cmd.Long = `Diagnose paths on schedule, and answer over HTTP with reports and metrics.

The configuration is read again on SIGHUP, on POST /-/reload and when its file changes; if it is bad, the old one is
kept. Without a configuration there are no schedules, and questions are answered all the same.

Exit status: 0 after SIGINT or SIGTERM, 2 for a bad configuration or an address that cannot be listened on.`
	cmd.Example = `  plumbline serve --config plumbline.yaml
  plumbline serve --config plumbline.yaml --web.listen-address :9810 --web.config.file web.yaml
  plumbline serve --bundle examples/lab.tar.zst`
	cmd.Flags().StringVar(&options.Bundle, "bundle", "", "directory or archive to answer from, instead of the state of this host")
	return cmd
}

func newAgentCommand() *cobra.Command {
	options := exporter.Options{Role: exporter.RoleAgent}
	cmd := daemonCommand(&options, exporter.DefaultAgentListenAddress)
	cmd.Use = "agent --config FILE"
	cmd.Short = "Collect the state of this node for a controller, and count what its kernel drops"
	cmd.Long = `Collect the state of this node for a controller, and count what its kernel drops. Needs root.

The state is read when a controller asks for it. Beyond loopback, controllers have to prove who they are: with a
certificate, or as a user of --web.config.file. Schedules in the configuration are left to the controller.

Exit status: 0 after SIGINT or SIGTERM, 2 for a bad configuration or an address that cannot be listened on.`
	cmd.Example = `  plumbline agent --config plumbline.yaml --web.listen-address :9811 --web.config.file web.yaml`
	return cmd
}

func newControllerCommand() *cobra.Command {
	options := exporter.Options{Role: exporter.RoleController}
	cmd := daemonCommand(&options, exporter.DefaultListenAddress)
	cmd.Use = "controller --config FILE"
	cmd.Short = "Diagnose the paths of a cluster on schedule, from the state that agents collect"
	cmd.Long = `Diagnose the paths of a cluster on schedule, from the state that agents collect, and answer over HTTP as serve does.

"controller" in the configuration says where the agents are. What leads through a node whose agent does not answer is
unknown. Needs no privileges.

Exit status: 0 after SIGINT or SIGTERM, 2 for a bad configuration or an address that cannot be listened on.`
	cmd.Example = `  plumbline controller --config plumbline.yaml`
	return cmd
}

// daemonCommand is a command that runs a daemon, with the flags that all have.
func daemonCommand(options *exporter.Options, listen string) *cobra.Command {
	var logLevel, logFmt string
	cmd := &cobra.Command{
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			handler, err := logHandler(cmd, logLevel, logFmt)
			if err != nil {
				return err
			}
			options.Log = slog.New(handler)
			return serve(cmd, *options)
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
	options.Log.Info("listening", "address", fmt.Sprint(daemon.Addr()))
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
	return daemon.Run(ctx)
}
