package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"

	"github.com/vedette-io/vedette/internal/config"
	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/metric"
	"github.com/vedette-io/vedette/storage/trace"
)

// snapshotAdmin makes snapshots that are whole data directories, for the HTTP
// API and the command line.
type snapshotAdmin struct {
	*metric.DB
	traces *trace.DB // nil if there is none
}

// Snapshot writes the stores below dir as a server expects them. What was
// acknowledged before the call is in it; of what comes meanwhile, metrics and
// traces may hold different parts.
func (a snapshotAdmin) Snapshot(ctx context.Context, dir string) error {
	metrics := filepath.Join(dir, storeDir)
	if err := a.DB.Snapshot(ctx, metrics); err != nil || a.traces == nil {
		return err
	}
	if err := a.traces.Snapshot(ctx, filepath.Join(dir, traceStoreDir)); err != nil {
		return errors.Join(err, vfs.OS.RemoveAll(metrics)) // half a snapshot is none
	}
	return nil
}

// openStopped opens the stores of a server that is stopped.
func openStopped(l loaded, logger *slog.Logger) (a snapshotAdmin, err error) {
	dir := filepath.Join(l.DataDir, storeDir)
	if _, err := vfs.OS.Stat(dir); err != nil {
		return a, fmt.Errorf("find store: %w", err)
	}
	if a.DB, err = metric.Open(metric.Options{Dir: dir, FS: vfs.OS, Config: l.Store, Logger: logger}); err != nil {
		return a, mustStop(err)
	}
	dir = filepath.Join(l.DataDir, traceStoreDir)
	if _, err := vfs.OS.Stat(dir); err != nil {
		return a, nil // of a server from before there were traces
	}
	if a.traces, err = trace.Open(trace.Options{Dir: dir, FS: vfs.OS, Config: l.TraceStore, Logger: logger}); err != nil {
		return a, errors.Join(mustStop(err), a.DB.Close())
	}
	return a, nil
}

// close releases what openStopped has opened.
func (a snapshotAdmin) close() error {
	err := a.DB.Close()
	if a.traces != nil {
		err = errors.Join(err, a.traces.Close())
	}
	return err
}

// requestSnapshot lets a running server write a snapshot.
func requestSnapshot(ctx context.Context, out io.Writer, server string, token config.Secret) error {
	target, err := url.JoinPath(server, "/api/v1/admin/tsdb/snapshot")
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: tokenTransport{token: token}}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	var answer struct {
		Error string
		Data  struct{ Name string }
	}
	if err := json.Unmarshal(body, &answer); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("take snapshot at %s: %s: %s", server, resp.Status, cmp.Or(answer.Error, string(body)))
	}
	_, err = fmt.Fprintf(out, "snapshot written to %s below the server's data directory\n", filepath.Join(snapshotsDir, answer.Data.Name))
	return err
}
