package overhead

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/bench/peer"
	"github.com/vedette-io/vedette/ebpf/probe"
	"github.com/vedette-io/vedette/internal/realnginx"
)

// Options of Run.
type Options struct {
	Vedette peer.Spec
	Nginx   string // its executable
	Dir     string // where files may be left while it runs
	Rounds  int    // turns of each kind
	PerTurn int    // requests in a turn
	Rate    float64
	Span    time.Duration // how long the agent is watched at that rate
	Log     *slog.Logger
}

// DefaultOptions are those of what is published.
func DefaultOptions(vedette peer.Spec, nginx, dir string) Options {
	return Options{Vedette: vedette, Nginx: nginx, Dir: dir, Rounds: 11, PerTurn: 80_000, Rate: 20_000, Span: time.Minute, Log: slog.Default()}
}

// Connections that nginx is asked over: at a steady rate, and as fast as it answers.
const (
	connections = 8
	flooding    = 16
)

// Report is what was measured.
type Report struct {
	PerTurn  int       `json:"requests_per_turn"`
	Variants []Variant `json:"variants"`
	Agent    *Agent    `json:"agent,omitempty"`
}

// Variant is the agent with some features.
type Variant struct {
	Name     string   `json:"name"`
	Title    string   `json:"title"`
	Config   string   `json:"config"`
	Features []string `json:"features"` // that must load
	// Processor time of nginx for a request, in the order measured: without an agent,
	// the mean of the turns before and after that with it, and with it.
	Off []time.Duration `json:"off_nanos"`
	On  []time.Duration `json:"on_nanos"`
}

// Agent is what the whole agent with its defaults took while nginx was asked.
type Agent struct {
	PerSecond float64       `json:"requests_per_second"` // answered
	Span      time.Duration `json:"span_nanos"`
	CPU       time.Duration `json:"cpu_nanos"`
	Memory    peer.Memory   `json:"memory"`         // at the end; its peak is that of the load
	Start     peer.Memory   `json:"memory_start"`   // before the load; its peak is that of the start
	Highest   peer.Memory   `json:"memory_highest"` // of looks every half second, each of its figures for itself
	Maps      int64         `json:"bpf_maps_bytes"` // kernel memory
}

// Median of figures in any order.
func Median(figures []time.Duration) time.Duration { return Quantile(figures, 0.5) }

// Quantile of figures in any order, 0 of none.
func Quantile(figures []time.Duration, q float64) time.Duration {
	if len(figures) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(figures))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// Added is what each turn with the agent took more than those without right before
// and after it: what else the machine does changes slower than that.
func (v *Variant) Added() []time.Duration {
	added := make([]time.Duration, len(v.On))
	for i := range v.On {
		added[i] = v.On[i] - v.Off[i]
	}
	return added
}

// Overhead is the median of what a variant added.
func (r *Report) Overhead(name string) (time.Duration, bool) {
	for i := range r.Variants {
		if r.Variants[i].Name == name {
			return Median(r.Variants[i].Added()), true
		}
	}
	return 0, false
}

// Names of the variants.
const (
	HTTP    = "http"
	Default = "default"
	Spans   = "spans"
)

// byDefault lists the features that load without any configuration; tls is off
// until it is told whom to watch.
func byDefault() []string {
	return slices.DeleteFunc(probe.DefaultConfig().Features, func(f string) bool { return f == "tls" })
}

func variants() []Variant {
	only := func(ebpf string) string {
		return "collect:\n  host: {enabled: false}\n  containers: {enabled: false}\n  gpu: {enabled: false}\n  ebpf:\n" + ebpf
	}
	return []Variant{
		{Name: HTTP, Title: "HTTP metrics", Config: only("    features: [http]\n"), Features: []string{"http"}},
		{Name: Default, Title: "every feature that is on by default", Config: "", Features: byDefault()},
		{
			Name: Spans, Title: "HTTP metrics and spans of a tenth of the requests",
			Config: only("    features: [http]\n    spans: {ratio: 0.1}\n"), Features: []string{"http"},
		},
	}
}

