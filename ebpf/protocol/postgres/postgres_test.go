package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/protocol"
	"github.com/vedette-io/vedette/ebpf/protocol/protocoltest"
)

func parser() protocol.Parser { return New() }

func psql(script string) func(*testing.T, string) {
	return func(t *testing.T, addr string) {
		cmd := protocoltest.Command(t, protocoltest.Program(t, "psql"), "-X", "-q", "postgresql://postgres@"+addr+"/postgres?sslmode=disable&gssencmode=disable")
		cmd.Stdin = strings.NewReader(script)
		var exit *exec.ExitError
		if out, err := cmd.CombinedOutput(); err != nil {
			require.ErrorAs(t, err, &exit, "%s", out)
		}
	}
}

func withPgx(f func(t *testing.T, ctx context.Context, c *pgx.Conn)) func(*testing.T, string) {
	return func(t *testing.T, addr string) {
		c, err := pgx.Connect(t.Context(), "postgres://postgres@"+addr+"/postgres")
		require.NoError(t, err)
		f(t, t.Context(), c)
		require.NoError(t, c.Close(t.Context()))
	}
}

func repeat(n int, s ...string) (all []string) {
	for range n {
		all = append(all, s...)
	}
	return all
}

func scenarios() []protocoltest.Scenario {
	return []protocoltest.Scenario{
		{
			Name: "psql", Note: "psql 15: simple queries, errors, a transaction, COPY both ways",
			Run: psql(`create table t (a int primary key, b text);
insert into t values (1, 'one'), (2, 'it''s');
select * from t where b = 'one';
select * from nosuch;
begin;
insert into t values (1, 'again');
select 1;
commit;
select 1 \; select 2 \; update t set b = 'x';
copy t from stdin;
3	three
4	four
\.
copy t to stdout;
;
with x as (delete from t returning a) select count(*) from x;
drop table t;
`),
			Want: []string{
				"CREATE", "INSERT", "SELECT", "SELECT !42P01", "BEGIN", "INSERT !23505", "SELECT !25P02", "COMMIT",
				"SELECT", "COPY", "COPY", "OTHER", "SELECT", "DROP",
			},
		},
		{
			Name: "pgx", Note: "pgx 5: TLS asked for and refused, statements prepared and cached, a batch, errors, a transaction",
			Run: withPgx(func(t *testing.T, ctx context.Context, c *pgx.Conn) {
				exec := func(sql string, args ...any) error {
					_, err := c.Exec(ctx, sql, args...)
					return err
				}
				require.NoError(t, exec("create temp table t (a int primary key, b text)"))
				for i := range 3 {
					require.NoError(t, exec("insert into t values ($1, $2)", i, "secret"))
				}
				require.Error(t, exec("insert into t values ($1, $2)", 1, "again"))
				require.Error(t, exec("select $1::int from nosuch", 1))
				tx, err := c.Begin(ctx)
				require.NoError(t, err)
				_, err = tx.Exec(ctx, "update t set b = $1", "x")
				require.NoError(t, err)
				require.NoError(t, tx.Rollback(ctx))
				b := new(pgx.Batch)
				for i := range 20 {
					b.Queue("select b from t where a = $1", i)
				}
				require.NoError(t, c.SendBatch(ctx, b).Close())
				_, err = c.Exec(ctx, "delete from t where a = $1", pgx.QueryExecModeExec, 1)
				require.NoError(t, err)
			}),
			Want: append(append([]string{
				"CREATE", "PREPARE", "INSERT", "INSERT", "INSERT", "INSERT !23505", "PREPARE !42P01", "BEGIN", "PREPARE", "UPDATE", "ROLLBACK", "PREPARE",
			}, repeat(20, "SELECT")...), "DELETE"),
		},
		{
			Name: "pipeline", Note: "pgx 5, pgconn's pipeline: several cycles under way, an error within one",
			Run: withPgx(func(t *testing.T, ctx context.Context, c *pgx.Conn) {
				p := c.PgConn().StartPipeline(ctx)
				q := func(sql string) { p.SendQueryParams(sql, nil, nil, nil, nil) }
				q("select 1")
				q("select 2")
				require.NoError(t, p.Sync())
				q("select 3")
				q("select 1/0")
				q("select 4")
				require.NoError(t, p.Sync())
				q("select 5")
				require.NoError(t, p.Sync())
				for {
					r, err := p.GetResults()
					if err == nil && r == nil {
						break
					}
					if rr, ok := r.(*pgconn.ResultReader); ok {
						_ = rr.Read()
					}
				}
				require.NoError(t, p.Close())
			}),
			Want: []string{"SELECT", "SELECT", "SELECT", "SELECT !22012", "SELECT"},
		},
		{
			Name: "large", Note: "pgx 5: long queries and long results",
			Run: withPgx(func(t *testing.T, ctx context.Context, c *pgx.Conn) {
				for range 2 {
					_, err := c.Exec(ctx, "select i, repeat('x', 100) from generate_series(1, $1::int) i", pgx.QueryExecModeExec, 150)
					require.NoError(t, err)
				}
				_, err := c.Exec(ctx, "select /* "+strings.Repeat("long ", 400)+" */ 'secret', $1::int", pgx.QueryExecModeExec, 1)
				require.NoError(t, err)
				_, err = c.Exec(ctx, "select 1")
				require.NoError(t, err)
				_, err = c.Exec(ctx, "select 1/(600-i), repeat('x', 10) from generate_series(1, 601) i")
				require.Error(t, err)
				_, err = c.Exec(ctx, "select length($1)", pgx.QueryExecModeExec, strings.Repeat("y", 3000))
				require.NoError(t, err)
				_, err = c.PgConn().CopyFrom(ctx, bytes.NewReader(bytes.Repeat([]byte("1\n"), 3000)), "copy pg_temp.nosuch from stdin")
				require.Error(t, err)
				_, err = c.Exec(ctx, "create temp table t (a int)")
				require.NoError(t, err)
				_, err = c.PgConn().CopyFrom(ctx, bytes.NewReader(bytes.Repeat([]byte("1\n"), 3000)), "copy t from stdin")
				require.NoError(t, err)
				_, err = c.Exec(ctx, "select 1")
				require.NoError(t, err)
			}),
			Want:     []string{"SELECT", "SELECT", "SELECT", "SELECT", "SELECT !22012", "SELECT", "COPY !3F000", "CREATE", "COPY", "SELECT"},
			WantHead: []string{"SELECT", "SELECT", "SELECT", "SELECT", "SELECT !", "SELECT", "COPY !3F000", "CREATE", "COPY", "SELECT"},
		},
	}
}

