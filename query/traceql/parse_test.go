package traceql

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCanonical(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "{ }"},
		{"{}", "{ }"},
		{`{span.http.method="GET"&&status=error}`, `{ span.http.method = "GET" && status = error }`},
		{`{ .a || .b && .c }`, `{ (.a || .b) && .c }`},
		{`{ .a && .b || .c }`, `{ (.a && .b) || .c }`},
		{`{ .a || (.b && .c) }`, `{ .a || (.b && .c) }`},
		{`{ .a + 1 * 2 ^ 3 ^ 4 = -5 }`, `{ .a + 1 * 2 ^ 3 ^ 4 = -5 }`},
		{`{ (.a + 1) * 2 - (3 - 4) > - - 5 }`, `{ (.a + 1) * 2 - (3 - 4) > --5 }`},
		{`{ -5 ^ 2 = (-5) ^ 2 && -(5) = 2 ^ -.a }`, `{ -5 ^ 2 = (-5) ^ 2 && -(5) = 2 ^ (-.a) }`},
		{`{ duration > 1h30m && duration < .5s && trace:duration != 1d }`, `{ duration > 1h30m0s && duration < 500ms && trace:duration != 24h0m0s }`},
		{"{ .a =~ `a\\.b` && .b !~ 'it''}", ``},
		{"{ .a =~ `a\\.b` && .b !~ 'it\\'s' }", `{ .a =~ "a\\.b" && .b !~ "it's" }`},
		{`{ nil != .a && nil = parent }`, `{ .a != nil && parent = nil }`},
		{`{ span."two words" = 1 && span.a."b c".d = 2 && ."5" = 1 }`, `{ span."two words" = 1 && span."a.b c.d" = 2 && ."5" = 1 }`},
		{`{ parent.foo = 1 && parent.resource.foo = 1 && parent."span.x" = 2 }`, `{ parent.foo = 1 && parent.resource.foo = 1 && parent."span.x" = 2 }`},
		{`{ span.app.kubernetes.io/name = "x" && .foo-bar = 1.0 }`, `{ span.app.kubernetes.io/name = "x" && .foo-bar = 1.0 }`},
		{`{ !(.a = 1) && !.b }`, `{ !(.a = 1) && !.b }`},
		{`{ .a = minInt || .a = maxInt }`, `{ .a = minInt || .a = 9223372036854775807 }`},
		{`{ trace:id = "ABC" && span:parentID != "1" }`, `{ trace:id = "00000000000000000000000000000abc" && span:parentID != "0000000000000001" }`},
		{`{ kind = server } > { kind = client } >> { }`, `{ kind = server } > { kind = client } >> { }`},
		{`{ .a } && { .b } > { .c }`, `{ .a } && { .b } > { .c }`},
		{`({ .a } && { .b }) &>> { .c } !~ { .d }`, `({ .a } && { .b }) &>> { .c } !~ { .d }`},
		{`{ .a } > ({ .b } !<< { .c })`, `{ .a } > ({ .b } !<< { .c })`},
		{`({ .a } | count() > 2) && { .b }`, `({ .a } | count() > 2) && { .b }`},
		{`({ .a } | count()) > ({ .b } | count()) + 1`, `({ .a } | count()) > ({ .b } | count()) + 1`},
		{`count() > 10`, `count() > 10`},
		{`avg(duration) > 20ms`, `avg(duration) > 20ms`},
		{`{} | count() > (-5) ^ 2`, `{ } | count() > (-5) ^ 2`},
		{`{} | count()`, `{ } | count()`},
		{`{} | by(resource.service.name, .a + 1) | coalesce() | select(.a, status) | max(.b) - min(.b) >= 3`,
			`{ } | by(resource.service.name, .a + 1) | coalesce() | select(.a, status) | max(.b) - min(.b) >= 3`},
		{`{} | rate() by (resource.service.name) > 10`, `{ } | rate() by(resource.service.name) > 10`},
		{`{} | quantile_over_time(duration, .99, .5) by(name) | topk(3) | bottomk(2) with(exemplars=true, sample=0.1)`,
			`{ } | quantile_over_time(duration, 0.99, 0.5) by(name) | topk(3) | bottomk(2) with(exemplars=true, sample=0.1)`},
		{`{} | histogram_over_time(span.size)`, `{ } | histogram_over_time(span.size)`},
		{`{} | compare({status=error})`, `{ } | compare({ status = error })`},
		{`{} | compare({status=error}, 10, 1, 2)`, `{ } | compare({ status = error }, 10, 1, 2)`},
		{`{} | compare({status=error}, 5)`, `{ } | compare({ status = error }, 5)`},
		{"// all\n{ /* none */ } // end\n| count() /**/ > 1", `{ } | count() > 1`},
		{`{ event:name = "exception" && event:timeSinceStart > 1ms && link:spanID != nil && instrumentation:version = "1" }`,
			`{ event:name = "exception" && event:timeSinceStart > 1ms && link:spanID != nil && instrumentation:version = "1" }`},
		{`{ span:name = rootName && trace:rootService = rootServiceName && nestedSetParent < 0 && span:childCount = childCount }`,
			`{ span:name = rootName && trace:rootService = rootServiceName && nestedSetParent < 0 && span:childCount = childCount }`},
	} {
		q, err := Parse(c.in)
		if c.want == "" {
			require.Error(t, err, c.in)
			continue
		}
		require.NoError(t, err, c.in)
		require.Equal(t, c.want, q.String(), c.in)
		again, err := Parse(q.String())
		require.NoError(t, err, c.in)
		requireEqualQueries(t, q, again)
	}
}

