package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-runewidth"

	"github.com/vedette-io/vedette/internal/tenant"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// answers are what a server says, by name.
var answers = map[string]string{
	"vector": `{"resultType":"vector","result":[
		{"metric":{"__name__":"up","job":"node","instance":"host-1:9100"},"value":[1700000000,"1"]},
		{"metric":{"__name__":"up","job":"node","instance":"host-22:9100","zone":"Zürich 中"},"value":[1700000000,"0.25"]},
		{"metric":{"__name__":"up","job":"node","instance":"host-3:9100"},"value":[1700000000,"NaN"]}]}`,
	"one":    `{"resultType":"vector","result":[{"metric":{},"value":[1700000000.5,"123456789.125"]}]}`,
	"empty":  `{"resultType":"vector","result":[]}`,
	"scalar": `{"resultType":"scalar","result":[1700000000,"-Inf"]}`,
	"string": `{"resultType":"string","result":[1700000000,"a\u001b[31mred"]}`,
	"hostile": `{"resultType":"vector","result":[
		{"metric":{"a":"\u001b]0;title\u0007","b":"` + strings.Repeat("long ", 40) + `"},"value":[1,"1e300"]}]}`,
	"histogram": `{"resultType":"vector","result":[{"metric":{"__name__":"latency"},"histogram":[1700000000,{"count":"10","sum":"18.4","buckets":[
		[1,"-2","-1","1"],[3,"-0.001","0.001","2"],[0,"0.5","1","4"],[0,"1","2","3"]]}]}]}`,
	"matrix": `{"resultType":"matrix","result":[{"metric":{"__name__":"m","i":"a"},"values":[[1700000000,"1"],[1700000030,"2.5"]]},
		{"metric":{"__name__":"m","i":"b"},"values":[[1700000000,"3"]],"histograms":[[1700000030,{"count":"2","sum":"3"}]]}]}`,
}

