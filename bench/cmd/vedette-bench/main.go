// Vedette-bench measures Vedette beside its peers and checks that it loses
// nothing: run prints and writes the tables of docs/benchmarks.md, crash kills a
// loaded server again and again, check writes and reads all the time and reports
// any gap, nezha loads recorded traces.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/vedette-io/vedette/bench/check"
	"github.com/vedette-io/vedette/bench/crash"
	"github.com/vedette-io/vedette/bench/peer"
	"github.com/vedette-io/vedette/bench/report"
)

// commandLine is everything the command understands.
type commandLine struct {
	Root    string `help:"Root of the working tree." default:"." type:"existingdir"`
	WorkDir string `help:"Where loads and data directories are written; default: .cache/bench/run below the root." type:"path"`
	OutDir  string `help:"Where raw results and profiles are written; default: bench/out below the root." type:"path"`
	Verbose bool   `help:"Log every step." short:"v" default:"true" negatable:""`

	Run    runCommand    `cmd:"" default:"withargs" help:"Run the scenarios against every peer and print the tables; what it does without a command."`
	Crash  crashCommand  `cmd:"" help:"Kill a loaded server with -9 again and again and compare every acknowledged sample."`
	Check  checkCommand  `cmd:"" help:"Write and read all the time and report any gap between acknowledgement and query."`
	Nezha  nezhaCommand  `cmd:"" help:"Load the traces of the Nezha data set into a server."`
	Render renderCommand `cmd:"" help:"Print the page of an earlier run from its raw results."`
}

// env is what every command works with.
type env struct {
	context.Context
	root, work, out string
	log             *slog.Logger
}

func main() {
	os.Exit(realMain())
}

func realMain() int {
	var cl commandLine
	k := kong.Parse(&cl, kong.Name("vedette-bench"), kong.UsageOnError(),
		kong.Description("Measures Vedette beside VictoriaMetrics and Prometheus, and checks that it loses nothing."))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	e, err := newEnv(ctx, cl)
	if err == nil {
		err = k.Run(e)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "vedette-bench:", err)
		return 1
	}
	return 0
}

func newEnv(ctx context.Context, cl commandLine) (*env, error) {
	root, err := filepath.Abs(cl.Root)
	if err != nil {
		return nil, err
	}
	e := &env{Context: ctx, root: root, work: cl.WorkDir, out: cl.OutDir, log: slog.New(slog.DiscardHandler)}
	if e.work == "" {
		e.work = filepath.Join(root, ".cache", "bench", "run")
	}
	if e.out == "" {
		e.out = filepath.Join(root, "bench", "out")
	}
	if cl.Verbose {
		e.log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return e, errors.Join(os.MkdirAll(e.work, 0o755), os.MkdirAll(e.out, 0o755))
}

// build builds the peers of a comma-separated list.
func (e *env) build(names []string) ([]peer.Spec, error) {
	var specs []peer.Spec
	for _, name := range names {
		start := time.Now()
		s, err := peer.Build(e, strings.TrimSpace(name), e.root, filepath.Join(e.root, ".cache", "bench"))
		if err != nil {
			return nil, err
		}
		e.log.Info("built", "peer", name, "version", s.Version, "took", time.Since(start).Round(time.Millisecond))
		specs = append(specs, s)
	}
	return specs, nil
}

// save writes raw results as JSON.
func (e *env) save(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	return os.WriteFile(filepath.Join(e.out, name), append(b, '\n'), 0o644)
}

// commandText is this invocation as a user would type it.
func commandText() string {
	return strings.Join(append([]string{"go run ./bench/cmd/vedette-bench"}, os.Args[1:]...), " ")
}

// crashVariant is what shares a broker, and what is killed.
type crashVariant struct {
	stores     int
	killBroker bool
}

// crashRun is crash.Run or crash.RunSpans.
type crashRun func(context.Context, crash.Options) (*crash.Report, error)

// crashOn runs the rounds of kill -9 in an empty directory, with a broker of
// their own if asked for.
func crashOn(e *env, o crash.Options, run crashRun, onKafka bool) (_ *crash.Report, err error) {
	if err := os.RemoveAll(o.RunDir); err != nil {
		return nil, err
	}
	if onKafka {
		b, err := peer.StartBroker(filepath.Join(o.RunDir, "kafka"))
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, b.Kill()) }()
		o = o.WithKafka(b)
	}
	return run(e, o)
}

type crashCommand struct {
	Peer       string `help:"Server to kill." default:"vedette"`
	Buffer     string `help:"Buffer of the server: its own, or kafka, with a broker that is started for it." enum:"embedded,kafka" default:"embedded"`
	Stores     int    `help:"Servers that share the broker's topics; with 2 or more, one of them is killed at a time while the others go on. Means --buffer kafka." default:"1"`
	KillBroker bool   `help:"Kill the broker instead of the server. Means --buffer kafka."`
	Traces     bool   `help:"Send spans instead of samples."`
	Rounds     int    `help:"How often." default:"20"`
	Seed       uint64 `help:"Seed of the random moments; 0: a new one."`
	Keep       bool   `help:"Leave the data directory behind."`
}

