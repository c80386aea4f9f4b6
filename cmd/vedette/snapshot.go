package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"

	"github.com/vedette-io/vedette/internal/config"
	"github.com/vedette-io/vedette/storage/metric"
)

// snapshotAdmin makes snapshots that are whole data directories, for the HTTP
// API and the command line.
type snapshotAdmin struct{ *metric.DB }

// Snapshot writes the store below dir as a server expects it.
func (a snapshotAdmin) Snapshot(ctx context.Context, dir string) error {
	return a.DB.Snapshot(ctx, filepath.Join(dir, storeDir))
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