func result(t *testing.T, data string) *Result {
	t.Helper()
	r, err := decodeAnswer(200, []byte(`{"status":"success","data":`+data+`}`))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wave is the answer to a range query: two series, one with a gap.
func wave(t *testing.T) *Result {
	t.Helper()
	start := time.Unix(1_700_000_000, 0)
	var parts [2][]string
	for i := range 120 {
		at := start.Unix() + int64(i)*30
		parts[0] = append(parts[0], fmt.Sprintf(`[%d,"%.4f"]`, at, 50+40*math.Sin(float64(i)/10)))
		switch {
		case i >= 40 && i < 60: // nothing was scraped
		case i == 100:
			parts[1] = append(parts[1], fmt.Sprintf(`[%d,"+Inf"]`, at))
		default:
			parts[1] = append(parts[1], fmt.Sprintf(`[%d,"%d"]`, at, i%30))
		}
	}
	r := result(t, fmt.Sprintf(`{"resultType":"matrix","result":[{"metric":{"__name__":"sine","job":"a"},"values":[%s]},
		{"metric":{"__name__":"saw"},"values":[%s]},{"metric":{"__name__":"flat"},"values":[[1700000000,"7"],[1700000030,"7"],[1700000060,"7"]]}]}`,
		strings.Join(parts[0], ","), strings.Join(parts[1], ",")))
	r.Start, r.End, r.Step = start, start.Add(119*30*time.Second), 30*time.Second
	return r
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *rewrite {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

func TestRender(t *testing.T) {
	check := func(name string, r *Result, change func(*Options)) {
		t.Helper()
		o := DefaultOptions()
		if change != nil {
			change(&o)
		}
		var out bytes.Buffer
		if err := Render(&out, r, o); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		golden(t, name, out.Bytes())
		if o.Format == FormatCSV || o.Format == FormatJSON {
			return
		}
		for i, line := range strings.Split(out.String(), "\n") {
			if n := runewidth.StringWidth(line); n > max(o.Width, 40) {
				t.Errorf("%s: line %d is %d columns wide, want at most %d", name, i+1, n, o.Width)
			}
			if strings.ContainsRune(line, '\x1b') {
				t.Errorf("%s: line %d holds an escape", name, i+1)
			}
		}
	}
	for name, data := range answers {
		check("table_"+name, result(t, data), nil)
		check("csv_"+name, result(t, data), func(o *Options) { o.Format = FormatCSV })
	}
	check("json_one", result(t, answers["one"]), func(o *Options) { o.Format = FormatJSON })
	check("table_narrow", result(t, answers["vector"]), func(o *Options) { o.Width = 30 })
	check("table_limited", result(t, answers["vector"]), func(o *Options) { o.MaxSeries = 1 })
	check("chart", wave(t), nil)
	check("chart_narrow", wave(t), func(o *Options) { o.Width, o.Height = 40, 3 })
	check("chart_blocks", wave(t), func(o *Options) { o.Height = 1 })
	check("chart_of_empty", result(t, answers["empty"]), func(o *Options) { o.Format = FormatChart })
	check("chart_of_matrix", result(t, answers["matrix"]), func(o *Options) { o.Format = FormatChart })
	check("chart_of_infinity", result(t, answers["scalar"]), func(o *Options) { o.Format = FormatChart })
	if err := Render(io.Discard, result(t, answers["one"]), Options{Format: "xml"}); err == nil || !strings.Contains(err.Error(), "xml") {
		t.Errorf("unknown format: %v", err)
	}
}

func TestClient(t *testing.T) {
	var form map[string][]string
	var id string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		form, id = r.Form, r.Header.Get(tenant.Header)
		switch r.FormValue("query") {
		case "bad":
			w.WriteHeader(400)
			fmt.Fprint(w, `{"status":"error","errorType":"bad_data","error":"parse error\u001b"}`)
		case "proxy":
			w.WriteHeader(502)
			fmt.Fprint(w, `<html>no upstream</html>`)
		default:
			fmt.Fprintf(w, `{"status":"success","data":%s,"warnings":["w"],"infos":["i"]}`, answers["matrix"])
		}
	}))
	defer server.Close()
	c, err := NewClient(strings.TrimPrefix(server.URL, "http://"), "team", nil)
	if err != nil {
		t.Fatal(err)
	}
	var out, notes bytes.Buffer
	req := Request{Expr: "m", Start: "1700000000", End: "1700000060", Step: "30s"}
	if err := Run(t.Context(), c, req, DefaultOptions(), &out, &notes); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(form); got != "map[end:[1700000060.000] query:[m] start:[1700000000.000] step:[30]]" || id != "team" {
		t.Errorf("asked %s of tenant %q", got, id)
	}
	if notes.String() != "warning: w\ninfo: i\n" || !strings.Contains(out.String(), "┤") {
		t.Errorf("notes %q, output %q", notes.String(), out.String())
	}
	if err := Run(t.Context(), c, Request{Expr: "m"}, DefaultOptions(), &out, &notes); err != nil || form["time"] != nil {
		t.Errorf("instant query: %v, form %v", err, form)
	}
	var apiErr *APIError
	if _, err := c.Instant(t.Context(), "bad", time.Now()); !errors.As(err, &apiErr) || err.Error() != "bad_data: parse error�" {
		t.Errorf("error of the API: %v", err)
	}
	if _, err := c.Instant(t.Context(), "proxy", time.Now()); !errors.As(err, &apiErr) || apiErr.Code != 502 {
		t.Errorf("error of a proxy: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Instant(ended, "m", time.Now()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for _, base := range []string{"ftp://x", "http://", "http://%"} {
		if _, err := NewClient(base, "", nil); err == nil {
			t.Errorf("NewClient(%q) takes it", base)
		}
	}
}

func TestRequest(t *testing.T) {
	now := time.Unix(10_000, 0)
	o := DefaultOptions()
	start, end, step, err := Request{Range: "1h"}.span(o, now)
	if err != nil || now.Sub(start) != time.Hour || !end.Equal(now) || step != 30*time.Second {
		t.Errorf("range of 1h: %v, %v, %v, %v", start, end, step, err)
	}
	for _, bad := range []Request{
		{Range: "x"}, {Range: "1h", Start: "-2h"}, {Start: "-1m", End: "-2m"}, {Range: "1h", Step: "0"}, {Range: "1h", Time: "now"},
		{Start: "yesterday"}, {Range: "1h", End: "tomorrow"},
	} {
		if _, _, _, err := bad.span(o, now); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	if _, err := (Request{Expr: "up", Step: "1m"}).ask(t.Context(), nil, o, now); err == nil {
		t.Error("an instant query with a step is taken")
	}
	if got := fitStep(365*24*time.Hour, 80); got < 24*time.Hour {
		t.Errorf("step of a year is %s", got)
	}
}

func TestParseTime(t *testing.T) {
	now := time.Unix(1000, 0)
	for in, want := range map[string]int64{"": 1000, "now": 1000, "-5m": 700, "500": 500, "1970-01-01T00:10:00Z": 600, "-1d": 1000 - 86400} {
		if got, err := ParseTime(in, now); err != nil || got.Unix() != want {
			t.Errorf("ParseTime(%q) = %v, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"x", "-x", "1e20", "5m"} {
		if _, err := ParseTime(in, now); err == nil {
			t.Errorf("ParseTime(%q) takes it", in)
		}
	}
}

func FuzzDecodeAnswer(f *testing.F) {
	for _, data := range answers {
		f.Add([]byte(`{"status":"success","data":` + data + `}`))
	}
	f.Add([]byte(`{"status":"error"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := decodeAnswer(200, body)
		if err != nil {
			return
		}
		for _, format := range []Format{FormatTable, FormatChart, FormatCSV, FormatJSON} {
			o := DefaultOptions()
			o.Format = format
			var out bytes.Buffer
			if err := Render(&out, r, o); err != nil {
				t.Fatalf("%s of %s: %v", format, body, err)
			}
			if format == FormatJSON && !json.Valid(out.Bytes()) {
				t.Fatalf("not JSON: %s", out.Bytes())
			}
		}
	})
}
