package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/pflag"

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/kubernetes"
	"github.com/plumbline-net/plumbline/simulator/cluster"
)

// apiTimeout bounds reading the objects of a cluster once.
const apiTimeout = time.Minute

// addAccessFlags adds the flags that say which API server to ask.
func addAccessFlags(flags *pflag.FlagSet, access *kubernetes.Access) {
	flags.StringVar(&access.Kubeconfig, "kubeconfig", "", "read the Kubernetes objects from the API server that this file names")
	flags.BoolVar(&access.InCluster, "in-cluster", false, "read the Kubernetes objects with the service account of the pod that this runs in")
}

// withCluster completes the options with the objects of a cluster, read once.
func withCluster(ctx context.Context, options collector.Options, access kubernetes.Access) (collector.Options, error) {
	if !access.Given() {
		return options, nil
	}
	if options.ManifestDir != "" {
		return options, errors.New("--manifests and --kubeconfig or --in-cluster exclude each other")
	}
	config, err := access.Config()
	if err != nil {
		return options, err
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	// What fails is in the error, and what is refused in the objects.
	objects, err := kubernetes.Read(ctx, config, slog.New(slog.DiscardHandler))
	options.Cluster = func() (cluster.Objects, error) { return objects, nil }
	return options, err
}
