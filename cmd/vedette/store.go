package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/vedette-io/vedette/internal/config"
	"github.com/vedette-io/vedette/internal/telemetry"
	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/metric"
)

// storeCmd is for a human with a disk in doubt.
type storeCmd struct {
	Verify   storeVerifyCmd   `cmd:"" help:"Read and decode every byte of every block and name what is damaged. Changes nothing."`
	Dump     storeDumpCmd     `cmd:"" help:"Print what the blocks hold as text."`
	Repair   storeRepairCmd   `cmd:"" help:"Rewrite damaged blocks with what can be read of them."`
	Snapshot storeSnapshotCmd `cmd:"" help:"Link the store into a directory from which a new server starts."`
}

// storeFlags say where a store is.
type storeFlags struct {
	Data   string `help:"Data directory of the server (default: ./data, or data_dir of the file)." type:"path" placeholder:"DIR"`
	Config string `help:"The server's configuration file, if it has one." type:"path" placeholder:"FILE"`
}

// load returns the configuration with the data directory that counts.
func (f storeFlags) load() (loaded, error) {
	l, err := loadConfig(f.Config)
	if err == nil && f.Data != "" {
		l.DataDir = f.Data
	}
	return l, err
}

// lockStore takes the store of a server that must not run meanwhile.
func (f storeFlags) lockStore() (dir string, lock io.Closer, err error) {
	l, err := f.load()
	if err != nil {
		return "", nil, err
	}
	dir = filepath.Join(l.DataDir, storeDir)
	if _, err := vfs.OS.Stat(dir); err != nil {
		return "", nil, fmt.Errorf("find store: %w", err)
	}
	lock, err = metric.Lock(vfs.OS, dir)
	if err != nil {
		return "", nil, mustStop(err)
	}
	return dir, lock, nil
}

func mustStop(err error) error {
	if errors.Is(err, vfs.ErrLocked) {
		return fmt.Errorf("a server uses this store, stop it first: %w", err)
	}
	return err
}

// storeVerifyCmd reads everything.
type storeVerifyCmd struct {
	storeFlags `embed:""`
}

// Help is the second half of the command's help.
func (storeVerifyCmd) Help() string {
	return `The server must be stopped. Exits with 1 if anything is damaged. "vedette store repair" saves what can be read.`
}

// Run prints what is damaged.
func (c storeVerifyCmd) Run(s streams) error {
	dir, lock, err := c.lockStore()
	if err != nil {
		return err
	}
	r, err := metric.Verify(vfs.OS, dir)
	if err = errors.Join(err, lock.Close()); err != nil {
		return err
	}
	for _, p := range r.Problems {
		fmt.Fprintf(s.out, "%s: %v\n", p.Block, p.Err)
	}
	fmt.Fprintf(s.out, "%d blocks, %d samples, %d problems\n", r.Blocks, r.Samples, len(r.Problems))
	if len(r.Problems) > 0 {
		return exitError(exitFault)
	}
	return nil
}

// storeDumpCmd prints blocks as text.
type storeDumpCmd struct {
	storeFlags `embed:""`
	Series     bool `help:"Print the labels and chunks of every series, too."`
	Samples    bool `help:"Print every sample, too."`
}

// Help is the second half of the command's help.
func (storeDumpCmd) Help() string {
	return `The server must be stopped. Without flags it prints one paragraph per block: time range, counts, sections, and which offsets of the buffer it holds.`
}

// Run prints the blocks.
func (c storeDumpCmd) Run(s streams) error {
	dir, lock, err := c.lockStore()
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(s.out, 1<<16)
	err = metric.Dump(vfs.OS, dir, metric.DumpOptions{Series: c.Series || c.Samples, Samples: c.Samples}, w)
	return errors.Join(err, w.Flush(), lock.Close())
}

// storeRepairCmd saves what can be read.
type storeRepairCmd struct {
	storeFlags `embed:""`
}

// Help is the second half of the command's help.
func (storeRepairCmd) Help() string {
	return `The server must be stopped. Every damaged block, and every block that a server has set aside (NAME.corrupt), is rewritten with the series that can still be read. The original stays beside it as NAME.damaged; nothing is deleted.`
}

// Run rewrites damaged blocks.
func (c storeRepairCmd) Run(s streams) error {
	dir, lock, err := c.lockStore()
	if err != nil {
		return err
	}
	r, err := metric.Repair(vfs.OS, dir)
	for _, p := range r.Problems {
		fmt.Fprintf(s.out, "%s: %v\n", p.Block, p.Err)
	}
	for _, name := range r.Repaired {
		fmt.Fprintln(s.out, "rewritten:", name)
	}
	if err = errors.Join(err, lock.Close()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%d blocks read, %d rewritten, %d series lost in them\n", r.Blocks, len(r.Repaired), r.LostEntries)
	return err
}

// storeSnapshotCmd makes a directory that another server can start from.
type storeSnapshotCmd struct {
	storeFlags `embed:""`
	To         string        `help:"Directory to create; start a server on it with --data." type:"path" placeholder:"DIR"`
	URL        string        `help:"Ask the running server at this address instead; it writes below its own data directory, and query_api.enable_admin_api must be set." placeholder:"URL"`
	Token      config.Secret `help:"Bearer token of that server." env:"VEDETTE_TOKEN" placeholder:"TOKEN"`
}

// Help is the second half of the command's help.
func (storeSnapshotCmd) Help() string {
	return `Blocks are linked, not copied, so --to must be on the same file system, and a snapshot costs next to nothing until the originals are merged away.

Examples:
  vedette store snapshot --data data --to backup      (the server is stopped)
  vedette store snapshot --url http://127.0.0.1:9190  (the server runs)`
}

// Run takes a snapshot.
func (c storeSnapshotCmd) Run(ctx context.Context, s streams) error {
	if c.URL != "" {
		return requestSnapshot(ctx, s.out, c.URL, c.Token)
	}
	if c.To == "" {
		return errors.New("take snapshot: want --to, or --url of a running server")
	}
	l, err := c.load()
	if err != nil {
		return err
	}
	dir := filepath.Join(l.DataDir, storeDir)
	if _, err := vfs.OS.Stat(dir); err != nil {
		return fmt.Errorf("find store: %w", err)
	}
	db, err := metric.Open(metric.Options{
		Dir: dir, FS: vfs.OS, Config: l.Store, Logger: telemetry.NewLogger(l.Log, s.err),
	})
	if err != nil {
		return mustStop(err)
	}
	err = snapshotAdmin{db}.Snapshot(ctx, c.To)
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "snapshot written; start a server on it with: vedette run --data %s\n", c.To)
	return err
}