func TestRecord(t *testing.T)     { protocoltest.Record(t, scenarios(), protocoltest.StartPostgres) }
func TestRecordings(t *testing.T) { protocoltest.Check(t, scenarios(), parser) }

func FuzzParser(f *testing.F) {
	protocoltest.Seed(f)
	f.Fuzz(func(t *testing.T, b []byte) { protocoltest.Hostile(t, New(), b) })
}

// A connection is picked up wherever it is when the probe starts.
func TestJoinInTheMiddle(t *testing.T) {
	for _, s := range scenarios()[:2] {
		r := protocoltest.Load(t, "testdata/"+s.Name+".txt")
		for skip := range len(r) - 2 {
			for _, server := range []bool{false, true} {
				found := protocoltest.Brief(protocoltest.Play(New(), r, protocoltest.View{Server: server, Skip: skip, Head: 512, Tail: 32}))
				require.LessOrEqual(t, len(found), len(s.Want))
				if skip < len(r)-6 {
					require.NotEmpty(t, found, "from chunk %d", skip)
					require.Equal(t, s.Want[len(s.Want)-1], found[len(found)-1], "from chunk %d", skip)
				}
			}
		}
	}
}

// A piece that was not copied costs the requests in it, not those after it.
func TestLostPiece(t *testing.T) {
	s := scenarios()[0]
	r := protocoltest.Load(t, "testdata/psql.txt")
	for lose := 4; lose < len(r)-6; lose++ {
		found := protocoltest.Brief(protocoltest.Play(New(), r, protocoltest.View{Server: true, Lose: lose}))
		require.GreaterOrEqual(t, len(found), len(s.Want)-3, fmt.Sprint(lose, found))
		// Of a query that was not copied each statement counts.
		require.LessOrEqual(t, len(found), len(s.Want)+2, fmt.Sprint(lose, found))
		require.Equal(t, s.Want[len(s.Want)-1], found[len(found)-1], "without chunk %d", lose)
	}
}

func TestWhatIsTold(t *testing.T) {
	r := protocoltest.Load(t, "testdata/psql.txt")
	found := protocoltest.Play(New(), r, protocoltest.View{Server: true})
	q := found[2]
	require.Equal(t, "select * from t where b = ?", q.Summary)
	require.Equal(t, "postgres", q.Target)
	require.Equal(t, protocol.PostgreSQL, q.Kind)
	require.Equal(t, int64(len("select * from t where b = 'one';")+6), q.RequestBytes)
	require.Equal(t, q.EndNanos-q.StartNanos, int64(1e6+1e5), "from arrival to answer")
	for _, q := range found {
		require.NotContains(t, q.Summary, "one")
	}
}

