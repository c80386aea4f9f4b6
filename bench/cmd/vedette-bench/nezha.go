package main

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vedette-io/vedette/bench/client"
	"github.com/vedette-io/vedette/bench/nezha"
)

type nezhaCommand struct {
	Dir         string   `help:"Directory with the archives, *.tar.zst." type:"existingdir" required:""`
	Only        []string `help:"Archives to load, by the beginnings of their names; default: all."`
	To          string   `help:"Server to send to." default:"http://127.0.0.1:9190"`
	Connections int      `help:"Requests under way at a time." default:"4"`
	Batch       int      `help:"Spans in a request." default:"1000"`
}

// Run implements the command.
func (c *nezhaCommand) Run(e *env) error {
	base := strings.TrimSuffix(c.To, "/")
	o, err := nezha.DefaultOptions(c.Dir, base)
	if err != nil {
		return err
	}
	if len(c.Only) > 0 {
		o.Files = slices.DeleteFunc(o.Files, func(file string) bool {
			return !slices.ContainsFunc(c.Only, func(begin string) bool { return strings.HasPrefix(filepath.Base(file), begin) })
		})
	}
	if len(o.Files) == 0 || c.Connections < 1 || c.Batch < 1 {
		return fmt.Errorf("load nezha: %d archives, %d connections, %d spans a request, want at least 1 of each", len(o.Files), c.Connections, c.Batch)
	}
	o.Connections, o.Spans, o.Progress = c.Connections, c.Batch, os.Stderr
	t, err := nezha.Load(e, o)
	if err != nil {
		return err
	}
	fmt.Printf("%d spans of %d traces and %d services in %d requests, %s; %d refused, %d lines left out that are there twice\n",
		t.Spans, t.Traces, len(t.Services), t.Requests, t.Took.Round(time.Millisecond), t.Refused, t.Repeated)
	names := slices.SortedFunc(maps.Keys(t.Services), func(a, b string) int {
		return cmp.Or(-cmp.Compare(t.Services[a], t.Services[b]), cmp.Compare(a, b))
	})
	for _, name := range names[:min(5, len(names))] {
		fmt.Printf("  %-32s %8d spans\n", name, t.Services[name])
	}
	if len(names) > 5 {
		fmt.Printf("  … and %d more\n", len(names)-5)
	}
	printQueries(base, &t, names)
	return nil
}

// printQueries prints what to ask of the traces of the first archive.
func printQueries(base string, t *nezha.Totals, services []string) {
	if len(t.First) == 0 || len(services) == 0 {
		return
	}
	start, end := t.First[0], t.Last[0]+int64(time.Second)
	fmt.Printf("\nTo try, for the time from %s to %s:\n", time.Unix(0, start).UTC().Format(time.RFC3339), time.Unix(0, end).UTC().Format(time.RFC3339))
	for _, q := range []struct {
		query string
		path  func(string) string
	}{
		{fmt.Sprintf("{ resource.service.name = %q && duration > 1s }", services[0]), func(q string) string { return client.SearchPath(q, start, end, 20) }},
		{"{ } | rate() by (resource.service.name)", func(q string) string { return client.TraceMetricsPath(q, start, end, time.Minute) }},
		{"{ } | quantile_over_time(duration, .99) by (resource.service.name)", func(q string) string { return client.TraceMetricsPath(q, start, end, time.Duration(end-start)) }},
	} {
		path, params, _ := strings.Cut(q.path(q.query), "?")
		v, err := url.ParseQuery(params)
		if err != nil {
			continue
		}
		fmt.Printf("  %s\n    curl -G '%s%s'", q.query, base, path)
		for _, key := range slices.Sorted(maps.Keys(v)) {
			fmt.Printf(" --data-urlencode '%s=%s'", key, v.Get(key))
		}
		fmt.Println()
	}
}
