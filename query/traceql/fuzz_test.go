package traceql

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// seeds are the queries of the scripts and of the table of errors.
func seeds(f *testing.F) []string {
	files, err := filepath.Glob("testdata/*.test")
	require.NoError(f, err)
	var queries []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(f, err)
		for line := range strings.Lines(string(data)) {
			if query, ok := strings.CutPrefix(strings.TrimSpace(line), "eval "); ok {
				queries = append(queries, query)
			}
			if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "metrics "); ok {
				queries = append(queries, strings.SplitN(rest, " ", 4)[3])
			}
		}
	}
	data, err := os.ReadFile("testdata/errors.txt")
	require.NoError(f, err)
	for _, block := range strings.Split(string(data), "\n---\n") {
		query, _, _ := strings.Cut(block, "\n=> ")
		queries = append(queries, query)
	}
	return queries
}

// FuzzParse checks that any text gives a query that prints and parses to itself,
// or an error with a place in the text.
func FuzzParse(f *testing.F) {
	for _, q := range seeds(f) {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := Parse(text)
		if err != nil {
			var pe *ParseError
			require.True(t, errors.As(err, &pe))
			require.True(t, pe.Line >= 1 && pe.Column >= 1 && pe.Offset >= 0 && pe.Offset <= len(text))
			require.NotEmpty(t, pe.Error())
			return
		}
		printed := q.String()
		if len(printed) > MaxQueryBytes {
			return
		}
		again, err := Parse(printed)
		if err != nil && strings.Contains(err.Error(), "nested too deeply") {
			return // parentheses that make an order plain count as levels
		}
		require.NoError(t, err, "%q printed as %q", text, printed)
		require.Equal(t, printed, again.String())
		requireEqualQueries(t, q, again)
		q.Attributes()
		q.NeedsTree()
	})
}

// FuzzEval checks that any query can be evaluated on a trace with a bit of
// everything.
func FuzzEval(f *testing.F) {
	for _, q := range seeds(f) {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := Parse(text)
		if err != nil {
			return
		}
		tr := loadTrace(t, "T", strings.Split(everything, "\n"))
		for _, set := range NewEvaluator(q.Pipeline).Eval(tr) {
			require.NotEmpty(t, set.Rows)
			for i, row := range set.Rows {
				require.True(t, row >= 0 && int(row) < tr.Len())
				require.True(t, i == 0 || set.Rows[i-1] < row, "rows rise: %v", set.Rows)
			}
			tr.SpanMatch(int(set.Rows[0]), q.Attributes())
		}
		if q.IsMetrics() {
			r, err := NewRange(0, 100e6, 10e6)
			require.NoError(t, err)
			e, err := NewMetricsEvaluator(q, r, Limits{Exemplars: 3})
			require.NoError(t, err)
			e.Add(tr)
			for _, s := range e.Result().Series {
				require.Len(t, s.Values, r.Len())
			}
		}
	})
}

const everything = `a "gateway" "GET /" server 0ms 100ms span.a=200 span.b=true resource.region="eu"
  b "auth" "check" client 5ms 10ms span.a="200" span.tags=("x", 3, 1.5, true) status=error statusMessage="denied"
    + event "exception" 7ms event.type="Timeout" event.n=1
    + event "retry" 8ms event.n=2
  c "cart" "load" internal 20ms 70ms span.a=0.5 instrumentation:name="lib" instrumentation.lang="go"
    d "db" "SELECT" client 30ms 50ms span.c=nil span.tags=() status=ok
    + link L1 x link.why="follows"
o "db" "orphan" consumer 30ms 50ms parent=gone`

// FuzzAnyValue checks that arrays and maps of any bytes are read without harm.
func FuzzAnyValue(f *testing.F) {
	f.Add([]byte("\x0a\x03\x0a\x01x"))
	f.Add([]byte("\x0a\x06\x2a\x04\x0a\x02\x18\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		appendElements(nil, data)
		AppendArrayJSON(nil, data)
		AppendMapJSON(nil, data)
	})
}
