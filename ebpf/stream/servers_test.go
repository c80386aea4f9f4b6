package stream

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
	"github.com/vedette-io/vedette/ebpf/protocol/protocoltest"
	"github.com/vedette-io/vedette/ingest/buffer/kafkatest"
)

// connections is how many clients there are of a server at a time.
const connections = 4

// batches are how many statements or commands go in one write.
var batches = []int{4, 20, 100}

// batched is how many those are.
const batched = 124

// workloads are what a client does on one connection, by the server's name.
var workloads = map[string]func(ctx context.Context, addr string, n int) error{
	"postgresql": askPostgres, "mysql": askMySQL, "redis": askRedis, "kafka": askKafka,
}

// askDatabase is the role database: several connections to a server, that all do
// its workload.
func askDatabase() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	failures := make([]error, connections)
	for i := range connections {
		wg.Go(func() { failures[i] = workloads[os.Args[1]](ctx, os.Args[2], i) })
	}
	wg.Wait()
	said := "done"
	if err := errors.Join(failures...); err != nil {
		said = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	fmt.Println(said)
	io.Copy(io.Discard, os.Stdin)
}

// steps does one after the other, until one fails.
func steps(all ...func() error) error {
	for i, f := range all {
		if err := f(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

// times does f again and again.
func times(n int, f func(i int) error) func() error {
	return func() error {
		for i := range n {
			if err := f(i); err != nil {
				return err
			}
		}
		return nil
	}
}

// fails wants an error.
func fails(f func() error) func() error {
	return func() error {
		if f() == nil {
			return errors.New("did not fail")
		}
		return nil
	}
}

func askPostgres(ctx context.Context, addr string, _ int) error {
	c, err := pgx.Connect(ctx, "postgres://postgres@"+addr+"/postgres")
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	exec := func(sql string, args ...any) func() error {
		return func() error {
			_, err := c.Exec(ctx, sql, args...)
			return err
		}
	}
	insert := func(i int) error { return exec("insert into t values ($1, $2)", i, "b")() }
	return steps(
		exec("create temp table t (a int primary key, b text)"),
		times(20, insert),
		times(5, func(i int) error { return fails(func() error { return insert(i) })() }),
		fails(exec("select $1::int from nosuch", 1)),
		times(10, func(i int) error { return exec("select $1::int", pgx.QueryExecModeExec, i)() }),
		times(3, func(i int) error {
			return exec("select repeat('x', $1) from generate_series(1, 1000)", pgx.QueryExecModeExec, i*50)()
		}),
		exec("select length($1)", pgx.QueryExecModeExec, strings.Repeat("long", 20_000)),
		exec("begin"), exec("update t set b = 'c'"), exec("rollback"),
		times(len(batches), func(n int) error {
			b := new(pgx.Batch)
			for i := range batches[n] {
				b.Queue("select b from t where a = $1", i)
			}
			return c.SendBatch(ctx, b).Close()
		}),
		func() error {
			_, err := c.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"a"}, pgx.CopyFromSlice(5000, func(i int) ([]any, error) { return []any{1000 + i}, nil }))
			return err
		},
		exec("delete from t"),
	)
}

// postgresCounts is what askPostgres does.
func postgresCounts() counts {
	return counts{
		"CREATE ": 1, "INSERT ": 20, "INSERT 23505": 5, "SELECT ": 10 + 3 + 1 + batched, "PREPARE 42P01": 1,
		"BEGIN ": 1, "UPDATE ": 1, "ROLLBACK ": 1, "COPY ": 1, "DELETE ": 1,
		// The insert, again after each error but the last, the batches' select, and
		// what COPY asks for.
		"PREPARE ": 1 + 4 + 1 + 1,
	}
}

func askMySQL(ctx context.Context, addr string, _ int) error {
	_ = mysql.SetLogger(&mysql.NopLogger{})
	db, err := sql.Open("mysql", "root@tcp("+addr+")/test?multiStatements=true")
	if err != nil {
		return err
	}
	defer db.Close()
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	exec := func(q string, args ...any) func() error {
		return func() error {
			_, err := c.ExecContext(ctx, q, args...)
			return err
		}
	}
	query := func(q string, args ...any) func() error {
		return func() error {
			rows, err := c.QueryContext(ctx, q, args...)
			if err != nil {
				return err
			}
			for more := true; more; more = rows.NextResultSet() {
				for rows.Next() {
				}
			}
			return errors.Join(rows.Err(), rows.Close())
		}
	}
	return steps(
		func() error { return c.PingContext(ctx) },
		exec("create temporary table t (a int primary key, b longtext)"),
		func() error {
			s, err := c.PrepareContext(ctx, "insert into t values (?, 'b')")
			if err != nil {
				return err
			}
			insert := func(i int) error {
				_, err := s.ExecContext(ctx, i)
				return err
			}
			return errors.Join(times(20, insert)(),
				times(5, func(i int) error { return fails(func() error { return insert(i) })() })(), s.Close())
		},
		fails(query("select a from nosuch")),
		times(10, func(i int) error { return query("select ? + 1", i)() }),
		times(3, func(i int) error { return query(fmt.Sprintf("select seq, repeat('x', %d) from seq_1_to_1000", i*50))() }),
		query("select 1; select a from t; select 3"),
		exec("insert into t values (1000, '"+strings.Repeat("long", 20_000)+"')"),
		exec("begin"), exec("update t set b = 'c'"), exec("rollback"),
		exec("delete from t"),
	)
}

func mysqlCounts() counts {
	return counts{
		"PING ": 1, "CREATE ": 1, "PREPARE ": 1 + 10, "INSERT ": 20 + 1, "INSERT 1062": 5, "SELECT 1146": 1, "SELECT ": 10 + 3 + 1,
		"BEGIN ": 1, "UPDATE ": 1, "ROLLBACK ": 1, "DELETE ": 1,
	}
}

func askRedis(ctx context.Context, addr string, n int) error {
	c := redis.NewClient(&redis.Options{Addr: addr, Protocol: 2 + n%2, DisableIdentity: true, PoolSize: 1})
	defer c.Close()
	conn := c.Conn()
	defer conn.Close()
	key := fmt.Sprintf("k%d", n)
	return steps(
		times(20, func(i int) error { return conn.Set(ctx, key, strings.Repeat("v", i*1000), 0).Err() }),
		times(20, func(int) error { return conn.Get(ctx, key).Err() }),
		times(5, func(int) error { return fails(conn.LPush(ctx, key, 1).Err)() }),
		fails(conn.Do(ctx, "nosuchcommand").Err),
		times(len(batches), func(n int) error {
			_, err := conn.Pipelined(ctx, func(p redis.Pipeliner) error {
				for range batches[n] {
					p.Incr(ctx, "counter")
				}
				return nil
			})
			return err
		}),
		func() error {
			_, err := conn.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Del(ctx, key).Err() })
			return err
		},
		func() error {
			var all []any
			for i := range 1000 {
				all = append(all, i)
			}
			return conn.RPush(ctx, key, all...).Err()
		},
		times(3, func(int) error { return conn.LRange(ctx, key, 0, -1).Err() }),
		func() error { return conn.Ping(ctx).Err() },
	)
}