func TestTLSIsGivenUp(t *testing.T) {
	r := protocoltest.Recording{
		{FromClient: true, Data: []byte("\x00\x00\x00\x08\x04\xd2\x16/")},
		{Data: []byte("S")},
		{FromClient: true, Data: []byte("\x16\x03\x01\x02\x00\x01")},
	}
	p := New()
	require.Empty(t, protocoltest.Play(p, r, protocoltest.View{}))
	require.Equal(t, 1, p.Lost())
}

func TestNoAllocations(t *testing.T) {
	for _, name := range []string{"psql", "pipeline"} {
		r := protocoltest.Load(t, "testdata/"+name+".txt")
		require.Zero(t, protocoltest.Allocs(New(), r, 4), name)
	}
}

func BenchmarkParser(b *testing.B) {
	protocoltest.Bench(b, New(), protocoltest.Load(b, "testdata/psql.txt"), 4)
}

// message is one of the client or the server.
func message(kind byte, body string) string {
	return string(binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(body)))) + body
}

// Rows that a client copies in, each a message, in writes of which only head and
// tail are copied, are part of the one request.
func TestCopyOfManyMessages(t *testing.T) {
	ready := message('Z', "I")
	rows := strings.Repeat(message('d', "some row\n"), 500)
	var r protocoltest.Recording
	say := func(fromClient bool, s string) {
		r = append(r, protocoltest.Chunk{FromClient: fromClient, Data: []byte(s)})
	}
	for range 2 {
		say(true, message('Q', "copy t from stdin\x00"))
		say(false, message('G', "\x00\x00\x01\x00\x00"))
		for len(rows) > 4096 {
			say(true, rows[:4096])
			rows = rows[4096:]
		}
		say(true, rows+message('c', ""))
		say(false, message('C', "COPY 500\x00")+ready)
		say(true, message('Q', "select 1\x00"))
		say(false, message('C', "SELECT 1\x00")+ready)
		rows = strings.Repeat(message('d', "some row\n"), 500)
	}
	for _, server := range []bool{false, true} {
		found := protocoltest.Brief(protocoltest.Play(New(), r, protocoltest.View{Server: server, Head: 512, Tail: 32}))
		require.Equal(t, []string{"COPY", "SELECT", "COPY", "SELECT"}, found)
	}
}

// Of a COPY by the extended protocol the server passes over the first Sync.
func TestCopyByExtendedProtocol(t *testing.T) {
	ready, sync := message('Z', "I"), message('S', "")
	ask := message('P', "\x00copy t from stdin\x00\x00\x00") + message('B', "\x00\x00\x00\x00\x00\x00\x00\x00") + message('E', "\x00\x00\x00\x00\x00") + sync
	rows := strings.Repeat(message('d', "some row\n"), 100)
	r := protocoltest.Recording{
		{FromClient: true, Data: []byte(ask)}, {Data: []byte(message('1', "") + message('2', "") + message('G', "\x00\x00\x01\x00\x00"))},
		{FromClient: true, Data: []byte(rows + message('c', "") + sync)}, {Data: []byte(message('C', "COPY 100\x00") + ready)},
	}
	for range 3 {
		r = append(r,
			protocoltest.Chunk{FromClient: true, Data: []byte(message('Q', "select 1\x00"))}, protocoltest.Chunk{Data: []byte(message('C', "SELECT 1\x00") + ready)},
			protocoltest.Chunk{FromClient: true, Data: []byte(message('Q', "delete x\x00"))}, protocoltest.Chunk{Data: []byte(message('E', "SERROR\x00C42P01\x00\x00") + ready)})
	}
	want := []string{"COPY", "SELECT", "DELETE !42P01", "SELECT", "DELETE !42P01", "SELECT", "DELETE !42P01"}
	for _, v := range []protocoltest.View{{}, {Server: true}, {Head: 512, Tail: 32}, {Server: true, Head: 512, Tail: 32}} {
		require.Equal(t, want, protocoltest.Brief(protocoltest.Play(New(), r, v)), "%+v", v)
	}
}