// Run measures. It needs the rights that the agent needs.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	if err := forget(o.Vedette.Binary); err != nil {
		return nil, err
	}
	s, err := realnginx.Start(ctx, realnginx.Config{
		Executable: o.Nginx, Dir: filepath.Join(o.Dir, "nginx"), Workers: 1, Server: `location /hello { return 200 "hello\n"; }`,
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	if loadProcessor() > 0 {
		if err := s.Pin(0); err != nil {
			return nil, err
		}
	}
	r := &Report{PerTurn: o.PerTurn, Variants: variants()}
	if _, err := turn(ctx, o, s); err != nil { // warm
		return nil, err
	}
	before, err := turn(ctx, o, s)
	if err != nil {
		return nil, err
	}
	for round := range o.Rounds {
		for i := range r.Variants {
			v := &r.Variants[i]
			on, err := watched(ctx, o, v, func() (time.Duration, error) { return turn(ctx, o, s) })
			if err != nil {
				return nil, fmt.Errorf("measure %s: %w", v.Title, err)
			}
			after, err := turn(ctx, o, s)
			if err != nil {
				return nil, err
			}
			off := (before + after) / 2
			before = after
			v.Off, v.On = append(v.Off, off), append(v.On, on)
			o.Log.Info("turns", "round", round+1, "variant", v.Name, "off", off, "on", on)
		}
	}
	r.Agent, err = ownCost(ctx, o, s)
	return r, err
}

// forget takes a file out of the page cache, for an executable that was just
// linked lies there in large pieces, which the kernel maps as a whole: more of it
// would be resident than of one that was installed and read from the disk.
func forget(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("forget the executable's pages: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("forget the executable's pages: %w", err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return fmt.Errorf("forget the executable's pages: %w", err)
	}
	return nil
}

// parts of a turn, of which the median counts: something else that runs for a
// moment spoils one of them.
const parts = 10

// turn gives nginx's processor time for one request.
func turn(ctx context.Context, o Options, s *realnginx.Server) (time.Duration, error) {
	var took []time.Duration
	n := o.PerTurn / parts / flooding
	before, err := s.Processor()
	if err != nil {
		return 0, err
	}
	err = flood(ctx, s.Addr(), n, func() error {
		now, err := s.Processor()
		took = append(took, (now-before)/time.Duration(n*flooding))
		before = now
		return err
	})
	return Median(took), err
}

// watched runs an agent while measure runs.
func watched(ctx context.Context, o Options, v *Variant, measure func() (time.Duration, error)) (_ time.Duration, err error) {
	stop, p, err := startAgent(ctx, o, v)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	// What its start takes of the processors is not what watching takes.
	if _, err := p.Settle(ctx, time.Second, 10*time.Second); err != nil {
		return 0, err
	}
	return measure()
}

// ownCost watches the agent with its defaults at a steady rate of requests.
func ownCost(ctx context.Context, o Options, s *realnginx.Server) (_ *Agent, err error) {
	stop, p, err := startAgent(ctx, o, &Variant{Name: "agent", Features: byDefault()})
	if err != nil {
		return nil, fmt.Errorf("measure the agent: %w", err)
	}
	defer func() { err = errors.Join(err, stop()) }()
	// What only the start needed is given back by then.
	if err := wait(ctx, settle); err != nil {
		return nil, err
	}
	a := new(Agent)
	if a.Start, err = p.Memory(); err != nil {
		return nil, err
	}
	if err := p.ResetPeak(); err != nil {
		return nil, err
	}
	before, err := p.CPU()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	n := int(o.Rate * o.Span.Seconds() / connections)
	a.Highest, err = highest(p, func() error { return send(ctx, s.Addr(), connections, n, o.Rate) })
	if err != nil {
		return nil, err
	}
	a.Span = time.Since(start)
	after, err := p.CPU()
	if err != nil {
		return nil, err
	}
	a.PerSecond, a.CPU = float64(n*connections)/a.Span.Seconds(), after-before
	if a.Memory, err = p.Memory(); err != nil {
		return nil, err
	}
	a.Maps, err = p.MapMemory()
	o.Log.Info("agent", "requests_per_second", int(a.PerSecond), "cpu", a.CPU, "peak_mb", a.Memory.Peak/1e6, "start_peak_mb", a.Start.Peak/1e6,
		"anon_mb", a.Highest.Anon/1e6, "file_mb", a.Highest.File/1e6, "bpf_maps_mb", a.Maps/1e6)
	return a, err
}

// settle is how long an agent that is to be watched has run before.
const settle = 40 * time.Second

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// highest looks at a process's memory while f runs.
func highest(p *peer.Process, f func() error) (peer.Memory, error) {
	done := make(chan error, 1)
	go func() { done <- f() }()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	var h peer.Memory
	var failed error
	for {
		select {
		case err := <-done:
			return h, errors.Join(err, failed)
		case <-tick.C:
			m, err := p.Memory()
			if err != nil {
				failed = err
				continue
			}
			h.Peak, h.RSS, h.Anon, h.File = max(h.Peak, m.Peak), max(h.RSS, m.RSS), max(h.Anon, m.Anon), max(h.File, m.File)
		}
	}
}

// startAgent starts a server and an agent that ships to it, and waits until the
// features have loaded.
func startAgent(ctx context.Context, o Options, v *Variant) (stop func() error, _ *peer.Process, err error) {
	dir := filepath.Join(o.Dir, v.Name)
	if err := os.RemoveAll(dir); err != nil {
		return nil, nil, err
	}
	var running []*peer.Process
	stop = func() error {
		var errs []error
		for _, p := range slices.Backward(running) {
			errs = append(errs, p.Stop())
		}
		return errors.Join(append(errs, os.RemoveAll(dir))...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stop())
		}
	}()
	start := func(name string, args []string, config string) (*peer.Process, error) {
		spec := o.Vedette
		runDir := filepath.Join(dir, name)
		spec.Prepare = func(runDir string) error {
			return os.WriteFile(filepath.Join(runDir, "vedette.yaml"), []byte(config), 0o644)
		}
		spec.Args = func(addr, runDir string) []string {
			return append(args, "--config", filepath.Join(runDir, "vedette.yaml"), "--data", filepath.Join(runDir, peer.Data), "--listen", addr)
		}
		p, err := spec.Start(runDir)
		if err != nil {
			return nil, err
		}
		running = append(running, p)
		_, err = p.WaitReady(ctx)
		return p, err
	}
	// The server stands for one elsewhere: it leaves nginx's processor alone.
	var store *peer.Process
	err = besideLoad(func() (err error) {
		store, err = start("server", []string{"run"}, "collect: {enabled: false}\ntracing: {sample_ratio: 0}\n"+doors)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	agent, err := start("agent", []string{"collect"}, "forward: {endpoint: "+store.URL+"}\n"+doors+v.Config)
	if err != nil {
		return nil, nil, err
	}
	return stop, agent, loaded(ctx, agent, v.Features)
}

// doors keeps the servers off each other's ports.
const doors = "otlp:\n  grpc: {listen: 127.0.0.1:0}\n  http: {listen: 127.0.0.1:0}\n"

// loaded waits until an agent says of each feature what became of it.
func loaded(ctx context.Context, p *peer.Process, features []string) error {
	var refused string
	err := until(ctx, time.Minute, func() (bool, error) {
		b, err := os.ReadFile(filepath.Join(p.RunDir, "log"))
		if err != nil {
			return false, err
		}
		n := 0
		for line := range strings.Lines(string(b)) {
			for _, f := range features {
				switch {
				case !slices.Contains(strings.Fields(line), "feature="+f):
				case strings.Contains(line, "eBPF feature is loaded"):
					n++
				case strings.Contains(line, "eBPF feature is not available"):
					refused = strings.TrimSpace(line)
					return true, nil
				}
			}
		}
		return n == len(features), nil
	})
	if err == nil && refused != "" {
		err = errors.New(refused)
	}
	if err != nil {
		return fmt.Errorf("wait for eBPF features: %w", err)
	}
	return nil
}

// until asks every few milliseconds until it is so.
func until(ctx context.Context, patience time.Duration, so func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := so(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
