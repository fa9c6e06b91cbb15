package main

import (
	"context"
	"log/slog"

	"github.com/plumbline-net/plumbline/exporter"
	"github.com/plumbline-net/plumbline/schedules"
	"github.com/plumbline-net/plumbline/simulator"
)

// cloudOf makes what reads the cloud that a configuration names into a snapshot, once.
// It does nothing where none is named. What fails is in the facts.
func cloudOf(file string) (add func(context.Context, *simulator.Snapshot), err error) {
	add = func(context.Context, *simulator.Snapshot) {}
	if file == "" {
		return add, nil
	}
	config, err := schedules.Load(file)
	if err != nil {
		return nil, err
	}
	reader, err := exporter.NewCloudReader(config, slog.New(slog.DiscardHandler))
	if reader == nil {
		return add, err
	}
	return func(ctx context.Context, snapshot *simulator.Snapshot) {
		defer reader.Close()
		snapshot.Cloud = reader.Fetch(ctx, exporter.CloudNodes(snapshot, config.Cloud.Region))
	}, nil
}
