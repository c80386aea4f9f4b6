// Command vedette is the whole pipeline in one binary: it takes metrics and traces
// in, keeps them in columns and answers PromQL and TraceQL.
//
// This package only wires: flags and the configuration file (config.go), the
// parts of a server and the order in which they start and stop (server.go,
// lifecycle.go), HTTP routes (routes.go) and the smaller commands, one file
// each. Everything that decides something lives in the packages it joins.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// commandLine is everything that vedette understands.
type commandLine struct {
	Run         runCmd         `cmd:"" help:"Start the server."`
	Collect     collectCmd     `cmd:"" help:"Start the agent of a host: measure it and forward everything to a server."`
	CheckConfig checkConfigCmd `cmd:"" name:"check-config" help:"Check a configuration file and say what is wrong with it."`
	Query       queryCmd       `cmd:"" help:"Ask a running server a PromQL question and print the answer."`
	Trace       traceCmd       `cmd:"" help:"Draw a trace of a running server."`
	Search      searchCmd      `cmd:"" help:"Search the traces of a running server with TraceQL."`
	Store       storeCmd       `cmd:"" help:"Look at, check and mend the data of a server that is stopped; snapshot one that runs."`
	Bench       benchCmd       `cmd:"" help:"Send made-up remote write load to a running server and report what it took."`
	Version     versionCmd     `cmd:"" help:"Print version, revision and Go version."`
}

const description = `Vedette takes metrics and traces in (OTLP, Prometheus remote write and scraping, Zipkin, Jaeger and others), keeps every acknowledged sample and span through a crash, stores them in columns and answers as Prometheus, Tempo, Jaeger and Zipkin do.

Start it with "vedette run"; it needs no configuration. Documentation: docs/ in the source, and "vedette COMMAND --help".`

// Exit codes.
const (
	exitOK    = 0
	exitFault = 1
	exitUsage = 2
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// streams are where a command prints.
type streams struct{ out, err io.Writer }

// run parses args and runs the chosen command until it is done or a signal
// ends it.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := untilSignal(stderr)
	defer stop()

	code := -1
	parser, err := kong.New(&commandLine{},
		kong.Name("vedette"),
		kong.Description(description),
		kong.Writers(stdout, stderr),
		kong.Exit(func(c int) { code = c }), // after --help
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(streams{stdout, stderr}),
	)
	if err != nil {
		fmt.Fprintln(stderr, "vedette:", err)
		return exitFault
	}
	parsed, err := parser.Parse(args)
	if code >= 0 {
		return code
	}
	if err != nil {
		fmt.Fprintf(stderr, "vedette: %v\nRun \"vedette --help\" for the commands.\n", err)
		return exitUsage
	}
	if err := parsed.Run(); err != nil {
		var quiet exitError
		if errors.As(err, &quiet) {
			return int(quiet)
		}
		fmt.Fprintln(stderr, "vedette:", err)
		return exitFault
	}
	return exitOK
}

// exitError ends the program with a code after the command has printed what
// there is to say.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// untilSignal returns a context that ends with the first SIGINT or SIGTERM. The
// second one ends the process at once; what was acknowledged is in the buffer.
func untilSignal(stderr io.Writer) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
			cancel()
		case <-ctx.Done():
			return
		}
		s := <-signals
		fmt.Fprintf(stderr, "vedette: second signal (%s): stopping at once; the next start reads the rest from the buffer\n", s)
		os.Exit(exitFault)
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel()
	}
}