// name is what the variant's results are called.
func (c *crashCommand) name() string {
	name := "crash-" + c.Peer
	if c.Traces {
		name += "-traces"
	}
	if c.onKafka() {
		name += "-kafka"
	}
	if c.Stores > 1 {
		name += fmt.Sprintf("-%d-stores", c.Stores)
	}
	if c.KillBroker {
		name += "-kill-broker"
	}
	return name
}

func (c *crashCommand) onKafka() bool { return c.Buffer == "kafka" || c.Stores > 1 || c.KillBroker }

// Run implements the command.
func (c *crashCommand) Run(e *env) error {
	specs, err := e.build([]string{c.Peer})
	if err != nil {
		return err
	}
	options, run := crash.DefaultOptions, crash.Run
	if c.Traces {
		if c.Stores > 1 || c.KillBroker {
			return errors.New("spans are sent to one store that is killed, not to several or with a broker that is")
		}
		options, run = crash.DefaultSpanOptions, crash.RunSpans
	}
	o := options(specs[0], filepath.Join(e.work, c.name()))
	o.Rounds, o.Log, o.Stores, o.KillBroker = c.Rounds, e.log, c.Stores, c.KillBroker
	if c.Seed != 0 {
		o.Seed = c.Seed
	}
	rep, err := crashOn(e, o, run, c.onKafka())
	if err != nil {
		return err
	}
	if err := e.save(c.name()+".json", rep); err != nil {
		return err
	}
	fmt.Println(rep)
	for _, r := range rep.Rounds {
		for _, x := range r.Verdict.Examples {
			fmt.Println("  ", x)
		}
	}
	for _, x := range rep.Final.Examples {
		fmt.Println("   after a stop in good order:", x)
	}
	if bad := rep.Lost() + rep.Doubled(); bad > 0 {
		return fmt.Errorf("%d %s lost, doubled or altered; data in %s", bad, rep.Unit(), o.RunDir)
	}
	if c.Keep {
		return nil
	}
	return os.RemoveAll(o.RunDir)
}

type checkCommand struct {
	Peer     string        `help:"Server to check." default:"vedette"`
	Buffer   string        `help:"Buffer of the server: its own, or kafka, with a broker that is started for it." enum:"embedded,kafka" default:"embedded"`
	Duration time.Duration `help:"How long." default:"5m"`
	Keep     bool          `help:"Leave the data directory behind."`
}

// Run implements the command.
func (c *checkCommand) Run(e *env) (err error) {
	specs, err := e.build([]string{c.Peer})
	if err != nil {
		return err
	}
	name := "check-" + c.Peer
	if c.Buffer == "kafka" {
		name += "-kafka"
	}
	dir := filepath.Join(e.work, name)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if c.Buffer == "kafka" {
		b, err := peer.StartBroker(filepath.Join(dir, "kafka"))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.Kill()) }()
		specs[0] = specs[0].WithConfig(b.Config("consumer: {session_timeout: 3s}"))
	}
	o := check.DefaultOptions(specs[0], dir)
	o.Duration, o.Log = c.Duration, e.log
	rep, err := check.Run(e, o)
	if err != nil {
		return err
	}
	if err := e.save(name+".json", rep); err != nil {
		return err
	}
	fmt.Println(rep)
	if len(rep.Gaps) > 0 {
		return fmt.Errorf("%d gaps; data in %s", len(rep.Gaps), dir)
	}
	if c.Keep {
		return nil
	}
	return os.RemoveAll(dir)
}

type renderCommand struct {
	Files []string `arg:"" help:"Raw results; what a later file measured replaces what those before it did. Default: bench/out/latest.json." optional:"" type:"existingfile"`
	Write string   `help:"Write the page to this file instead of printing it." type:"path"`
	Save  string   `help:"Also write the results, put together, to this file." type:"path"`
}

// Run implements the command.
func (c *renderCommand) Run(e *env) error {
	if len(c.Files) == 0 {
		c.Files = []string{filepath.Join(e.out, "latest.json")}
	}
	var all *report.Report
	for _, file := range c.Files {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		rep := new(report.Report)
		if err := json.Unmarshal(b, rep); err != nil {
			return fmt.Errorf("decode %s: %w", file, err)
		}
		if all == nil {
			all = rep
			continue
		}
		all.Merge(rep)
	}
	if c.Save != "" {
		b, err := json.MarshalIndent(all, "", "  ")
		if err = errors.Join(err, os.WriteFile(c.Save, b, 0o644)); err != nil {
			return err
		}
	}
	if c.Write != "" {
		return os.WriteFile(c.Write, []byte(all.Markdown()), 0o644)
	}
	fmt.Print(all.Markdown())
	return nil
}
