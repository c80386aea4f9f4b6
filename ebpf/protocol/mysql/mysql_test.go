package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/protocol"
	"github.com/vedette-io/vedette/ebpf/protocol/protocoltest"
)

func parser() protocol.Parser { return New() }

func client(script string, options ...string) func(*testing.T, string) {
	return func(t *testing.T, addr string) {
		_, port, err := net.SplitHostPort(addr)
		require.NoError(t, err)
		dir := t.TempDir()
		file := filepath.Join(dir, "file")
		require.NoError(t, os.WriteFile(file, []byte("7\n8\n"), 0o644))
		args := append([]string{"--no-defaults", "-h", "127.0.0.1", "-P", port, "-u", "root", "--force", "--skip-ssl", "--local-infile=1", "test"}, options...)
		cmd := protocoltest.Command(t, protocoltest.Program(t, "mariadb"), args...)
		cmd.Stdin = strings.NewReader(strings.ReplaceAll(script, "FILE", file))
		var exit *exec.ExitError
		if out, err := cmd.CombinedOutput(); err != nil {
			require.ErrorAs(t, err, &exit, "%s", out)
		}
	}
}

func withDriver(parameters string, f func(t *testing.T, ctx context.Context, c *sql.Conn)) func(*testing.T, string) {
	return func(t *testing.T, addr string) {
		_ = mysql.SetLogger(&mysql.NopLogger{})
		db, err := sql.Open("mysql", "root@tcp("+addr+")/test"+parameters)
		require.NoError(t, err)
		defer db.Close()
		c, err := db.Conn(t.Context())
		require.NoError(t, err)
		f(t, t.Context(), c)
		require.NoError(t, c.Close())
	}
}

// drain reads all results of a query.
func drain(t *testing.T, rows *sql.Rows, err error) {
	t.Helper()
	require.NoError(t, err)
	for {
		for rows.Next() {
		}
		if !rows.NextResultSet() {
			break
		}
	}
	require.NoError(t, rows.Err())
	require.NoError(t, rows.Close())
}

func scenarios() []protocoltest.Scenario {
	return []protocoltest.Scenario{
		{
			Name: "mariadb", Note: "mariadb 10.11: queries, errors, a transaction, LOAD DATA LOCAL, a statement prepared in SQL",
			Run: client(`create table t (a int primary key, b text);
insert into t values (1, 'one'), (2, "secret");
select * from t where b = 'one';
select * from t where a = 99;
select * from nosuch;
begin;
insert into t values (1, 'again');
rollback;
load data local infile 'FILE' into table t (a);
prepare s from 'select ?';
set @x = 1;
execute s using @x;
use test;
drop table t;
`),
			Want: []string{
				"CREATE", "INSERT", "SELECT", "SELECT", "SELECT !1146", "BEGIN", "INSERT !1062", "ROLLBACK", "LOAD", "PREPARE", "SET", "EXECUTE",
				"SELECT", "USE", "DROP",
			},
		},
		{
			Name: "driver", Note: "go-sql-driver 1.10: statements prepared by the protocol, errors, a transaction, several results, long ones",
			Run: withDriver("?multiStatements=true", func(t *testing.T, ctx context.Context, c *sql.Conn) {
				exec := func(q string, args ...any) error {
					_, err := c.ExecContext(ctx, q, args...)
					return err
				}
				require.NoError(t, c.PingContext(ctx))
				require.NoError(t, exec("create temporary table t (a int primary key, b text)"))
				s, err := c.PrepareContext(ctx, "insert into t values (?, ?)")
				require.NoError(t, err)
				for i := range 3 {
					_, err = s.ExecContext(ctx, i, "secret")
					require.NoError(t, err)
				}
				_, err = s.ExecContext(ctx, 1, "again")
				require.Error(t, err)
				require.NoError(t, s.Close())
				_, err = c.PrepareContext(ctx, "select ? from nosuch")
				require.Error(t, err)
				tx, err := c.BeginTx(ctx, nil)
				require.NoError(t, err)
				_, err = tx.ExecContext(ctx, "update t set b = 'x'")
				require.NoError(t, err)
				require.NoError(t, tx.Commit())
				rows, err := c.QueryContext(ctx, "select 1; select a, b from t; select 3")
				drain(t, rows, err)
				rows, err = c.QueryContext(ctx, "select b from t where a = ?", 2)
				drain(t, rows, err)
				rows, err = c.QueryContext(ctx, "select seq, repeat('x', 100) from seq_1_to_300")
				drain(t, rows, err)
				rows, err = c.QueryContext(ctx, "select seq, repeat('x', 100) from seq_1_to_300 where seq > ?", 0)
				drain(t, rows, err)
				require.NoError(t, exec("insert into t values (100, '"+strings.Repeat("y", 3000)+"')"))
				require.NoError(t, c.PingContext(ctx))
			}),
			Want: []string{
				"PING", "CREATE", "PREPARE", "INSERT", "INSERT", "INSERT", "INSERT !1062", "PREPARE !1146", "BEGIN", "UPDATE", "COMMIT", "SELECT",
				"PREPARE", "SELECT", "SELECT", "PREPARE", "SELECT", "INSERT", "PING",
			},
		},
	}
}