func redisCounts() counts {
	return counts{
		"SET ": 20, "GET ": 20, "LPUSH WRONGTYPE": 5, "OTHER ERR": 1, "INCR ": batched, "MULTI ": 1, "DEL ": 1, "EXEC ": 1,
		"RPUSH ": 1, "LRANGE ": 3, "PING ": 1, "HELLO ": 1,
	}
}

func askKafka(ctx context.Context, addr string, n int) error {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	topic := fmt.Sprintf("topic%d", n)
	c := kafka.NewConnWith(raw, kafka.ConnConfig{ClientID: "client", Topic: topic})
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return steps(
		func() error { // there is one; the client does not take that for an error
			return c.CreateTopics(kafka.TopicConfig{Topic: topic, NumPartitions: 1, ReplicationFactor: 1})
		},
		func() error {
			_, err := c.ReadPartitions(topic)
			return err
		},
		times(20, func(i int) error {
			_, err := c.WriteMessages(kafka.Message{Value: make([]byte, i*1000)})
			return err
		}),
		times(5, func(i int) error {
			if _, err := c.Seek(0, kafka.SeekAbsolute|kafka.SeekDontCheck); err != nil {
				return err
			}
			b := c.ReadBatchWith(kafka.ReadBatchConfig{MinBytes: 1, MaxBytes: 1 << 20})
			if _, err := b.ReadMessage(); err != nil {
				return err
			}
			return b.Close()
		}),
	)
}

