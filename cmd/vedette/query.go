package main

import (
	"context"
	"net/http"
	"os"
	"time"

	"github.com/vedette-io/vedette/internal/config"
	"github.com/vedette-io/vedette/query/cli"
)

// queryCmd asks a server, any with the Prometheus HTTP API.
type queryCmd struct {
	Expr   string        `arg:"" help:"PromQL expression."`
	URL    string        `help:"Server to ask." default:"http://127.0.0.1:9190"`
	Token  config.Secret `help:"Bearer token of that server." env:"VEDETTE_TOKEN" placeholder:"TOKEN"`
	Tenant string        `help:"Tenant to ask for; left to the server if empty." placeholder:"NAME"`

	Time  string `help:"Time of an instant query: RFC 3339, unix seconds, or a while ago as -15m (default: now)." placeholder:"TIME"`
	Range string `help:"Ask for this long until --end, as 1h; draws a chart." short:"r" placeholder:"DURATION"`
	Start string `help:"Start of the range, instead of --range." placeholder:"TIME"`
	End   string `help:"End of the range (default: now)." placeholder:"TIME"`
	Step  string `help:"Distance of points (default: as the width allows)." placeholder:"DURATION"`

	Output    string `help:"auto, table, chart, json or csv." short:"o" enum:"auto,table,chart,json,csv" default:"auto"`
	MaxSeries int    `help:"Series to show of a large answer." default:"20"`
	UTC       bool   `help:"Show times in UTC."`
}

// Help is the second half of the command's help.
func (queryCmd) Help() string {
	return `Examples:
  vedette query up
  vedette query -r 1h 'sum by (mode) (rate(node_cpu_seconds_total[5m]))'
  vedette query --time=-1d -o json 'count({__name__=~".+"})'`
}

// Run prints the answer.
func (c queryCmd) Run(ctx context.Context, s streams) error {
	client, err := cli.NewClient(c.URL, c.Tenant, &http.Client{Transport: tokenTransport{token: c.Token}})
	if err != nil {
		return err
	}
	o := cli.DefaultOptions()
	o.Format, o.MaxSeries = cli.Format(c.Output), c.MaxSeries
	if f, ok := s.out.(*os.File); ok {
		o.Width = cli.TerminalWidth(f)
	}
	if !c.UTC {
		o.Location = time.Local
	}
	return cli.Run(ctx, client, cli.Request{
		Expr: c.Expr, Time: c.Time, Range: c.Range, Start: c.Start, End: c.End, Step: c.Step,
	}, o, s.out, s.err)
}

// tokenTransport adds the bearer token, if there is one.
type tokenTransport struct {
	token config.Secret
	base  http.RoundTripper // http.DefaultTransport if nil
}

// RoundTrip implements http.RoundTripper.
func (t tokenTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.token != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+t.token.Reveal())
	}
	if t.base == nil {
		return http.DefaultTransport.RoundTrip(r)
	}
	return t.base.RoundTrip(r)
}