// requireEqualQueries compares all of two queries but positions.
func requireEqualQueries(t *testing.T, want, got *Query) {
	t.Helper()
	clearPositions(reflect.ValueOf(want))
	clearPositions(reflect.ValueOf(got))
	require.Equal(t, want, got)
}

func clearPositions(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() && v.Type().String() != "*regexp.Regexp" {
			clearPositions(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			clearPositions(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Type == reflect.TypeFor[Pos]() {
				v.Field(i).SetInt(0)
			} else {
				clearPositions(v.Field(i))
			}
		}
	}
}

// TestErrors reads testdata/errors.txt: blocks of a query, the line and column
// of its error and the message.
func TestErrors(t *testing.T) {
	data, err := os.ReadFile("testdata/errors.txt")
	require.NoError(t, err)
	rewrite := os.Getenv("REWRITE") != ""
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimSpace(string(data)), "\n---\n") {
		query, want, _ := strings.Cut(block, "\n=> ")
		_, err := Parse(query)
		var pe *ParseError
		require.True(t, errors.As(err, &pe), "query %q: %v", query, err)
		got := strings.TrimPrefix(pe.Summary(), "parse TraceQL: ")
		if !rewrite {
			require.Equal(t, want, got, query)
		}
		if i > 0 {
			out.WriteString("\n---\n")
		}
		out.WriteString(query + "\n=> " + got)
	}
	if rewrite {
		require.NoError(t, os.WriteFile("testdata/errors.txt", []byte(out.String()+"\n"), 0o644))
	}
}

func TestErrorText(t *testing.T) {
	_, err := Parse("{ .a = 1 &&\n  duration > \"x\" }")
	require.EqualError(t, err, "parse TraceQL: line 2, column 12: a duration is compared with a string, which never holds\n"+
		"    duration > \"x\" }\n"+
		"             ^")
}

func TestLimits(t *testing.T) {
	_, err := Parse("{" + strings.Repeat("(", 1000) + ".a" + strings.Repeat(")", 1000) + "}")
	require.ErrorContains(t, err, "nested too deeply")
	_, err = Parse("{" + strings.Repeat("!", 1000) + ".a}")
	require.ErrorContains(t, err, "nested too deeply")
	_, err = Parse(strings.Repeat("({} > ", 1000))
	require.ErrorContains(t, err, "nested too deeply")
	_, err = Parse(strings.Repeat(" ", MaxQueryBytes+1))
	require.ErrorContains(t, err, "want at most 131072")
	_, err = Parse("{ .a = \"\xff\" }")
	require.ErrorContains(t, err, "column 9: query is not UTF-8")

	long := "{ .a = 1" + strings.Repeat(" || .a = 2", 5000) + " }"
	q, err := Parse(long)
	require.NoError(t, err)
	require.Equal(t, long, q.String())
}

func TestParseAttribute(t *testing.T) {
	for _, text := range []string{".a", "span.http.method", "resource.service.name", `event."a b"`, "status", "span:status", "trace:id", "parent", "parent.a"} {
		a, err := ParseAttribute(text)
		require.NoError(t, err)
		require.Equal(t, text, a.String())
	}
	for _, text := range []string{"", "5", "foo", ".a .b", "{ .a }", "span.", "trace.x"} {
		_, err := ParseAttribute(text)
		require.Error(t, err, text)
	}
	a, _ := ParseAttribute("resource.service.name")
	require.Equal(t, "service.name", a.ShortName())
	a, _ = ParseAttribute("trace:id")
	require.Equal(t, "id", a.ShortName())
}

// TestQueries parses queries as documentation and user interfaces write them.
func TestQueries(t *testing.T) {
	data, err := os.ReadFile("testdata/queries.txt")
	require.NoError(t, err)
	for line := range strings.Lines(string(data)) {
		q, err := Parse(strings.TrimSpace(line))
		require.NoError(t, err)
		again, err := Parse(q.String())
		require.NoError(t, err)
		requireEqualQueries(t, q, again)
	}
}
