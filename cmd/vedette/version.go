package main

import (
	"fmt"
	"runtime"

	"github.com/vedette-io/vedette/internal/telemetry"
)

// versionCmd prints what was built.
type versionCmd struct{}

// Run prints one line.
func (versionCmd) Run(s streams) error {
	b := telemetry.ReadBuild("")
	revision := b.Revision
	if revision == "" {
		revision = "unknown"
	}
	_, err := fmt.Fprintf(s.out, "vedette %s, revision %s, %s %s/%s\n", b.Version, revision, b.GoVersion, runtime.GOOS, runtime.GOARCH)
	return err
}