// makeTopics makes the topics of all clients, and waits until there are.
func makeTopics(t *testing.T, addr string) {
	t.Helper()
	c, err := kafka.Dial("tcp", addr)
	require.NoError(t, err)
	defer c.Close()
	for n := range connections {
		topic := fmt.Sprintf("topic%d", n)
		require.NoError(t, c.CreateTopics(kafka.TopicConfig{Topic: topic, NumPartitions: 1, ReplicationFactor: 1}))
		require.Eventually(t, func() bool {
			p, err := c.ReadPartitions(topic)
			return err == nil && len(p) == 1 && p[0].Leader.Port != 0
		}, time.Minute, 50*time.Millisecond)
	}
}

func kafkaCounts() counts {
	return counts{
		"CreateTopics TOPIC_ALREADY_EXISTS": 1, "Metadata ": 1, "Produce ": 20, "Fetch ": 5, "ApiVersions ": 1,
	}
}

// each multiplies the counts of one connection.
func (c counts) each(n uint64) counts {
	all := make(counts)
	for k, v := range c {
		all[k] = v * n
	}
	return all
}

// with adds counts.
func (c counts) with(more counts) counts {
	for k, v := range more {
		c[k] += v
	}
	return c
}

func dbCounts(t testing.TB, reg *prometheus.Registry, want counts, port string) {
	t.Helper()
	for _, side := range []string{"client", "server"} {
		requireCounts(t, reg, want, "db_"+side+"_operation_duration_seconds", port, "db_operation_name", "db_response_status_code")
	}
}

// runTool runs a client program of the server's.
func runTool(t *testing.T, script, program string, args ...string) {
	t.Helper()
	cmd := protocoltest.Command(t, protocoltest.Program(t, program), args...)
	cmd.Stdin = strings.NewReader(script)
	var exit *exec.ExitError
	if out, err := cmd.CombinedOutput(); err != nil {
		require.ErrorAs(t, err, &exit, "%s", out)
	}
}

func ask(t *testing.T, which, addr string) {
	t.Helper()
	said, _ := featuretest.StartRole(t, "database", which, addr)
	require.Equal(t, "done", said)
}

// Queries sent equal queries counted, by operation and status, on both sides.
func TestPostgreSQLIsCounted(t *testing.T) {
	addr := protocoltest.StartPostgres(t)
	reg := start(t, nil)
	ask(t, "postgresql", addr)
	runTool(t, "select 1;\nselect * from nosuch;\nbegin;\ncommit;\n", "psql", "-X", "-q", "postgresql://postgres@"+addr+"/postgres?gssencmode=disable")
	want := postgresCounts().each(connections).with(counts{"SELECT ": 1, "SELECT 42P01": 1, "BEGIN ": 1, "COMMIT ": 1})
	dbCounts(t, reg, want, featuretest.PortOf(t, addr))
}

func TestMySQLIsCounted(t *testing.T) {
	addr := protocoltest.StartMariaDB(t)
	reg := start(t, nil)
	ask(t, "mysql", addr)
	port := featuretest.PortOf(t, addr)
	runTool(t, "select 1;\nselect * from nosuch;\nbegin;\ncommit;\n", "mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", port, "-u", "root", "--force", "--skip-ssl", "test")
	want := mysqlCounts().each(connections).with(counts{"SELECT ": 1, "SELECT 1146": 1, "BEGIN ": 1, "COMMIT ": 1})
	dbCounts(t, reg, want, port)
}

func TestRedisIsCounted(t *testing.T) {
	addr := protocoltest.StartRedis(t)
	reg := start(t, nil)
	ask(t, "redis", addr)
	port := featuretest.PortOf(t, addr)
	runTool(t, "", "redis-cli", "-h", "127.0.0.1", "-p", port, "INCR", "counter")
	runTool(t, "", "redis-cli", "-h", "127.0.0.1", "-p", port, "LPUSH", "counter", "1")
	// Clients of RESP3 ask to be told of maintenance, which this server does not know.
	want := redisCounts().each(connections).with(counts{"CLIENT ERR": connections / 2, "INCR ": 1, "LPUSH WRONGTYPE": 1})
	dbCounts(t, reg, want, port)
}

func TestKafkaIsCounted(t *testing.T) {
	addr := kafkatest.Start(t, kafkatest.Options{}).Addr()
	makeTopics(t, addr)
	reg := start(t, nil)
	ask(t, "kafka", addr)
	for _, side := range []string{"client", "server"} {
		requireCounts(t, reg, kafkaCounts().each(connections), "messaging_"+side+"_operation_duration_seconds", featuretest.PortOf(t, addr),
			"messaging_operation_name", "error_type")
	}
}
