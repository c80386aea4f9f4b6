package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vedette-io/vedette/query/traceapi/apitest"
	"github.com/vedette-io/vedette/query/traceql"
)

func TestTraceQL(t *testing.T) {
	check := func(want string, q SearchRequest) {
		t.Helper()
		got, err := q.TraceQL()
		if err != nil || got != want {
			t.Errorf("%+v: got %s, %v, want %s", q, got, err, want)
		}
	}
	check("{}", SearchRequest{})
	check("{ status = error } | count() > 2", SearchRequest{Query: " { status = error } | count() > 2\n"})
	check(`{ resource.service.name = "a \"b\"" }`, SearchRequest{Service: `a "b"`})
	check(`{ (name = "GET /") && (duration >= 100ms) && (duration <= 1.5s) && (status = error) }`,
		SearchRequest{Operation: "GET /", MinDuration: "100ms", MaxDuration: "1.5s", Error: true})
	check(`{ .http.status = "200" || .http.status = 200 }`, SearchRequest{Attrs: []string{"http.status=200"}})
	check(`{ (span.a = "x=y") && (resource."b c" = "") && (.span = "z") && (event.e = "true" || event.e = true) }`,
		SearchRequest{Attrs: []string{"span.a=x=y", "resource.b c=", ".span=z", "event.e=true"}})
	check(`{ status = error } | { kind = server } | rate() by (name)`, SearchRequest{Error: true, Query: "{ kind = server } | rate() by (name)"})

	for want, q := range map[string]SearchRequest{
		"read attribute":         {Attrs: []string{"novalue"}},
		`got "=x"`:               {Attrs: []string{"=x"}},
		"read least duration":    {MinDuration: "5"},
		"read most duration":     {MaxDuration: "-5s"},
		"line 1, column 10":      {Query: "{ name = }"},
		"\n  { name = }\n  ":     {Query: "{ name = }", Error: true},
		"parse TraceQL: line 1,": {Query: "up"},
	} {
		_, err := q.TraceQL()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", q, err, want)
		}
	}
}

// foundAnswers are what a server says, by name.
func foundAnswers() map[string]string {
	return map[string]string{
		"none": `{"traces":[],"metrics":{"totalBlocks":2,"completedJobs":1,"totalJobs":1}}`,
		"wide": `{"traces":[
			{"traceID":"00000000000000000000000000000001","rootServiceName":"入口服务","rootTraceName":"处理订单请求以及所有的历史记录","startTimeUnixNano":"1767323045000000000","durationMs":1234567,
				"spanSets":[{"matched":40,"attributes":[{"key":"by(name)","value":{"stringValue":"a\u001bb"}},{"key":"avg(duration)","value":{"doubleValue":1.5}}],
					"spans":[{"spanID":"0000000000000003","name":"查询","startTimeUnixNano":"1767323045000015000","durationNanos":"65000000","attributes":[{"key":"ids","value":{"arrayValue":{"values":[]}}}]}]},{"matched":2}],
				"serviceStats":{"订单服务":{"spanCount":9,"errorCount":2},"b":{"spanCount":2},"a":{"spanCount":5,"errorCount":2},"worst":{"errorCount":1000}}},
			{"traceID":"2","rootServiceName":"<root span not yet received>","startTimeUnixNano":"1767223045000000000"},
			{"traceID":"3","rootTraceName":"x\u001b[31m"}],
			"metrics":{"inspectedTraces":3,"inspectedBytes":"615","completedJobs":1,"totalJobs":9}}`,
	}
}

func TestRenderFound(t *testing.T) {
	check := func(name, answer string, change func(*SearchOptions)) {
		t.Helper()
		f, err := decodeFound([]byte(foundAnswers()[answer]))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		o := DefaultSearchOptions()
		if change != nil {
			change(&o)
		}
		var out bytes.Buffer
		if err := RenderFound(&out, f, o); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		golden(t, name, out.Bytes())
		if !o.Color && o.Format != SearchJSON && o.Width >= 80 {
			checkLines(t, name, out.String(), o.Width)
		}
	}
	check("found_none", "none", nil)
	check("found_wide", "wide", nil)
	check("found_wide_spans", "wide", func(o *SearchOptions) { o.Spans, o.Width = true, 140 })
	check("found_wide_narrow", "wide", func(o *SearchOptions) { o.Width = 10 })
	check("found_wide_color", "wide", func(o *SearchOptions) { o.Color, o.ASCII = true, true })
	check("found_wide_ids", "wide", func(o *SearchOptions) { o.Format = SearchIDs })
	check("found_none_json", "none", func(o *SearchOptions) { o.Format = SearchJSON })
}

