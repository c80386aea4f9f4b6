package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/vedette-io/vedette/internal/config"
	"github.com/vedette-io/vedette/query/cli"
)

// serverFlags say which server to ask, and as whom.
type serverFlags struct {
	URL    string        `help:"Server to ask." default:"http://127.0.0.1:9190"`
	Token  config.Secret `help:"Bearer token of that server." env:"VEDETTE_TOKEN" placeholder:"TOKEN"`
	Tenant string        `help:"Tenant to ask for; left to the server if empty." placeholder:"NAME"`
}

func (f serverFlags) client() (*cli.Client, error) {
	return cli.NewClient(f.URL, f.Tenant, &http.Client{Transport: tokenTransport{token: f.Token}})
}

// drawFlags say how to print for a person.
type drawFlags struct {
	NoColor bool `help:"Print without colours; so does NO_COLOR in the environment, and output that is not to a terminal."`
	ASCII   bool `name:"ascii" help:"Draw with ASCII alone, as on a dumb terminal."`
	UTC     bool `help:"Show times in UTC."`
}

// look is what a command may print to where it prints.
type look struct {
	width        int
	color, ascii bool
	location     *time.Location
}

func (f drawFlags) look(out io.Writer) look {
	l := look{width: 80, ascii: f.ASCII, location: time.Local}
	if f.UTC {
		l.location = time.UTC
	}
	file, ok := out.(*os.File)
	if !ok {
		return l
	}
	l.width = cli.TerminalWidth(file)
	if isTerminal(file) {
		dumb := os.Getenv("TERM") == "dumb"
		l.ascii = l.ascii || dumb
		l.color = !f.NoColor && !dumb && os.Getenv("NO_COLOR") == ""
	}
	return l
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// traceCmd draws one trace.
type traceCmd struct {
	ID          string `arg:"" help:"The trace's id in hexadecimal digits; zeros at its beginning may be missing."`
	serverFlags `embed:""`
	drawFlags   `embed:""`

	Output string `help:"waterfall, json (the server's answer) or otlp (JSON that any OTLP receiver takes)." short:"o" enum:"waterfall,json,otlp" default:"waterfall"`
	Full   bool   `help:"Show every span, and texts below spans in full: do not fold alike siblings of a large trace."`
	Events bool   `help:"Show events, as exceptions, and links." short:"e"`
	Attrs  bool   `help:"Show attributes of spans and resources." short:"a"`
}

// Help is the second half of the command's help.
func (traceCmd) Help() string {
	return `Exits with 1 if there is no such trace.

Examples:
  vedette trace 4bf92f3577b34da6a3ce929d0e0e4736
  vedette trace -ea 4bf92f3577b34da6a3ce929d0e0e4736 | less
  vedette trace -o otlp 4bf92f3577b34da6a3ce929d0e0e4736 | curl -H 'Content-Type: application/json' --data-binary @- http://other:4318/v1/traces`
}

// Run prints the trace.
func (c traceCmd) Run(ctx context.Context, s streams) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	l := c.look(s.out)
	return cli.RunTrace(ctx, client, c.ID, cli.TraceOptions{
		Format: cli.TraceFormat(c.Output), Width: l.width, ASCII: l.ascii, Color: l.color, Location: l.location,
		Full: c.Full, Events: c.Events, Attrs: c.Attrs,
	}, s.out, s.err)
}

// searchCmd finds traces, or makes series of spans.
type searchCmd struct {
	Query       string `arg:"" optional:"" help:"TraceQL; all spans if there is none."`
	serverFlags `embed:""`
	drawFlags   `embed:""`

	Service     string   `help:"Only spans of this service." placeholder:"NAME"`
	Operation   string   `help:"Only spans of this name." placeholder:"NAME"`
	MinDuration string   `help:"Only spans that took at least this long." placeholder:"DURATION"`
	MaxDuration string   `help:"Only spans that took at most this long." placeholder:"DURATION"`
	Error       bool     `help:"Only spans that failed."`
	Attr        []string `help:"Only spans with this attribute, of their own or of their resource; may be repeated." sep:"none" placeholder:"KEY=VALUE"`

	Since string `help:"Search this long until --end (default: 1h)." short:"r" aliases:"range" placeholder:"DURATION"`
	Start string `help:"Start of the search, instead of --since: RFC 3339, unix seconds, or a while ago as -15m." placeholder:"TIME"`
	End   string `help:"End of the search (default: now)." placeholder:"TIME"`
	Limit int    `help:"Traces to find, the newest first." default:"20"`
	Spans bool   `help:"Show the spans that match."`

	Step      string `help:"Distance of points of a query that makes series (default: as the width allows)." placeholder:"DURATION"`
	Instant   bool   `help:"One value per series, over the whole time, of a query that makes series."`
	MaxSeries int    `help:"Series to show of a large answer." default:"20"`

	Output  string `help:"auto, table, json, ids (of traces), chart or csv (of series)." short:"o" enum:"auto,table,json,ids,chart,csv" default:"auto"`
	Verbose bool   `help:"Say which TraceQL was asked, and what it cost." short:"v"`
}

// Help is the second half of the command's help.
func (searchCmd) Help() string {
	return `The conditions are a filter before the query: what they leave is what the query sees. A query that ends in a function such as rate() draws series.

Examples:
  vedette search --service cart --error
  vedette search -r 6h --spans '{ span.http.response.status_code >= 500 }'
  vedette search -r 6h '{ kind = server } | rate() by (resource.service.name)'
  vedette search --instant '{} | quantile_over_time(duration, .5, .99) by (name)'
  vedette search -o ids --min-duration 2s | head -1 | xargs vedette trace`
}

// Run prints what was found.
func (c searchCmd) Run(ctx context.Context, s streams) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	l := c.look(s.out)
	o := cli.SearchOptions{
		Format: cli.SearchFormat(c.Output), Width: l.width, ASCII: l.ascii, Color: l.color, Location: l.location,
		Spans: c.Spans, MaxSeries: c.MaxSeries, Verbose: c.Verbose,
	}
	if isTerminal(s.err) {
		o.Progress = cli.NewProgress(s.err)
	}
	return cli.RunSearch(ctx, client, cli.SearchRequest{
		Query: c.Query, Service: c.Service, Operation: c.Operation, MinDuration: c.MinDuration, MaxDuration: c.MaxDuration,
		Error: c.Error, Attrs: c.Attr, Range: c.Since, Start: c.Start, End: c.End, Limit: c.Limit, Step: c.Step, Instant: c.Instant,
	}, o, s.out, s.err)
}