// More requests may wait than places are kept for: in one cycle, in one each, or in
// simple queries. What the answers say tells them apart then.
func TestMoreThanWait(t *testing.T) {
	const n = 5 * maxWaiting
	bind := message('B', "\x00s\x00\x00\x00\x00\x00\x00\x00") + message('E', "\x00\x00\x00\x00\x00")
	sync, ready := message('S', ""), message('Z', "I")
	parse := func(name, text string) string { return message('P', name+"\x00"+text+"\x00\x00\x00") }
	insert, failed := message('2', "")+message('C', "INSERT 0 1\x00"), message('E', "SERROR\x00C23505\x00\x00")
	one := message('Q', "select 1\x00")
	after := []string{"SELECT", "SELECT"}
	for _, tc := range []struct {
		name         string
		ask, answers string
		want         []string
	}{
		{"one cycle", strings.Repeat(bind, n) + sync, strings.Repeat(insert, n) + ready, repeat(n, "INSERT")},
		{"a cycle each", strings.Repeat(bind+sync, n), strings.Repeat(insert+ready, n), repeat(n, "INSERT")},
		{"a cycle of three", strings.Repeat(bind+bind+bind+sync, n), strings.Repeat(insert+insert+insert+ready, n), repeat(3*n, "INSERT")},
		{"an error each", strings.Repeat(bind+bind+sync, n), strings.Repeat(failed+ready, n), repeat(n, "INSERT !23505")},
		{"an error late", strings.Repeat(bind, n) + sync, strings.Repeat(insert, n-1) + failed + ready, append(repeat(n-1, "INSERT"), "OTHER !23505")},
		{"simple queries", strings.Repeat(message('Q', "insert\x00"), n), strings.Repeat(message('C', "INSERT 0 1\x00")+ready, n), repeat(n, "INSERT")},
	} {
		for _, cut := range []int{100, 4096, 1 << 20} {
			for _, server := range []bool{false, true} {
				var r protocoltest.Recording
				say := func(fromClient bool, s string) {
					for ; len(s) > 0; s = s[min(len(s), cut):] {
						r = append(r, protocoltest.Chunk{FromClient: fromClient, Data: []byte(s[:min(len(s), cut)])})
					}
				}
				say(true, parse("s", "insert into t values (1)")+sync)
				say(false, message('1', "")+ready)
				for range 2 {
					say(true, tc.ask)
					say(false, tc.answers)
					say(true, one)
					say(false, message('C', "SELECT 1\x00")+ready)
				}
				found := protocoltest.Brief(protocoltest.Play(New(), r, protocoltest.View{Server: server}))
				counted := make(map[string]int)
				for _, f := range found[1:] { // but PREPARE
					counted[strings.Replace(f, "INSERT !", "OTHER !", 1)]++
				}
				want := make(map[string]int)
				for _, f := range append(append(tc.want, tc.want...), after...) {
					want[strings.Replace(f, "INSERT !", "OTHER !", 1)]++
				}
				require.Equal(t, want, counted, "%s, cut at %d, server %v", tc.name, cut, server)
			}
		}
	}
}

// Of what answers a long pipeline only the beginning and the end may have been copied:
// the requests count that were seen.
func TestMoreThanWaitUnanswered(t *testing.T) {
	const n = 4 * maxWaiting
	bind := message('B', "\x00s\x00\x00\x00\x00\x00\x00\x00") + message('E', "\x00\x00\x00\x00\x00")
	sync, ready := message('S', ""), message('Z', "I")
	answers := strings.Repeat(message('2', "")+message('C', "INSERT 0 1\x00"), n) + ready
	for _, asks := range []protocol.Direction{protocol.Received, protocol.Sent} {
		p := New()
		var seq [2]uint32
		found := make(map[string]int)
		take := func(d protocol.Direction, s string, head int) {
			piece := protocol.Piece{Direction: d, Data: []byte(s), Seq: seq[d], AtNanos: 1}
			if len(s) > head+32 {
				piece.Data, piece.Missed, piece.Tail = []byte(s[:head]), len(s)-head-32, []byte(s[len(s)-32:])
			}
			seq[d] += uint32(len(s))
			p.Take(&piece, func(r *protocol.Request) { found[strings.Clone(r.Operation)]++ })
		}
		take(asks, message('P', "s\x00insert into t values (1)\x00\x00\x00")+sync, 1<<20)
		take(1-asks, message('1', "")+ready, 1<<20)
		for range 3 {
			for s := strings.Repeat(bind, n) + sync; len(s) > 0; s = s[min(len(s), 8192):] {
				take(asks, s[:min(len(s), 8192)], 1<<20)
			}
			take(1-asks, answers, 512)
		}
		require.Equal(t, map[string]int{"PREPARE": 1, "INSERT": 3 * n}, found, "asks %d", asks)
	}
}
