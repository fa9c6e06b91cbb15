//go:build !linux

package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func interceptListener() {}

func newLabCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "lab",
		Short:              "Build a small cluster out of network namespaces (Linux only)",
		DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return &exitError{code: statusUsage, err: errors.New("lab needs Linux")}
		},
	}
}