func TestRunSearch(t *testing.T) {
	c, store := newTraceServer(t)
	const at = apitest.Time / 1_000_000_000
	around := SearchRequest{Start: "2026-01-02T02:00:00Z", End: "2026-01-02T03:04:30.5Z"}
	run := func(change func(*SearchRequest, *SearchOptions)) (out, notes string, err error) {
		t.Helper()
		q, o := around, DefaultSearchOptions()
		if change != nil {
			change(&q, &o)
		}
		var w, n bytes.Buffer
		err = RunSearch(t.Context(), c, q, o, &w, &n)
		return w.String(), n.String(), err
	}

	out, notes, err := run(func(q *SearchRequest, o *SearchOptions) { o.Spans, o.Verbose, q.Error = true, true, true })
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "search_error", []byte(out))
	if want := "query: { status = error }\ninspected: 2 traces, 8 spans, 702 bytes\n"; notes != want {
		t.Errorf("notes %q, want %q", notes, want)
	}
	if got := store.Searches[0]; got.Start != at*1e9-3845e9 || got.End != (at+27)*1e9-1 || got.Limit != 20 || got.SpansPerSpanset != shownSpans {
		t.Errorf("asked for %+v", got)
	}
	out, notes, err = run(func(q *SearchRequest, o *SearchOptions) { o.Format, q.Limit = SearchIDs, 1 })
	if err != nil || out != apitest.ShopTraceID+"\n" || notes != "info: these are the newest 1; --limit finds more\n" {
		t.Errorf("ids: %q, notes %q, %v", out, notes, err)
	}
	out, _, err = run(func(_ *SearchRequest, o *SearchOptions) { o.Format = SearchJSON })
	if err != nil || !json.Valid([]byte(out)) || !strings.Contains(out, "serviceStats") {
		t.Errorf("JSON: %q, %v", out, err)
	}
	store.Partial = "a limit"
	if _, notes, err = run(nil); err != nil || !strings.HasPrefix(notes, "warning: the search ended early") {
		t.Errorf("partial: notes %q, %v", notes, err)
	}
	store.Partial = ""

	out, _, err = run(func(q *SearchRequest, _ *SearchOptions) {
		q.Query, q.Step = "{ kind = server } | rate() by (resource.service.name)", "5m"
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "search_rate", []byte(out))
	out, _, err = run(func(q *SearchRequest, o *SearchOptions) {
		q.Query, q.Step, o.Format = "{} | count_over_time()", "1h", SearchTable
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "search_count_table", []byte(out))
	out, _, err = run(func(q *SearchRequest, _ *SearchOptions) {
		q.Query, q.Instant = "{} | quantile_over_time(duration, .5) by (name)", true
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "search_instant", []byte(out))

	bad := func(want string, change func(*SearchRequest, *SearchOptions)) {
		t.Helper()
		if _, _, err := run(change); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	bad("step and instant are for queries", func(q *SearchRequest, _ *SearchOptions) { q.Step = "1m" })
	bad("got both step and instant", func(q *SearchRequest, _ *SearchOptions) { q.Query, q.Step, q.Instant = "{} | rate()", "1m", true })
	bad("finds no traces", func(q *SearchRequest, o *SearchOptions) { q.Query, o.Format = "{} | rate()", SearchIDs })
	bad(`format "csv"`, func(_ *SearchRequest, o *SearchOptions) { o.Format = SearchCSV })
	bad("read range", func(q *SearchRequest, _ *SearchOptions) { q.Start, q.Range = "", "x" })
	bad("got both range and start", func(q *SearchRequest, _ *SearchOptions) { q.Range = "1h" })
	bad("want at most 10000", func(q *SearchRequest, _ *SearchOptions) { q.Limit = 99999 })
	store.Err = &traceql.ParseError{Query: "{ new }", Offset: 2, Line: 1, Column: 3, Message: "what is this"}
	bad("column 3: what is this\n  { new }\n    ^", nil)
	store.Err = errors.New("disk is gone")
	bad("server answered 500: ", func(q *SearchRequest, _ *SearchOptions) { q.Query = "{} | rate()" })
}

// Without times a search is of the last hour.
func TestSearchSpan(t *testing.T) {
	now := time.Unix(10_000, 0)
	start, end, step, err := SearchRequest{}.span(DefaultSearchOptions(), now)
	if err != nil || now.Sub(start) != time.Hour || !end.Equal(now) || step != 30*time.Second {
		t.Errorf("got %v, %v, %v, %v", start, end, step, err)
	}
}

func TestDecodeSpanMetrics(t *testing.T) {
	r, err := decodeSpanMetrics([]byte(`{"series":[{"labels":[{"key":"a","value":{"intValue":"7"}}],"samples":[
		{"timestampMs":"2000","value":"Infinity"},{"timestampMs":"1000","value":"NaN"},{"timestampMs":"3000","value":"-Infinity"}]}],"message":"a limit"}`), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range r.Series[0].Points {
		got = append(got, formatValue(p.Value))
	}
	if strings.Join(got, " ") != "NaN +Inf -Inf" || r.Series[0].name() != `{a="7"}` || r.Warnings[0] != "a limit" {
		t.Errorf("got %v of %s, warnings %q", got, r.Series[0].name(), r.Warnings)
	}
	for _, bad := range []string{"", "[]", `{"series":[{"value":"x"}]}`, `{"series":[{"samples":[{"timestampMs":"x"}]}]}`} {
		if _, err := decodeSpanMetrics([]byte(bad), time.Time{}); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := NewProgress(&out)
		if err := p.during("searching", func() error { return nil }); err != nil || out.Len() > 0 {
			t.Errorf("of a short search: %v, %q", err, &out)
		}
		gone := errors.New("gone")
		wait := func() error { <-time.After(1300 * time.Millisecond); return gone }
		if err := p.during("searching", wait); !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
		if want := "\rsearching, 1.0s \rsearching, 1.2s \r\x1b[K"; out.String() != want {
			t.Errorf("got %q, want %q", &out, want)
		}
		var none *Progress
		if err := none.during("searching", wait); !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
	})
}

func FuzzDecodeFound(f *testing.F) {
	for _, answer := range foundAnswers() {
		f.Add([]byte(answer))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		found, err := decodeFound(body)
		if err != nil {
			return
		}
		o := DefaultSearchOptions()
		o.Spans, o.Width = true, 60
		var out bytes.Buffer
		if err := RenderFound(&out, found, o); err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(out.String(), "\n") {
			if clean(line) != line {
				t.Fatalf("control characters in %q", line)
			}
		}
	})
}