func TestRecord(t *testing.T)     { protocoltest.Record(t, scenarios(), protocoltest.StartMariaDB) }
func TestRecordings(t *testing.T) { protocoltest.Check(t, scenarios(), parser) }

func FuzzParser(f *testing.F) {
	protocoltest.Seed(f)
	f.Fuzz(func(t *testing.T, b []byte) { protocoltest.Hostile(t, New(), b) })
}

// A connection is picked up wherever it is when the probe starts.
func TestJoinInTheMiddle(t *testing.T) {
	for _, s := range scenarios() {
		r := protocoltest.Load(t, "testdata/"+s.Name+".txt")
		for skip := range len(r) - 6 {
			for _, server := range []bool{false, true} {
				found := protocoltest.Brief(protocoltest.Play(New(), r, protocoltest.View{Server: server, Skip: skip, Head: 512, Tail: 32}))
				require.NotEmpty(t, found, "from chunk %d", skip)
				require.LessOrEqual(t, len(found), len(s.Want))
				require.Equal(t, s.Want[len(s.Want)-1], found[len(found)-1], "from chunk %d", skip)
			}
		}
	}
}

// A piece that was not copied costs the command in it, not those after it.
func TestLostPiece(t *testing.T) {
	s := scenarios()[0]
	r := protocoltest.Load(t, "testdata/mariadb.txt")
	for lose := 5; lose < len(r)-4; lose++ {
		found := protocoltest.Brief(protocoltest.Play(New(), r, protocoltest.View{Server: true, Lose: lose}))
		require.GreaterOrEqual(t, len(found), len(s.Want)-2, fmt.Sprint(lose, found))
		require.LessOrEqual(t, len(found), len(s.Want), fmt.Sprint(lose, found))
		require.Equal(t, s.Want[len(s.Want)-1], found[len(found)-1], "without chunk %d", lose)
	}
}

func TestWhatIsTold(t *testing.T) {
	r := protocoltest.Load(t, "testdata/mariadb.txt")
	found := protocoltest.Play(New(), r, protocoltest.View{Server: true})
	q := found[2]
	require.Equal(t, "select * from t where b = ?", q.Summary)
	require.Equal(t, "test", q.Target)
	require.Equal(t, protocol.MySQL, q.Kind)
	require.Equal(t, int64(len("select * from t where b = 'one'")+5), q.RequestBytes)
	for _, q := range found {
		require.NotContains(t, q.Summary, "one")
		require.NotContains(t, q.Summary, "secret")
	}
}

func TestCompressionAndTLSAreGivenUp(t *testing.T) {
	greeting := protocoltest.Load(t, "testdata/mariadb.txt")[0]
	for name, capabilities := range map[string][]byte{
		"compression": append([]byte{0x20, 0x02, 0, 0}, make([]byte, 40)...),
		"TLS":         append([]byte{0x00, 0x0a, 0, 0}, make([]byte, 28)...),
	} {
		answer := append([]byte{byte(len(capabilities)), 0, 0, 1}, capabilities...)
		r := protocoltest.Recording{greeting, {FromClient: true, Data: answer}, {FromClient: true, Data: []byte{5, 0, 0, 0, 3, 'd', 'o', ' ', '1'}}}
		p := New()
		require.Empty(t, protocoltest.Play(p, r, protocoltest.View{}), name)
		require.Equal(t, 1, p.Lost(), name)
	}
}

func TestNoAllocations(t *testing.T) {
	r := protocoltest.Load(t, "testdata/mariadb.txt")
	require.Zero(t, protocoltest.Allocs(New(), r, 6))
}

func BenchmarkParser(b *testing.B) {
	protocoltest.Bench(b, New(), protocoltest.Load(b, "testdata/mariadb.txt"), 6)
}
