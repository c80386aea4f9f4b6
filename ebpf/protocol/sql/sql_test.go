package sql

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOperation(t *testing.T) {
	for text, want := range map[string]string{
		"select 1":                 "SELECT",
		"  \n(SELECT 1) union all": "SELECT",
		"-- why\n/* and */ Insert into t values (1)":                              "INSERT",
		"/*!40101 SET NAMES utf8 */":                                              "SET",
		"with x as (delete from t returning a) select * from x":                   "SELECT",
		"with recursive x(n) as (select 1), y as (select ')') update t set a = 1": "UPDATE",
		"WITH x AS (SELECT a FROM t WHERE":                                        "OTHER",
		"start transaction":                                                       "BEGIN",
		"END":                                                                     "COMMIT",
		"desc t":                                                                  "EXPLAIN",
		"selection":                                                               "OTHER",
		"":                                                                        "OTHER",
		";":                                                                       "OTHER",
		"/* cut off":                                                              "OTHER",
		"\x00\xff":                                                                "OTHER",
		"SELECT":                                                                  "SELECT",
		"TRUNCATE t":                                                              "TRUNCATE",
		"vacuum":                                                                  "VACUUM",
	} {
		require.Equal(t, want, Operation([]byte(text)), text)
	}
}

func TestSummary(t *testing.T) {
	for _, tc := range []struct {
		d          Dialect
		text, want string
	}{
		{PostgreSQL, "select  a,\n\tb from t where c = 'it''s' and d=1.5e-3;", "select a, b from t where c = ? and d=?"},
		{PostgreSQL, `select "Name 1", E'a\'b', x'ff', $1, $$body 'x'$$, $tag$a$tag$ from t1`, `select "Name 1", ?, ?, $1, ?, ? from t1`},
		{PostgreSQL, "select 1 -- 'secret'\n/* more */ + 2", "select ? + ?"},
		{PostgreSQL, "select a #> 'x'", "select a #> ?"},
		{PostgreSQL, "select 'cut off in the middl", "select ?"},
		{PostgreSQL, "select $$cut off", "select ?"},
		{PostgreSQL, "select $cu", "select ?"},
		{MySQL, `select "secret", 'it\'s', _utf8'x', 0x1F # why`, "select ?, ?, ?, ?"},
		{MySQL, "insert into `t 1` values (-1, .5)", "insert into `t 1` values (-?, ?)"},
		{MySQL, "", ""},
		{PostgreSQL, "select 1\x00B\x00rest", "select ?"},
	} {
		require.Equal(t, tc.want, string(AppendSummary(nil, []byte(tc.text), tc.d)), tc.text)
	}
	long := AppendSummary([]byte("x"), []byte(strings.Repeat("column, ", 100)), MySQL)
	require.LessOrEqual(t, len(long), 1+SummaryBytes)
}

func TestNoAllocations(t *testing.T) {
	text := []byte("select a, b from t where c = 'x' and d = 12")
	dst := make([]byte, 0, 1024)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		Operation(text)
		dst = AppendSummary(dst[:0], text, PostgreSQL)
	}))
}

func FuzzSummary(f *testing.F) {
	f.Add("select a from t where b = 'x''y' and c = $$z$$ -- w", true)
	f.Fuzz(func(t *testing.T, text string, my bool) {
		d := PostgreSQL
		if my {
			d = MySQL
		}
		if op := Operation([]byte(text)); op == "" {
			t.Fatal("no operation")
		}
		s := string(AppendSummary(nil, []byte(text), d))
		if len(s) > SummaryBytes || strings.Contains(s, "'") && !strings.ContainsAny(s, "\"`") {
			t.Fatalf("%q gives %q", text, s)
		}
	})
}
