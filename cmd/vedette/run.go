package main

import (
	"context"
	"errors"

	"github.com/vedette-io/vedette/internal/telemetry"
)

// runCmd starts the server.
type runCmd struct {
	Config string `help:"YAML configuration file; see docs/configuration.md. Without one, the defaults hold and Vedette scrapes itself." type:"path" placeholder:"FILE"`
	Data   string `help:"Data directory (default: ./data, or data_dir of the file)." placeholder:"DIR"`
	Listen string `help:"Address of the HTTP listener (default: 127.0.0.1:9190, or http.listen of the file)." placeholder:"ADDR"`
}

// Help is the second half of the command's help.
func (runCmd) Help() string {
	return `One process takes metrics in, buffers them durably, stores them and answers queries. It prints one line for every endpoint it serves and logs to standard error.

SIGINT or SIGTERM stops it gracefully: the doors close, the buffer drains, the heads are flushed, offsets are committed. A second signal stops it at once. Nothing that was acknowledged is lost either way.

Examples:
  vedette run
  vedette run --config vedette.yml --data /var/lib/vedette
  curl -s 127.0.0.1:9190/-/ready`
}

// Run serves until a signal.
func (c runCmd) Run(ctx context.Context, s streams) error {
	l, err := loadWithFlags(c.Config, c.Data, c.Listen)
	if err != nil {
		return err
	}
	srv, err := openServer(ctx, l, telemetry.NewLogger(l.Log, s.err))
	if err != nil {
		return err
	}
	return errors.Join(srv.run(ctx, s.out), srv.close())
}
