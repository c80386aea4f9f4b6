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
	"github.com/vedette-io/vedette/storage/trace"
)

// storeCmd is for a human with a disk in doubt.
type storeCmd struct {
	Verify   storeVerifyCmd   `cmd:"" help:"Read and decode every byte of every block and name what is damaged. Changes nothing."`
	Dump     storeDumpCmd     `cmd:"" help:"Print what the blocks hold as text."`
	Repair   storeRepairCmd   `cmd:"" help:"Rewrite damaged blocks with what can be read of them."`
	Snapshot storeSnapshotCmd `cmd:"" help:"Link the stores into a directory from which a new server starts."`
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

// onlyFlags choose between the stores of a data directory.
type onlyFlags struct {
	storeFlags `embed:""`
	Only       string `help:"metrics or traces: the other store is left alone (default: both)." enum:",metrics,traces" default:"" placeholder:"STORE"`
}

// lockedStores are the stores of a server that must not run meanwhile. The
// directory of one that is not there, or was not chosen, is empty.
type lockedStores struct {
	metrics, traces string
	locks           []io.Closer
}

// lock takes the stores that are chosen. A data directory from before there
// were traces has no store of them.
func (f onlyFlags) lock() (*lockedStores, error) {
	l, err := f.load()
	if err != nil {
		return nil, err
	}
	stores := &lockedStores{}
	var missing error
	for _, s := range []struct {
		name, dir string
		lock      func(vfs.FS, string) (io.Closer, error)
		to        *string
	}{
		{"metrics", storeDir, metric.Lock, &stores.metrics},
		{"traces", traceStoreDir, trace.Lock, &stores.traces},
	} {
		if f.Only != "" && f.Only != s.name {
			continue
		}
		dir := filepath.Join(l.DataDir, s.dir)
		if _, err := vfs.OS.Stat(dir); err != nil {
			missing = errors.Join(missing, fmt.Errorf("find store of %s: %w", s.name, err))
			continue
		}
		lock, err := s.lock(vfs.OS, dir)
		if err != nil {
			return nil, errors.Join(mustStop(err), stores.Close())
		}
		*s.to = dir
		stores.locks = append(stores.locks, lock)
	}
	if len(stores.locks) == 0 {
		return nil, missing
	}
	return stores, nil
}

// Close gives the stores back.
func (l *lockedStores) Close() error {
	var errs []error
	for _, lock := range l.locks {
		errs = append(errs, lock.Close())
	}
	return errors.Join(errs...)
}

func mustStop(err error) error {
	if errors.Is(err, vfs.ErrLocked) {
		return fmt.Errorf("a server uses this store, stop it first: %w", err)
	}
	return err
}

// storeVerifyCmd reads everything.
type storeVerifyCmd struct {
	onlyFlags `embed:""`
}

// Help is the second half of the command's help.
func (storeVerifyCmd) Help() string {
	return `The server must be stopped. Reads the stores of metrics and of traces. Exits with 1 if anything is damaged. "vedette store repair" saves what can be read.`
}

// Run prints what is damaged.
func (c storeVerifyCmd) Run(s streams) (err error) {
	stores, err := c.lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stores.Close()) }()
	problems := 0
	if stores.metrics != "" {
		r, err := metric.Verify(vfs.OS, stores.metrics)
		if err != nil {
			return err
		}
		for _, p := range r.Problems {
			fmt.Fprintf(s.out, "%s: %v\n", p.Block, p.Err)
		}
		fmt.Fprintf(s.out, "metrics: %d blocks, %d samples, %d problems\n", r.Blocks, r.Samples, len(r.Problems))
		problems += len(r.Problems)
	}
	if stores.traces != "" {
		r, err := trace.Verify(vfs.OS, stores.traces)
		if err != nil {
			return err
		}
		for _, p := range r.Problems {
			fmt.Fprintf(s.out, "%s: %v\n", p.Block, p.Err)
		}
		fmt.Fprintf(s.out, "traces: %d blocks, %d spans, %d problems\n", r.Blocks, r.Spans, len(r.Problems))
		problems += len(r.Problems)
	}
	if problems > 0 {
		return exitError(exitFault)
	}
	return nil
}

// storeDumpCmd prints blocks as text.
type storeDumpCmd struct {
	onlyFlags `embed:""`
	Series    bool `help:"Print the labels and chunks of every series, too."`
	Samples   bool `help:"Print every sample, too."`
	Services  bool `help:"Print the services and operations of every block of traces, too."`
	Spans     bool `help:"Print a line for every span, too."`
}

// Help is the second half of the command's help.
func (storeDumpCmd) Help() string {
	return `The server must be stopped. Without flags it prints one paragraph per block: times, counts, what is in it, and which offsets of the buffer it holds.`
}

// Run prints the blocks.
func (c storeDumpCmd) Run(s streams) (err error) {
	stores, err := c.lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stores.Close()) }()
	w := bufio.NewWriterSize(s.out, 1<<16)
	if stores.metrics != "" {
		o := metric.DumpOptions{Series: c.Series || c.Samples, Samples: c.Samples}
		if err := metric.Dump(vfs.OS, stores.metrics, o, w); err != nil {
			return errors.Join(err, w.Flush())
		}
	}
	if stores.traces != "" {
		o := trace.DumpOptions{Services: c.Services, Spans: c.Spans}
		if err := trace.Dump(vfs.OS, stores.traces, o, w); err != nil {
			return errors.Join(err, w.Flush())
		}
	}
	return w.Flush()
}

// storeRepairCmd saves what can be read.
type storeRepairCmd struct {
	onlyFlags `embed:""`
}

// Help is the second half of the command's help.
func (storeRepairCmd) Help() string {
	return `The server must be stopped. Every damaged block, and every block that a server has set aside (NAME.corrupt), is rewritten with the series or spans that can still be read. The original stays beside it as NAME.damaged; nothing is deleted.`
}

// Run rewrites damaged blocks.
func (c storeRepairCmd) Run(s streams) (err error) {
	stores, err := c.lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stores.Close()) }()
	if stores.metrics != "" {
		r, err := metric.Repair(vfs.OS, stores.metrics)
		for _, p := range r.Problems {
			fmt.Fprintf(s.out, "%s: %v\n", p.Block, p.Err)
		}
		printRewritten(s.out, r.Repaired)
		if err != nil {
			return err
		}
		fmt.Fprintf(s.out, "metrics: %d blocks read, %d rewritten, %d series lost in them\n", r.Blocks, len(r.Repaired), r.LostEntries)
	}
	if stores.traces != "" {
		r, err := trace.Repair(vfs.OS, stores.traces)
		for _, p := range r.Problems {
			fmt.Fprintf(s.out, "%s: %v\n", p.Block, p.Err)
		}
		printRewritten(s.out, r.Repaired)
		if err != nil {
			return err
		}
		fmt.Fprintf(s.out, "traces: %d blocks read, %d rewritten, %d spans lost in them\n", r.Blocks, len(r.Repaired), r.LostSpans)
	}
	return nil
}

func printRewritten(out io.Writer, blocks []string) {
	for _, name := range blocks {
		fmt.Fprintln(out, "rewritten:", name)
	}
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
	admin, err := openStopped(l, telemetry.NewLogger(l.Log, s.err))
	if err != nil {
		return err
	}
	err = admin.Snapshot(ctx, c.To)
	if err = errors.Join(err, admin.close()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "snapshot written; start a server on it with: vedette run --data %s\n", c.To)
	return err
}
